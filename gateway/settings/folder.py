"""Where the configuration files lie: a checkout's own folder, or the copy that the wheel carries."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from gateway.settings.problems import SettingsError

_PACKAGE = Path(__file__).resolve().parent.parent


def config_folder(package: Path = _PACKAGE) -> Path:
    """The folder with default.toml. An editable install has no `_config`, a wheel no checkout: both are tried."""
    checkout = package.parent / "config"
    # The project file beside it tells a checkout from a site-packages that holds somebody's "config" package.
    if (package.parent / "pyproject.toml").is_file() and (checkout / "default.toml").is_file():
        return checkout
    carried = Path(str(files("gateway"))) / "_config" if package == _PACKAGE else package / "_config"
    if (carried / "default.toml").is_file():
        return carried
    raise SettingsError([f"this installation is incomplete: no default.toml in {checkout} or {carried}"])
