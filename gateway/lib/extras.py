"""The commands that add the libraries of an extra to the environment in which this program runs."""

import shlex
import sys
from typing import Final


def _install(*requirements: str) -> str:
    """Returns the command. It names the libraries, because `millrace` in a package index may be another project."""
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.join(requirements)}"


INSTALL_AWS: Final = _install("aioboto3>=15.5")
INSTALL_MOQ: Final = _install("moq-rs==0.5.1", "moq-ffi==0.4.18")
