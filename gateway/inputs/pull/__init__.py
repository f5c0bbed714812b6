"""Addresses that the gateway fetches: RTMP, HTTP-FLV, HLS, RTSP cameras, and MPEG-TS over HTTP, SRT, UDP and RTP."""

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.descriptor import InputDescriptor, InputServices, InputSource


def _make(services: InputServices, spec: InputSpec) -> InputSource:
    from gateway.inputs.pull.pull_source import PullSource

    return PullSource(services, spec)


INPUT = InputDescriptor(kind=InputKind.PULL, make=_make, on_demand=False)
