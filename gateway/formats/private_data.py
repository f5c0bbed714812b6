"""Private data of transport streams, such as KLV, as script data that only transport streams write again."""

import base64
from dataclasses import dataclass
from typing import Final

from gateway.formats import amf0
from gateway.formats.script_data import read_values
from gateway.media.track import AmfValue, Timed

PRIVATE_DATA: Final = "onPrivateData"
MAX_BYTES: Final = 1 << 16  # of the payload
_FARTHEST: Final = 60_000  # milliseconds between the time of the data and that of the message


@dataclass(frozen=True, slots=True)
class PrivateData:
    """The payload of a PES packet of private data.

    pid: of its stream in the push. stream_type: ISO/IEC 13818-1 Table 2-34. descriptors: of this stream.
    at: milliseconds on the stream's clock; None: without time.
    """

    pid: int
    stream_type: int
    descriptors: bytes
    at: int | None
    payload: bytes


def private_data(data: PrivateData, dts: int) -> Timed:
    """Returns script data with private data. dts: milliseconds."""
    values: dict[str, AmfValue] = {"pid": float(data.pid), "type": float(data.stream_type)}
    values["descriptors"] = base64.b64encode(data.descriptors).decode()
    values["data"] = base64.b64encode(data.payload).decode()
    if data.at is not None:
        values["at"] = float(data.at - dts)
    return Timed(dts, PRIVATE_DATA, amf0.encode(values))


def read_private_data(timed: Timed) -> PrivateData | None:
    """Returns what `private_data` wrote; None for everything else."""
    values = read_values(timed) if timed.name == PRIVATE_DATA else {}
    pid, kind, at = (values.get(name) for name in ("pid", "type", "at"))
    descriptors, payload = _decoded(values.get("descriptors")), _decoded(values.get("data"))
    if not (isinstance(pid, float) and isinstance(kind, float) and 0 <= pid < 0x2000 and 0 <= kind < 0x100):
        return None
    if descriptors is None or payload is None or len(payload) > MAX_BYTES:
        return None
    time = timed.dts + int(at) if isinstance(at, float) and abs(at) <= _FARTHEST else None
    return PrivateData(int(pid), int(kind), descriptors, time, payload)


def _decoded(value: AmfValue) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        return None
