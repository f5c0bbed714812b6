"""Rewrites slices of H.264, so that they decode with the parameter sets of another encoder.

The macroblocks of a slice are coded with few elements of the parameter sets: entropy coding, transform sizes, chroma
quantizers, formats. If these are the same, only the header of the slice must be written anew. So the pictures of our
encoder continue a publisher's stream, and viewers' decoders notice no change. Source: ITU-T H.264 §7.3.3, §7.3.2.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.lib.bit_reader import BitReader
from gateway.media import h264, nal
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.h264 import SpsCoding

_P: Final = 0  # slice_type modulo 5
_I: Final = 2
_REGISTERED: Final = bytes((h264.SEI, 4))  # begin of user data such as closed captions (§D.1.6)
_ESCAPED: Final = re.compile(rb"\x00\x00(?=[\x00-\x03])")


@dataclass(frozen=True, slots=True)
class PpsCoding:
    """The syntax elements of a picture parameter set that slices depend on.

    references, references_l1: `num_ref_idx_l0_default_active` and that of l1. bipred: `weighted_bipred_idc`.
    quantizer: `pic_init_qp`.
    order_present: `bottom_field_pic_order_in_frame_present_flag`.
    chroma_offsets: added to the quantizers of Cb and Cr.
    """

    id: int
    sps_id: int
    cabac: bool
    order_present: bool
    slice_groups: int
    references: int
    references_l1: int
    weighted: bool
    bipred: int
    quantizer: int
    chroma_offsets: tuple[int, int]
    deblocking_control: bool
    constrained_intra: bool
    redundant: bool
    transform_8x8: bool
    scaling: bool


@dataclass(frozen=True, slots=True)
class CodingParameters:
    """The parameters that the slices of one stream depend on."""

    sps: SpsCoding
    pps: PpsCoding


def parse_pps(unit: bytes) -> PpsCoding:
    """Reads a picture parameter set. unit: NAL unit with its header byte. Raises InvalidData.

    If there are slice groups, `slice_groups` is above 1, and the elements after it are not read but 0.
    """
    if not 2 <= len(unit) <= h264.MAX_CONFIG or unit[0] & 0x1F != h264.PPS:
        raise InvalidData(f"not a PPS: {unit[:4].hex()}, {len(unit)} bytes")
    rbsp = nal.unescape(unit[1:]).rstrip(b"\x00")
    bits = BitReader(rbsp, what="PPS", error=InvalidData)
    id, sps_id = bits.ue(), bits.ue()
    cabac, order_present = bits.flag(), bits.flag()
    groups = bits.ue() + 1
    if groups > 1:
        return PpsCoding(id, sps_id, cabac, order_present, groups, 0, 0, False, 0, 0, (0, 0), *(False,) * 5)
    references, references_l1 = bits.ue() + 1, bits.ue() + 1
    weighted, bipred = bits.flag(), bits.u(2)
    quantizer = 26 + bits.se()
    bits.se()
    chroma = bits.se()
    deblocking, constrained, redundant = bits.flag(), bits.flag(), bits.flag()
    transform_8x8, scaling, second_chroma = False, False, chroma
    # more_rbsp_data(): the rest is more than rbsp_trailing_bits, a set bit and zeros.
    if rbsp and bits.left > _trailing_bits(rbsp):
        transform_8x8, scaling = bits.flag(), bits.flag()
        if not scaling:
            second_chroma = bits.se()
    return PpsCoding(
        id, sps_id, cabac, order_present, groups, references, references_l1, weighted, bipred, quantizer,
        (chroma, second_chroma), deblocking, constrained, redundant, transform_8x8, scaling,
    )  # fmt: skip


def coding_parameters(config: bytes) -> CodingParameters:
    """Returns the parameters of a stream from its avcC record. Raises InvalidData; UnsupportedCodec for rare tools.

    If there are several sets, the first picture parameter set counts, with its sequence parameter set.
    """
    avcc = h264.parse_avcc(config)
    if not avcc.pps:
        raise InvalidData("avcC without PPS")
    pps = parse_pps(avcc.pps[0])
    codings = [coding for unit in avcc.sps if (coding := h264.parse_sps(unit).coding) is not None]
    sps = next((coding for coding in codings if coding.id == pps.sps_id), None)
    if sps is None:
        raise InvalidData(f"avcC: no SPS has the id {pps.sps_id}")
    for unusual, name in (
        (avcc.length_size != 4, "short NAL unit lengths"),
        (pps.slice_groups > 1, "slice groups"),
        (pps.scaling or sps.scaling, "scaling matrices"),
        (sps.lossless, "lossless macroblocks"),
        (not sps.frames_only, "interlaced pictures"),
        (sps.separate_planes, "separate color planes"),
        (sps.order_type == 1, "picture order count type 1"),
        (sps.reference_frames < 1, "pictures without references"),
        (sps.offset != (0, 0), "cropping at the left or top"),
    ):
        if unusual:
            raise UnsupportedCodec(f"{name} cannot be continued")
    return CodingParameters(sps, pps)


class SliceRewriter:
    """Rewrites access units of our encoder for decoders that have other parameter sets.

    The units have I and P slices and no B-frames.
    own: parameters of the encoder. target: those of the sets that decoders have.

    Raises UnsupportedCodec if macroblocks of the encoder mean something else with the other sets.
    """

    def __init__(self, own: CodingParameters, target: CodingParameters) -> None:
        for name, a, b in (
            ("size", (own.sps.columns, own.sps.rows), (target.sps.columns, target.sps.rows)),
            ("format", _sample_format(own.sps), _sample_format(target.sps)),
            ("entropy coding", own.pps.cabac, target.pps.cabac),
            ("transform", own.pps.transform_8x8, target.pps.transform_8x8),
            ("chroma quantizer", own.pps.chroma_offsets, target.pps.chroma_offsets),
            ("intra prediction", own.pps.constrained_intra, target.pps.constrained_intra),
        ):
            if a != b:
                raise UnsupportedCodec(f"the {name} of pictures differs: {a}, {b}")
        if own.pps.weighted or own.pps.redundant:
            raise UnsupportedCodec("the encoder uses weighted or redundant pictures")
        self._own = own
        self.target = target
        self._frame = 0  # pictures since the last IDR picture

    def rewrite(self, payload: bytes) -> bytes:
        """Returns the access unit: its slices, and its closed captions before them. Raises InvalidData."""
        units = nal.split(payload)
        captions = [unit for unit in units if unit.startswith(_REGISTERED)]
        slices = [unit for unit in units if unit[0] & 0x1F in (1, h264.SLICE_IDR)]
        if not slices:
            raise InvalidData("an access unit without slices")
        self._frame = 0 if slices[0][0] & 0x1F == h264.SLICE_IDR else self._frame + 1
        return nal.join([*captions, *(self._rewrite_slice(unit) for unit in slices)])

    def _rewrite_slice(self, unit: bytes) -> bytes:
        own, target = self._own, self.target
        idr = unit[0] & 0x1F == h264.SLICE_IDR
        rbsp = nal.unescape(unit[1:])
        bits = BitReader(rbsp, what="slice", error=InvalidData)
        out = BitWriter()
        out.ue(bits.ue())  # first_mb_in_slice
        kind = bits.ue()
        if kind % 5 not in (_P, _I) or (idr and kind % 5 != _I):
            raise InvalidData(f"a slice of type {kind}")
        out.ue(kind)
        bits.ue()
        out.ue(target.pps.id)
        bits.u(own.sps.frame_number_bits)
        out.u(self._frame % (1 << target.sps.frame_number_bits), target.sps.frame_number_bits)
        if idr:
            out.ue(bits.ue())  # idr_pic_id
        if own.sps.order_type == 0:
            bits.u(own.sps.order_bits)
            if own.pps.order_present:
                bits.se()
        if target.sps.order_type == 0:
            out.u(2 * self._frame % (1 << target.sps.order_bits), target.sps.order_bits)
            if target.pps.order_present:
                out.se(0)  # delta_pic_order_cnt_bottom
        if target.pps.redundant:
            out.ue(0)
        if kind % 5 == _P:
            self._copy_references(bits, out)
        self._copy_marking(bits, out, idr, reference=bool(unit[0] & 0x60))
        if own.pps.cabac and kind % 5 != _I:
            out.ue(bits.ue())  # cabac_init_idc
        out.se(own.pps.quantizer + bits.se() - target.pps.quantizer)  # slice_qp_delta
        self._copy_deblocking(bits, out)
        if own.pps.cabac:
            bits.align()
            out.align_with_ones()
        return unit[:1] + escape(out.followed_by(rbsp, bits.position))

    def _copy_references(self, bits: BitReader, out: BitWriter) -> None:
        """Copies `num_ref_idx_active_override_flag` to `pred_weight_table` of a P slice."""
        count = bits.ue() + 1 if bits.flag() else self._own.pps.references
        if count > self.target.sps.reference_frames:
            raise InvalidData(f"a slice with {count} references")
        out.u(1, 1)
        out.ue(count - 1)
        if bits.flag():
            raise InvalidData("a slice that reorders references")
        out.u(0, 1)
        if self.target.pps.weighted:
            out.ue(0)  # luma_log2_weight_denom
            if self.target.sps.chroma_format:
                out.ue(0)
            for _ in range(count):
                out.u(0, 2 if self.target.sps.chroma_format else 1)  # the default weights

    def _copy_marking(self, bits: BitReader, out: BitWriter, idr: bool, reference: bool) -> None:
        """Copies `dec_ref_pic_marking`."""
        if idr:
            bits.u(2)
            out.u(0, 2)
        elif reference:
            if bits.flag():
                raise InvalidData("a slice that marks references")
            out.u(0, 1)

    def _copy_deblocking(self, bits: BitReader, out: BitWriter) -> None:
        disabled, alpha, beta = 0, 0, 0
        if self._own.pps.deblocking_control:
            disabled = bits.ue()
            if disabled != 1:
                alpha, beta = bits.se(), bits.se()
        if self.target.pps.deblocking_control:
            out.ue(disabled)
            if disabled != 1:
                out.se(alpha)
                out.se(beta)
        elif (disabled, alpha, beta) != (0, 0, 0):
            raise InvalidData("a slice with its own deblocking")


class BitWriter:
    """Writes bits, most significant first."""

    __slots__ = ("_count", "_value")

    def __init__(self) -> None:
        self._value = 0
        self._count = 0

    def u(self, value: int, count: int) -> None:
        self._value = self._value << count | value
        self._count += count

    def ue(self, value: int) -> None:
        length = (value + 1).bit_length()
        self.u(value + 1, 2 * length - 1)

    def se(self, value: int) -> None:
        self.ue(2 * value - 1 if value > 0 else -2 * value)

    def copy(self, data: bytes, start: int, end: int) -> None:
        """Copies the bits from `start` to `end`."""
        whole = int.from_bytes(data[: (end + 7) // 8], "big") >> (-end % 8)
        self.u(whole & ((1 << (end - start)) - 1), end - start)

    def align_with_ones(self) -> None:
        count = -self._count % 8
        self.u((1 << count) - 1, count)

    def followed_by(self, rbsp: bytes, position: int) -> bytes:
        """Returns the written bits, then `rbsp` from bit `position` on, filled with zero bits to whole bytes."""
        if not position % 8 and not self._count % 8:
            return self._value.to_bytes(self._count // 8, "big") + rbsp[position // 8 :]
        left = len(rbsp) * 8 - position
        whole = self._value << left | int.from_bytes(rbsp, "big") & ((1 << left) - 1)
        count = self._count + left
        return (whole << -count % 8).to_bytes((count + 7) // 8, "big").rstrip(b"\x00")


def _sample_format(sps: SpsCoding) -> tuple[int, int, int]:
    return sps.chroma_format, sps.luma_bits, sps.chroma_bits


def escape(rbsp: bytes) -> bytes:
    """Inserts `emulation_prevention_three_byte` (§7.4.1.1)."""
    escaped = _ESCAPED.sub(b"\x00\x00\x03", rbsp)
    return escaped + b"\x03" if escaped.endswith(b"\x00\x00") else escaped


def _trailing_bits(rbsp: bytes) -> int:
    """Returns the number of bits of `rbsp_trailing_bits`. The last byte must not be 0."""
    last = rbsp[-1]
    return (last & -last).bit_length()
