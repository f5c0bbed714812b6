"""Closes open groups of pictures of H.264, for players that begin with one."""

from gateway.media import nal
from gateway.media.errors import InvalidData
from gateway.media.h264_slices import CodingParameters, coding_parameters
from gateway.media.random_access import RandomAccess, random_access_of
from gateway.media.slice_header import SLICE, Operations, SliceHeader, SliceNumbers
from gateway.media.track import Codec, MediaTrack


class OpenGops:
    """Closes the open GOPs of one track. Other codecs than H.264 stay as they are.

    In an open GOP, pictures that are decoded after the key frame and shown before it (leading pictures) refer to the
    GOP before. A decoder that begins with the key frame skips them in H.265, which marks them. H.264 has no marks, so
    they are left out. The key frame becomes an IDR picture. So the numbers of all pictures up to the next key frame
    are written anew, and nothing refers to pictures before the IDR picture. The coded pictures stay as they are.

    access: how decoding can start at the last key frame that `add` returned. is_open: whether its GOP was open.
    """

    __slots__ = ("_access_of", "_coding", "_frame", "_leading", "_number", "_order", "_removed", "_shown", "access",
                 "is_open")  # fmt: skip

    def __init__(self, track: MediaTrack) -> None:
        self._access_of = random_access_of(track)
        self._coding = _coding_of(track)
        self._shown = 0  # presentation time of the key frame
        self._order = 0  # its pic_order_cnt_lsb
        self._frame = 0  # frame_num of the last picture
        self._number = 0  # distance of `_frame` from the frame_num of the key frame
        self._removed: int | None = (
            None  # number of leading pictures that were references; None before a picture is kept
        )
        self._leading = False  # whether leading pictures may follow
        self.access = RandomAccess.CLOSED
        self.is_open = False

    def add(self, payload: bytes, shown: int, key: bool) -> bytes | None:
        """Returns the next picture; None if it is left out. While no GOP is open, only key frames need this call.

        shown: its presentation time, in any unit.
        """
        if key:
            self.access = self._access_of(payload)
            self.is_open = self.access is RandomAccess.OPEN
            self._shown = shown
        if not self.is_open:
            return payload
        # Encoders send leading pictures before all others of the GOP.
        self._leading = key or (self._leading and shown < self._shown)
        if self._leading and not key:
            return None
        if self._coding is None:  # if the key frame became an IDR picture, the old numbers are wrong after it
            return payload if self.access is RandomAccess.OPEN else None
        try:
            return self._close(payload, self._coding, key)
        except InvalidData:
            self._coding = None  # all later GOPs stay open
            return payload if key else None

    def _close(self, payload: bytes, coding: CodingParameters, key: bool) -> bytes:
        """Returns a picture with numbers that begin with the key frame. Raises InvalidData."""
        units = nal.split(payload)
        headers = {n: SliceHeader(unit, coding) for n, unit in enumerate(units) if unit[0] & 0x1F == SLICE}
        if not headers:
            raise InvalidData("a picture without slices")
        numbers = next(iter(headers.values())).numbers
        if key:
            self._order, self._number, self._removed = numbers.order, 0, None
        else:
            self._number += (numbers.frame - self._frame) % (1 << coding.sps.frame_number_bits)
            if self._removed is None:
                self._removed = max(self._number - 1, 0)
        self._frame = numbers.frame
        for n, header in headers.items():
            units[n] = header.rewrite(self._renumber(header.numbers, coding), idr=key)
        if key:
            self.access = RandomAccess.CLOSED
        return nal.join(units)

    def _renumber(self, old: SliceNumbers, coding: CodingParameters) -> SliceNumbers:
        frames, orders = 1 << coding.sps.frame_number_bits, 1 << coding.sps.order_bits
        marking = old.marking
        if marking:
            # §8.2.5.4.1: picNumX = CurrPicNum − ( difference_of_pic_nums_minus1 + 1 )
            distances = [self._distance(difference + 1) for _, difference in marking]
            marking = tuple((1, distance - 1) for distance in distances if distance is not None) or None
        lists = tuple(self._renumber_list(operations, frames) for operations in old.lists)
        frame, order = (self._number - (self._removed or 0)) % frames, (old.order - self._order) % orders
        return SliceNumbers(frame, order, lists, marking)

    def _renumber_list(self, operations: Operations, frames: int) -> Operations:
        """Returns the changes of a reference list for the new numbers (§8.2.4.3.1). frames: MaxFrameNum."""
        if operations is None:
            return None
        found, before, written = [], 0, 0
        for operation, difference in operations:
            before = (before + (-difference - 1 if operation else difference + 1)) % frames
            distance = self._distance(before or frames)
            if distance is None:
                raise InvalidData("a reference before the key frame")
            step = distance - written
            found.append((1, -step - 1) if step < 0 else (0, (step or frames) - 1))
            written = distance
        return tuple(found)

    def _distance(self, distance: int) -> int | None:
        """Returns the new distance of a reference; None if it is before the key frame, or a leading picture.

        distance: the old one. A distance is the `frame_num` of this picture minus that of the reference.
        """
        number, removed = self._number - distance, self._removed or 0
        if number == 0:
            return distance - removed
        return distance if number > removed else None


def _coding_of(track: MediaTrack) -> CodingParameters | None:
    if track.codec is not Codec.H264:
        return None
    try:
        return coding_parameters(track.config)
    except InvalidData:
        return None
