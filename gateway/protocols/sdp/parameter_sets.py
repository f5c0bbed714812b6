"""The parameter sets that a session description has: of H.264 (RFC 6184 §8.1) and of H.265 (RFC 7798 §7.1)."""

import base64
import binascii
from collections.abc import Callable, Mapping

from gateway.media import h264, h265, nal
from gateway.media.errors import InvalidData


def described_config(encoding: str, parameters: Mapping[str, str]) -> bytes:
    """Returns the avcC or hvcC record of a format; b"" if the description has no sets, or has another encoding.

    parameters: of the format (fmtp), with lower-case names.
    """
    if encoding == "H264":
        units = _base64_units(parameters.get("sprop-parameter-sets", ""))
        return _record(h264.build_avcc, *([u for u in units if u[0] & 0x1F == kind] for kind in (h264.SPS, h264.PPS)))
    if encoding == "H265":
        names = ("sprop-vps", "sprop-sps", "sprop-pps")
        return _record(h265.build_hvcc, *(_base64_units(parameters.get(name, "")) for name in names))
    return b""


def _record(build: Callable[..., bytes], *sets: list[bytes]) -> bytes:
    """Returns the record of parameter sets; b"" if some are missing or damaged: the pictures bring them too."""
    try:
        return build(*sets) if all(sets) else b""
    except InvalidData:
        return b""


def _base64_units(text: str) -> list[bytes]:
    units: list[bytes] = []
    for part in text.split(",")[:16]:
        try:
            unit = base64.b64decode(part.strip(), validate=False)
        except (binascii.Error, ValueError):
            continue
        units += [u for u in (nal.split_annexb(unit) if unit.startswith(nal.START_CODE) else [unit]) if len(u) > 2]
    return units
