"""Reads and writes the `splice_info_section` of ad cues (ANSI/SCTE 35 2023r1). The section numbers refer to it.

All times are ticks of 90 kHz, from 0 to 2**33 - 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.formats.ts.psi import crc32
from gateway.lib.bit_reader import BitReader
from gateway.media.errors import InvalidData

MAX_SECTION: Final = 4096  # bytes, §9.6: "shall not exceed 4093" after section_length
ALL_TIERS: Final = 0xFFF
_TABLE: Final = 0xFC
_CRC_BYTES: Final = 4
_UNKNOWN_LENGTH: Final = 0xFFF  # §9.6.1: splice_command_length of older writers
_CUEI: Final = b"CUEI"
_SEGMENTATION: Final = 2  # splice_descriptor_tag
_PTS_BITS: Final = 33
# §10.3.3.1: types that may have sub_segment_num and sub_segments_expected.
_WITH_SUB_SEGMENTS: Final = frozenset((0x30, 0x32, 0x34, 0x36, 0x38, 0x3A, 0x44, 0x46))


@dataclass(frozen=True, slots=True)
class BreakDuration:
    """The planned length of a break (§9.8.2). auto_return: it ends by itself."""

    ticks: int
    auto_return: bool = True


@dataclass(frozen=True, slots=True)
class SpliceNull:
    """A heartbeat (§9.7.1)."""


@dataclass(frozen=True, slots=True)
class CancelledInsert:
    """A `splice_insert` that cancels an earlier one."""

    event_id: int


@dataclass(frozen=True, slots=True)
class SpliceInsert:
    """A break begins or ends (§9.7.3).

    out: whether the break begins. pts: of a splice of the whole program; None: without a time.
    is_immediate: at the earliest moment; then there are no times.
    components: None for the whole program; else pairs of component tag and time.
    """

    event_id: int
    out: bool
    pts: int | None = None
    is_immediate: bool = False
    components: tuple[tuple[int, int | None], ...] | None = None
    duration: BreakDuration | None = None
    program_id: int = 0
    avail: int = 0
    avails_expected: int = 0
    compliance: bool = True  # event_id_compliance_flag as it was sent; older writers set this bit


@dataclass(frozen=True, slots=True)
class TimeSignal:
    """The time of the descriptors of its section (§9.7.4). pts: None: without a time."""

    pts: int | None


@dataclass(frozen=True, slots=True)
class OtherCommand:
    """A command whose contents are not read. type: `splice_command_type`."""

    type: int
    data: bytes


Command: TypeAlias = SpliceNull | CancelledInsert | SpliceInsert | TimeSignal | OtherCommand


@dataclass(frozen=True, slots=True)
class DeliveryRestrictions:
    """Where a segment may be shown. devices: `device_restrictions`, 0 to 3."""

    web: bool
    no_blackout: bool
    archive: bool
    devices: int


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The `segmentation_descriptor` (§10.3.3).

    type_id: of Table 23. `upid_type` and upid: names of what is shown. duration: ticks; None: unknown.
    components: None for the whole program; else pairs of component tag and offset.
    sub_segment: its number and how many are expected; None: there are none.
    restrictions: None: it may be delivered without restrictions.
    """

    event_id: int
    type_id: int
    duration: int | None = None
    upid_type: int = 0
    upid: bytes = b""
    segment: int = 0
    segments_expected: int = 0
    sub_segment: tuple[int, int] | None = None
    components: tuple[tuple[int, int], ...] | None = None
    restrictions: DeliveryRestrictions | None = None
    compliance: bool = True  # segmentation_event_id_compliance_indicator as it was sent


@dataclass(frozen=True, slots=True)
class CancelledSegmentation:
    """A `segmentation_descriptor` that cancels an earlier one."""

    event_id: int
    compliance: bool = True


@dataclass(frozen=True, slots=True)
class OtherDescriptor:
    """A descriptor whose contents are not read. data: identifier and private bytes."""

    tag: int
    data: bytes


Descriptor: TypeAlias = Segmentation | CancelledSegmentation | OtherDescriptor


@dataclass(frozen=True, slots=True)
class Encrypted:
    """The part of a section that only owners of its control word can read (§11).

    algorithm: `encryption_algorithm`. command_length: of the command inside.
    data: from `splice_command_type` to the end of `E_CRC_32`.
    """

    algorithm: int
    command_length: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SpliceInfo:
    """One section (§9.6).

    pts_adjustment: to add to all its times. tier: who may use it. cw_index: of the control word. sap_type: 3: not told.
    encrypted: None: it is in the clear. Otherwise the command is None, and there are no descriptors.
    """

    command: Command | None
    descriptors: tuple[Descriptor, ...] = ()
    pts_adjustment: int = 0
    tier: int = ALL_TIERS
    cw_index: int = 0
    sap_type: int = 3
    encrypted: Encrypted | None = None

    @property
    def is_encrypted(self) -> bool:
        return self.encrypted is not None


# ---- reading ----


def read_section(data: bytes) -> SpliceInfo:
    """Returns a whole section of at most MAX_SECTION bytes, whose CRC is checked. Raises InvalidData.

    Bytes after the section, `alignment_stuffing` and reserved bits are ignored.
    """
    if len(data) < 3 or data[0] != _TABLE:
        raise InvalidData("SCTE 35: no splice_info_section")
    length = int.from_bytes(data[1:3], "big")
    if length & 0xC000:
        raise InvalidData("SCTE 35: section_syntax_indicator or private_indicator is set")
    size = 3 + (length & 0xFFF)
    if not _CRC_BYTES < size <= min(len(data), MAX_SECTION):
        raise InvalidData(f"SCTE 35: a section of {size} bytes in {len(data)}")
    if crc32(data[:size]):
        raise InvalidData("SCTE 35: wrong CRC")
    return _read_body(data[3 : size - _CRC_BYTES], length >> 12 & 3)


def _read_body(body: bytes, sap_type: int) -> SpliceInfo:
    bits = _bits(body)
    if version := bits.u(8):
        raise InvalidData(f"SCTE 35: protocol version {version}")
    is_encrypted, algorithm, adjustment = bits.flag(), bits.u(6), bits.u(_PTS_BITS)
    cw_index, tier, length = bits.u(8), bits.u(12), bits.u(12)
    at = bits.position >> 3
    if is_encrypted:
        hidden = Encrypted(algorithm, length, body[at:])
        return SpliceInfo(None, (), adjustment, tier, cw_index, sap_type, hidden)
    kind, at = bits.u(8), at + 1
    if length == _UNKNOWN_LENGTH:
        length = _measured(kind, body[at:])
    if at + length > len(body):
        raise InvalidData(f"SCTE 35: a command of {length} bytes")
    command = _read_command(kind, body[at : at + length])
    descriptors = _read_descriptors(body[at + length :])
    return SpliceInfo(command, descriptors, adjustment, tier, cw_index, sap_type)


def _bits(data: bytes) -> BitReader:
    return BitReader(data, what="SCTE 35", error=InvalidData)


def _measured(kind: int, data: bytes) -> int:
    """Returns the length of a command that does not tell it. Only of known commands."""
    bits = _bits(data)
    if kind == 5:
        _read_insert(bits)
    elif kind == 6:
        _read_time(bits)
    elif kind not in (0, 7):
        raise InvalidData(f"SCTE 35: command {kind} without a length")
    return bits.position + 7 >> 3


def _read_command(kind: int, data: bytes) -> Command:
    if kind == 0:
        return SpliceNull()
    if kind == 5:
        return _read_insert(_bits(data))
    if kind == 6:
        return TimeSignal(_read_time(_bits(data)))
    return OtherCommand(kind, data)


def _read_time(bits: BitReader) -> int | None:
    """Reads `splice_time` (§9.8.1)."""
    if not bits.flag():
        bits.skip(7)
        return None
    bits.skip(6)
    return bits.u(_PTS_BITS)


def _read_insert(bits: BitReader) -> CancelledInsert | SpliceInsert:
    event_id, is_cancelled = bits.u(32), bits.flag()
    bits.skip(7)
    if is_cancelled:
        return CancelledInsert(event_id)
    out, is_program, has_duration, is_immediate, compliance = (bits.flag() for _ in range(5))
    bits.skip(3)
    pts, components, duration = None, None, None
    if is_program:
        pts = None if is_immediate else _read_time(bits)
    else:
        components = tuple((bits.u(8), None if is_immediate else _read_time(bits)) for _ in range(bits.u(8)))
    if has_duration:
        auto_return = bits.flag()
        bits.skip(6)
        duration = BreakDuration(bits.u(_PTS_BITS), auto_return)
    last = bits.u(16), bits.u(8), bits.u(8)
    return SpliceInsert(event_id, out, pts, is_immediate, components, duration, *last, compliance)


def _read_descriptors(data: bytes) -> tuple[Descriptor, ...]:
    end = 2 + int.from_bytes(data[:2], "big")
    if len(data) < end:
        raise InvalidData(f"SCTE 35: descriptors of {end - 2} bytes")
    found: list[Descriptor] = []
    at = 2
    while at < end:
        begin = at + 2
        stop = begin + (data[at + 1] if begin <= end else MAX_SECTION)
        if stop > end:
            raise InvalidData("SCTE 35: a descriptor is cut short")
        found.append(_read_descriptor(data[at], data[begin:stop]))
        at = stop
    return tuple(found)


def _read_descriptor(tag: int, data: bytes) -> Descriptor:
    if tag != _SEGMENTATION or data[:4] != _CUEI:
        return OtherDescriptor(tag, data)
    bits = _bits(data[4:])
    event_id, is_cancelled, compliance = bits.u(32), bits.flag(), bits.flag()
    bits.skip(6)
    if is_cancelled:
        return CancelledSegmentation(event_id, compliance)
    is_program, has_duration, is_free = bits.flag(), bits.flag(), bits.flag()
    restrictions = None
    if is_free:
        bits.skip(5)
    else:
        restrictions = DeliveryRestrictions(bits.flag(), bits.flag(), bits.flag(), bits.u(2))
    components = None if is_program else tuple(_read_offset(bits) for _ in range(bits.u(8)))
    duration = bits.u(40) if has_duration else None
    upid_type = bits.u(8)
    upid = bytes(bits.u(8) for _ in range(bits.u(8)))
    type_id, segment, expected = bits.u(8), bits.u(8), bits.u(8)
    sub_segment = None
    if type_id in _WITH_SUB_SEGMENTS and bits.left >= 16:
        sub_segment = bits.u(8), bits.u(8)
    return Segmentation(
        event_id, type_id, duration, upid_type, upid, segment, expected, sub_segment, components, restrictions,
        compliance,
    )  # fmt: skip


def _read_offset(bits: BitReader) -> tuple[int, int]:
    tag = bits.u(8)
    bits.skip(7)
    return tag, bits.u(_PTS_BITS)


# ---- writing ----


def write_section(info: SpliceInfo) -> bytes:
    """Returns the section with its CRC. Raises ValueError for values that do not fit: an error of the caller."""
    if info.encrypted is not None:
        hidden = info.encrypted
        body, algorithm, length = hidden.data, hidden.algorithm, hidden.command_length
    else:
        kind, command = _command_bytes(info.command)
        descriptors = b"".join(map(_descriptor_bytes, info.descriptors))
        body = _packed((kind, 8)) + command + _packed((len(descriptors), 16)) + descriptors
        algorithm, length = 0, len(command)
    head = _packed(
        (0, 8), (info.is_encrypted, 1), (algorithm, 6), (info.pts_adjustment, _PTS_BITS), (info.cw_index, 8),
        (info.tier, 12), (length, 12),
    )  # fmt: skip
    size = len(head) + len(body) + _CRC_BYTES
    if 3 + size > MAX_SECTION:
        raise ValueError(f"SCTE 35: a section of {size} bytes")
    section = _packed((_TABLE, 8), (0, 2), (info.sap_type, 2), (size, 12)) + head + body
    return section + crc32(section).to_bytes(_CRC_BYTES, "big")


def _packed(*fields: tuple[int, int]) -> bytes:
    """Returns pairs of value and number of bits as whole bytes."""
    whole = total = 0
    for value, count in fields:
        if not 0 <= value < 1 << count:
            raise ValueError(f"SCTE 35: {value} does not fit in {count} bits")
        whole, total = whole << count | value, total + count
    return whole.to_bytes(total >> 3, "big")


def _ones(count: int) -> tuple[int, int]:
    """Returns reserved bits (§9.4: they are 1)."""
    return (1 << count) - 1, count


def _time_fields(pts: int | None) -> tuple[tuple[int, int], ...]:
    return ((0, 1), _ones(7)) if pts is None else ((1, 1), _ones(6), (pts, _PTS_BITS))


def _command_bytes(command: Command | None) -> tuple[int, bytes]:
    """Returns the type and the bytes of a command."""
    match command:
        case SpliceNull():
            return 0, b""
        case CancelledInsert():
            return 5, _packed((command.event_id, 32), (1, 1), _ones(7))
        case SpliceInsert():
            return 5, _insert_bytes(command)
        case TimeSignal():
            return 6, _packed(*_time_fields(command.pts))
        case OtherCommand():
            return command.type, command.data
    raise ValueError("SCTE 35: a section in the clear needs a command")


def _insert_bytes(insert: SpliceInsert) -> bytes:
    parts, duration = insert.components, insert.duration
    fields = [
        *((insert.event_id, 32), (0, 1), _ones(7), (insert.out, 1), (parts is None, 1), (duration is not None, 1)),
        *((insert.is_immediate, 1), (insert.compliance, 1), _ones(3)),
    ]
    if parts is None:
        fields += () if insert.is_immediate else _time_fields(insert.pts)
    else:
        fields.append((len(parts), 8))
        for tag, pts in parts:
            fields += [(tag, 8), *(() if insert.is_immediate else _time_fields(pts))]
    if duration is not None:
        fields += [(duration.auto_return, 1), _ones(6), (duration.ticks, _PTS_BITS)]
    return _packed(*fields, (insert.program_id, 16), (insert.avail, 8), (insert.avails_expected, 8))


def _descriptor_bytes(descriptor: Descriptor) -> bytes:
    if isinstance(descriptor, OtherDescriptor):
        tag, data = descriptor.tag, descriptor.data
    else:
        tag, data = _SEGMENTATION, _CUEI + _packed(*_segmentation_fields(descriptor))
    return _packed((tag, 8), (len(data), 8)) + data


def _segmentation_fields(segment: Segmentation | CancelledSegmentation) -> Iterable[tuple[int, int]]:
    yield segment.event_id, 32
    yield isinstance(segment, CancelledSegmentation), 1
    yield segment.compliance, 1
    yield _ones(6)
    if isinstance(segment, CancelledSegmentation):
        return
    parts, duration, limits = segment.components, segment.duration, segment.restrictions
    yield from ((parts is None, 1), (duration is not None, 1), (limits is None, 1))
    if limits is None:
        yield _ones(5)
    else:
        yield from ((limits.web, 1), (limits.no_blackout, 1), (limits.archive, 1), (limits.devices, 2))
    if parts is not None:
        yield len(parts), 8
        for tag, offset in parts:
            yield from ((tag, 8), _ones(7), (offset, _PTS_BITS))
    if duration is not None:
        yield duration, 40
    yield from (
        (segment.upid_type, 8),
        (len(segment.upid), 8),
        (int.from_bytes(segment.upid, "big"), 8 * len(segment.upid)),
    )
    yield from ((segment.type_id, 8), (segment.segment, 8), (segment.segments_expected, 8))
    if segment.sub_segment is not None:
        yield from ((number, 8) for number in segment.sub_segment)
