"""Finds the folder of the configuration files: in a checkout, or in an installed wheel."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from gateway.settings.errors import SettingsError

_PACKAGE = Path(__file__).resolve().parent.parent


def config_folder(package: Path = _PACKAGE) -> Path:
    """Returns the folder with default.toml: `config` of a checkout, else `_config` of an installed wheel.

    Raises SettingsError if there is neither.
    """
    checkout = package.parent / "config"
    # Without pyproject.toml it may be a site-packages folder with a "config" package of another project.
    if (package.parent / "pyproject.toml").is_file() and (checkout / "default.toml").is_file():
        return checkout
    carried = Path(str(files("gateway"))) / "_config" if package == _PACKAGE else package / "_config"
    if (carried / "default.toml").is_file():
        return carried
    raise SettingsError([f"this installation is incomplete: no default.toml in {checkout} or {carried}"])
