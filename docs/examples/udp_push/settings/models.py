"""The class of the section, for `gateway/settings/models.py`. The class `Settings` gets `units: UnitsSettings`."""

from gateway.settings import option_types as option
from gateway.settings.models import UdpListenerSettings


class UnitsSettings(UdpListenerSettings):
    idle_timeout: option.PositiveSeconds
