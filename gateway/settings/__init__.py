"""Settings: one frozen model per subsystem, filled from TOML files, secret files, environment and command line."""

from gateway.settings.layers import SettingsError, config_folder, load, merge, missing_files, short_secrets
from gateway.settings.models import Settings

__all__ = ["Settings", "SettingsError", "config_folder", "load", "merge", "missing_files", "short_secrets"]
