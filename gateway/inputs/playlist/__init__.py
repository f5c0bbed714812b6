"""Films and recordings of the object store, played in order by the clock."""

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.descriptor import InputDescriptor, InputServices, InputSource


def _make(services: InputServices, spec: InputSpec) -> InputSource:
    from gateway.inputs.playlist.playlist_source import PlaylistSource

    return PlaylistSource(services.workers, services.objects, spec)


INPUT = InputDescriptor(kind=InputKind.PLAYLIST, make=_make, on_demand=True)
