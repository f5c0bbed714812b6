"""A folder for what the tests of one run share: the suites, and the workers of each."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

_NAME = "TESTS_RUN_FOLDER"


@functools.cache
def run_folder() -> Path:
    """The folder that `tools/suites` or the first process of this run has made, and removes at its end."""
    if folder := os.environ.get(_NAME):
        return Path(folder)
    made = Path(tempfile.mkdtemp(prefix="millrace-tests-"))
    made.chmod(0o755)  # clients that run as another user read films too
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    os.environ[_NAME] = str(made)  # for the workers, which begin later
    return made
