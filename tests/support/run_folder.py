"""A folder for files that the tests of one run share, over all suites and their processes."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

_NAME = "TESTS_RUN_FOLDER"


@functools.cache
def run_folder() -> Path:
    """The folder that `tools/suites` or the first process of this run created and removes at its end."""
    if folder := os.environ.get(_NAME):
        return Path(folder)
    made = Path(tempfile.mkdtemp(prefix="millrace-tests-"))
    made.chmod(0o755)  # clients that run as another user read films too
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    os.environ[_NAME] = str(made)  # for the workers, which begin later
    return made
