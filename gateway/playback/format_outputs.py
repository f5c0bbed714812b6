"""The outputs of the playback formats, for the streams of a node."""

from typing import Final

from gateway.live.output import OutputSpec
from gateway.live.stream import Stream, StreamKind
from gateway.packaging.services import PackagingServices
from gateway.playback.formats import CMAF, FORMATS, HLS
from gateway.playback.play_format import PlayFormat

REWIND: Final = "rewind"  # the output with the segments for going back, of channels without `hls`


def output_specs(services: PackagingServices, *, pulled: bool = False) -> list[OutputSpec]:
    """Returns the outputs of all formats. pulled: only those that also exist on nodes that pull the stream."""
    specs = [_spec(format, services) for format in FORMATS if _exists(format, services, pulled)]
    return [*specs, *(_rewind_spec(spec) for spec in specs if spec.name == HLS.output)]


def _exists(format: PlayFormat, services: PackagingServices, pulled: bool) -> bool:
    return (format.pulled or not pulled) and format.is_on(services.settings)


def _spec(format: PlayFormat, services: PackagingServices) -> OutputSpec:
    """Returns the description of a format's output."""

    def wanted(stream: Stream) -> bool:
        channel = stream.channel
        if not format.flag or channel.flag(format.flag):
            return True
        return stream.spec.kind is StreamKind.RENDITION and channel.codec == format.rendition_codec

    on_demand = format.on_demand(services.settings)
    return OutputSpec(format.output, format.load().packager(services), wanted, on_demand, listed=bool(format.flag))


def _rewind_spec(spec: OutputSpec) -> OutputSpec:
    """Returns the output whose segments let viewers go back in a channel without HLS of MPEG-TS.

    spec: of the output `hls`. The new output is not listed, because no field switches it.
    """

    def wanted(stream: Stream) -> bool:
        channel = stream.channel
        if not stream.is_source or channel.flag(HLS.flag) or not channel.rewind_reach:
            return False
        return channel.flag(CMAF.flag) or channel.rewind_seconds > 0

    return OutputSpec(REWIND, spec.make, wanted, spec.on_demand, listed=False)
