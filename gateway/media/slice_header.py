"""Reads the headers of H.264 slices, and writes them with other numbers of pictures (ITU-T H.264 §7.3.3)."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.lib.bit_reader import BitReader
from gateway.media import h264, nal
from gateway.media.errors import InvalidData
from gateway.media.h264_slices import BitWriter, CodingParameters, escape

SLICE: Final = 1  # nal_unit_type of a slice that is no IDR picture
REFERENCE: Final = 0x60  # nal_ref_idc
_P, _B, _I = 0, 1, 2  # slice_type modulo 5, Table 7-6
_END: Final = 3  # modification_of_pic_nums_idc, Table 7-7
_MAX_OPERATIONS: Final = 66  # twice the fields that a decoder can hold, and more than any encoder sends

# Pairs of modification_of_pic_nums_idc or memory_management_control_operation with its operand; None: the flag before
# them is not set.
Operations: TypeAlias = tuple[tuple[int, int], ...] | None


@dataclass(frozen=True, slots=True)
class OperationList:
    """Operations on references. start, end: bit positions of the flag before them, and of the first bit after them."""

    operations: Operations
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SliceNumbers:
    """The numbers in a slice header, which give the order of pictures.

    frame: `frame_num`. order: `pic_order_cnt_lsb`. lists: the changes of reference lists.
    marking: operations on references; None in a picture that is no reference.
    """

    frame: int
    order: int
    lists: tuple[Operations, ...]
    marking: Operations = None


class SliceHeader:
    """The header of a slice that is no IDR picture. numbers: those in the header.

    Raises InvalidData, also for other picture parameter sets and rare tools: long-term references, switching slices.

    unit: a NAL unit with its header byte.
    """

    def __init__(self, unit: bytes, coding: CodingParameters) -> None:
        self._unit, self._coding = unit, coding
        self._rbsp = nal.unescape(unit[1:])
        bits = BitReader(self._rbsp, what="slice header", error=InvalidData)
        sps, pps = coding.sps, coding.pps
        bits.ue()
        kind = bits.ue() % 5
        if kind > _I or bits.ue() != pps.id or sps.order_type:
            raise InvalidData("a slice with another PPS or of a rare type")
        self._frame_at = bits.position
        frame, order = bits.u(sps.frame_number_bits), bits.u(sps.order_bits)
        self._order_end = bits.position
        if pps.order_present:
            bits.se()
        if pps.redundant:
            bits.ue()
        self._lists: list[OperationList] = []
        if kind != _I:
            self._read_references(bits, kind)
        lists = tuple(each.operations for each in self._lists)
        self._marking: OperationList | None = None
        if unit[0] & REFERENCE:
            self._marking = _read_operations(bits, end=0)
        if pps.cabac and kind != _I:
            bits.ue()
        bits.se()
        if pps.deblocking_control and bits.ue() != 1:
            bits.se()
            bits.se()
        self._end = bits.position
        self.numbers = SliceNumbers(frame, order, lists, self._marking.operations if self._marking else None)

    def _read_references(self, bits: BitReader, kind: int) -> None:
        """Reads what follows the order counts in a P or B slice, up to `pred_weight_table`."""
        pps = self._coding.pps
        if kind == _B:
            bits.flag()  # direct_spatial_mv_pred_flag
        counts = [pps.references, pps.references_l1][: kind + 1]
        if bits.flag():
            counts = [bits.ue() + 1 for _ in counts]
        if max(counts) > 32:
            raise InvalidData(f"a slice with {max(counts)} references")
        self._lists = [_read_operations(bits, end=_END) for _ in counts]
        if (pps.weighted and kind == _P) or (pps.bipred == 1 and kind == _B):
            weights = (2, 4) if self._coding.sps.chroma_format else (2,)
            for _ in weights:
                bits.ue()
            for _ in range(sum(counts)):
                for count in weights:
                    if bits.flag():
                        for _ in range(count):
                            bits.se()

    def rewrite(self, numbers: SliceNumbers, *, idr: bool) -> bytes:
        """Returns the slice with other numbers. idr: whether it becomes a slice of an IDR picture."""
        out, sps, rbsp = BitWriter(), self._coding.sps, self._rbsp
        out.copy(rbsp, 0, self._frame_at)
        out.u(numbers.frame, sps.frame_number_bits)
        if idr:
            out.ue(0)  # idr_pic_id
        out.u(numbers.order, sps.order_bits)
        at = self._order_end
        for old, new in zip(self._lists, numbers.lists, strict=True):
            out.copy(rbsp, at, old.start)
            _write_operations(out, new, end=_END)
            at = old.end
        if self._marking is not None:
            out.copy(rbsp, at, self._marking.start)
            at = self._marking.end
            if idr:
                out.u(0, 2)  # no_output_of_prior_pics_flag, long_term_reference_flag
            else:
                _write_operations(out, numbers.marking, end=0)
        out.copy(rbsp, at, self._end)
        at = self._end
        if self._coding.pps.cabac:
            out.align_with_ones()
            at = (at + 7) & ~7
        head = bytes([self._unit[0] & 0xE0 | h264.SLICE_IDR]) if idr else self._unit[:1]
        return head + escape(out.followed_by(rbsp, at))


def _read_operations(bits: BitReader, *, end: int) -> OperationList:
    """Reads operations up to operation `end`. Operations above 1 are for long-term references and fields."""
    start, found = bits.position, list[tuple[int, int]]()
    if not bits.flag():
        return OperationList(None, start, bits.position)
    while (operation := bits.ue()) != end:
        if operation > 1 or len(found) > _MAX_OPERATIONS:
            raise InvalidData(f"operation {operation} on references")
        found.append((operation, bits.ue()))
    return OperationList(tuple(found), start, bits.position)


def _write_operations(out: BitWriter, operations: Operations, *, end: int) -> None:
    out.u(operations is not None, 1)
    if operations is not None:
        for operation in operations:
            for number in operation:
                out.ue(number)
        out.ue(end)
