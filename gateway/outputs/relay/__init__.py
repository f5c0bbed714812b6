"""Relays: push streams to other servers of RTMP(S), SRT and Media over QUIC, and to Amazon IVS.

Each target has its own connection and state.
"""

from gateway.outputs.descriptor import OutputDescriptor

OUTPUT: OutputDescriptor = OutputDescriptor(
    name="relay", flag="isRelay", make=lambda services: OUTPUT.spec(services.relays.make), order=30
)
