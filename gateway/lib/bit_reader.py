"""Reads bits, most significant first, for the headers of all supported codecs."""

# A ue(v) with more leading zeros has more than 32 bits. Syntax elements do not allow this.
_MAX_ZEROS = 32


class BitReader:
    """Reads the bits of `data` one after the other.

    what: name of the structure for error messages.
    error: the exception to raise if the data ends too early or a code is too long.
    """

    __slots__ = ("_bits", "_data", "_error", "_what", "position")

    def __init__(self, data: bytes, *, what: str = "bits", error: type[Exception] = ValueError) -> None:
        self._data = data
        self._bits = len(data) * 8
        self._what = what
        self._error = error
        self.position = 0

    @property
    def left(self) -> int:
        """The number of bits not yet read."""
        return self._bits - self.position

    def u(self, count: int) -> int:
        """Returns the next `count` bits as an unsigned number; u(n) in the specifications."""
        start = self.position
        end = start + count
        if end > self._bits:
            raise self._error(f"{self._what}: ends at bit {self._bits}, {count} more expected at bit {start}")
        self.position = end
        whole = int.from_bytes(self._data[start >> 3 : (end + 7) >> 3], "big")
        return (whole >> (-end & 7)) & ((1 << count) - 1)

    def flag(self) -> bool:
        """Returns one bit."""
        at = self.position
        if at >= self._bits:
            raise self._error(f"{self._what}: ends at bit {at}, a flag expected")
        self.position = at + 1
        return bool(self._data[at >> 3] >> (7 - (at & 7)) & 1)

    def skip(self, count: int) -> None:
        """Skips `count` bits. Raises `error` if there are fewer."""
        if count > self._bits - self.position:
            raise self._error(f"{self._what}: ends at bit {self._bits}, {count} more expected at bit {self.position}")
        self.position += count

    def align(self) -> None:
        """Moves to the next byte boundary."""
        self.position = (self.position + 7) & ~7

    def ue(self) -> int:
        """Returns an unsigned Exp-Golomb code; ITU-T H.264 §9.1, H.265 §9.2."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > _MAX_ZEROS:
                raise self._error(f"{self._what}: an Exp-Golomb code longer than 32 bits at bit {self.position}")
        return (1 << zeros) - 1 + (self.u(zeros) if zeros else 0)

    def se(self) -> int:
        """Returns a signed Exp-Golomb code; ITU-T H.264 §9.1.1."""
        code = self.ue()
        return (code + 1) >> 1 if code & 1 else -(code >> 1)
