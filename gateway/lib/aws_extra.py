"""The command that adds the AWS libraries to the environment in which this program runs."""

import shlex
import sys
from typing import Final

# The requirement of the extra, because the name `millrace` in a package index may be another project.
_REQUIREMENT: Final = "aioboto3>=15.5"
INSTALL_AWS: Final = f"{shlex.quote(sys.executable)} -m pip install '{_REQUIREMENT}'"
