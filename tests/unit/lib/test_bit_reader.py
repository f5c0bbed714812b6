"""A reader of bits, most significant first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lib.bit_reader import BitReader


def bits_of(text: str) -> bytes:
    text = text.replace(" ", "")
    return int(text.ljust((len(text) + 7) // 8 * 8, "0"), 2).to_bytes((len(text) + 7) // 8, "big")


@given(st.lists(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, (1 << n) - 1)))))
def test_numbers_of_any_size_are_read_back(fields: list[tuple[int, int]]) -> None:
    reader = BitReader(bits_of("".join(f"{value:0{size}b}" for size, value in fields) or "0"))
    assert [reader.u(size) for size, _ in fields] == [value for _, value in fields]


def test_exp_golomb_codes_equal_the_tables_of_the_specification() -> None:
    # ITU-T H.264 Tables 9-2 and 9-3
    reader = BitReader(bits_of("1 010 011 00100 00101 00110 00111 0001000"))
    assert [reader.ue() for _ in range(8)] == [0, 1, 2, 3, 4, 5, 6, 7]
    reader = BitReader(bits_of("1 010 011 00100 00101"))
    assert [reader.se() for _ in range(5)] == [0, 1, -1, 2, -2]
    assert BitReader(b"\0\0\0\0\x80\0\0\0\0").ue() == (1 << 32) - 1


def test_an_unterminated_exp_golomb_code_is_refused() -> None:
    with pytest.raises(ValueError, match="Exp-Golomb"):
        BitReader(bytes(100)).ue()


def test_reading_past_the_end_raises_the_configured_error() -> None:
    class Mine(Exception):
        pass

    for read in (lambda r: r.u(9), lambda r: r.skip(9), lambda r: (r.skip(8), r.flag())):
        with pytest.raises(Mine, match="box: ends at bit 8"):
            read(BitReader(b"\xff", what="box", error=Mine))


def test_align_moves_to_the_next_byte() -> None:
    reader = BitReader(b"\x80\x01")
    reader.align()
    assert reader.position == 0
    assert reader.flag()
    reader.align()
    assert (reader.position, reader.left, reader.u(8)) == (8, 8, 1)
