"""The worker for sound, which ends at a unit with the payload `crash`."""

import os
import sys

from gateway.workers.programs import program, sound_worker


class CrashingWorker(sound_worker.SoundWorker):
    def take(self, unit):
        if unit.payload == b"crash":
            os._exit(1)
        super().take(unit)


if __name__ == "__main__":
    sound_worker.SoundWorker = CrashingWorker
    sys.exit(program.run_shared(sound_worker.work))
