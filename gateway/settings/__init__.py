"""Settings: one frozen model per subsystem, filled from layers of TOML, secret files, environment and command line."""

from gateway.settings.folder import config_folder
from gateway.settings.layers import Given, Merged, load, merge, missing_files
from gateway.settings.models import Settings
from gateway.settings.problems import SettingsError

__all__ = ["Given", "Merged", "Settings", "SettingsError", "config_folder", "load", "merge", "missing_files"]
