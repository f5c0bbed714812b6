"""Services of CEA-708: windows, commands, characters, delays and lost packets."""

from __future__ import annotations

import pytest

from gateway.formats.captions.source import CaptionChange
from tests.support.caption_player import CaptionPlayer
from tests.support.caption_writer import packet

BS, FF, CR, HCR, ETX = b"\x08", b"\x0c", b"\x0d", b"\x0e", b"\x03"
CLW, DSW, HDW, TGW, DLW, DLY = b"\x88", b"\x89", b"\x8a", b"\x8b", b"\x8c", b"\x8d"
DLC, RST, SPA, SPC, SPL, SWA = b"\x8e", b"\x8f", b"\x90", b"\x91", b"\x92", b"\x97"


def window(number: int, *, rows: int = 2, visible: bool = False, vertical: int = 90, anchor: int = 7) -> bytes:
    """DFx: a window with relative place."""
    return bytes([0x98 + number, 0x20 * visible, 0x80 | vertical, 50, anchor << 4 | (rows - 1), 31, 0x11])


def shown(data: bytes) -> str:
    """What SERVICE1 shows with these data in a window, which is then displayed."""
    player = CaptionPlayer()
    player.service(window(0))
    player.service(data)
    player.service(DSW + b"\x01")
    return player.texts[-1] if player.texts else ""


@pytest.mark.parametrize("number", [1, 6, 7, 63])
def test_text_is_shown_with_its_window(number: int) -> None:
    player = CaptionPlayer()
    player.service(window(0) + b"HELLO" + CR + b"WORLD" + ETX, number)
    shown = player.service(DSW + b"\x01", number)
    hidden = player.service(HDW + b"\x01", number)
    assert player.changes == [
        CaptionChange(f"SERVICE{number}", shown, "HELLO\nWORLD"),
        CaptionChange(f"SERVICE{number}", hidden, ""),
    ]


@pytest.mark.parametrize("command", [CLW, HDW, TGW, DLW])
def test_commands_that_end_a_text(command: bytes) -> None:
    player = CaptionPlayer()
    player.service(window(2) + b"HELLO" + TGW + b"\x04")
    end = player.service(command + b"\x04")
    assert player.changes[1:] == [CaptionChange("SERVICE1", end, "")]


def test_commands_obey_their_mask() -> None:
    player = CaptionPlayer()
    player.service(window(0, vertical=60) + b"A" + window(7) + b"B" + DSW + b"\x81")
    player.service(DLW + b"\x7f")
    assert player.texts == ["A\nB", "B"]


def test_a_hidden_text_may_be_shown_again() -> None:
    player = CaptionPlayer()
    player.service(window(0) + b"A" + DSW + b"\x01")
    player.service(HDW + b"\x01")
    player.service(DSW + b"\x01")
    assert player.texts == ["A", "", "A"]


def test_changes_of_one_packet_are_one() -> None:
    player = CaptionPlayer()
    player.service(window(0) + b"A" + DSW + b"\x01")
    player.service(DLW + b"\x01" + window(1) + b"B" + DSW + b"\x02")
    assert player.texts == ["A", "B"]


def test_a_visible_window_rolls_up() -> None:
    player = CaptionPlayer()
    times = [player.service(window(0, visible=True) + b"ONE")]
    times += [player.service(CR + text) for text in (b"TWO", b"THREE")]
    player.service(CR)
    assert [(change.start, change.text) for change in player.changes] == list(
        zip(times, ("ONE", "ONE\nTWO", "TWO\nTHREE"), strict=True)
    )


def test_a_pause_completes_text_in_a_visible_window() -> None:
    player = CaptionPlayer()
    time = player.service(window(0, visible=True) + b"ONE")
    player.wait(0.3)
    assert player.changes == [CaptionChange("SERVICE1", time, "ONE")]


def test_the_same_definition_again_only_chooses_the_window() -> None:
    player = CaptionPlayer()
    player.service(window(0, visible=True) + b"ONE")
    player.service(window(0, visible=True) + b" MORE" + CR)
    assert player.texts == ["ONE MORE"]


def test_a_smaller_definition_loses_rows() -> None:
    assert shown(b"A" + CR + b"B" + window(0, rows=1) + b"C") == "AC"


def test_text_goes_to_the_chosen_window() -> None:
    player = CaptionPlayer()
    player.service(window(0, vertical=50) + window(1) + b"B\x80A\x85LOST" + DSW + b"\x03")
    assert player.texts == ["A\nB"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"HELP" + BS + b"LO", "HELLO"),
        (BS + b"A", "A"),
        (b"WRONG" + FF + b"RIGHT", "RIGHT"),
        (b"A" + CR + b"WRONG" + HCR + b"B", "A\nB"),
        (b"A" + CR + b"B" + CR + b"C", "B\nC"),
        (b"A" + CR + CR + b"C", "C"),
        (SPL + b"\x01\x04" + b"LOWER" + SPL + b"\x00\x00" + b"UPPER", "UPPER\nLOWER"),
        (b"ABC" + SPL + b"\x00\x01" + b"x", "AxC"),
        (SPA + b"\x05\x00" + SPC + b"\x3f\x00\x00" + SWA + b"\x00\x00\x00\x00" + b"A", "A"),
        (b"\x00\x11A\x93B\x1f12C", "BC"),  # codes that nobody defines, with their sizes
        (b"\x10\x00A\x10\x08xB\x10\x10xxC\x10\x18xxxD", "ABCD"),  # C2
        (b"\x10\x80xxxxA\x10\x88xxxxxB\x10\x90\x03xxxC", "ABC"),  # C3
        (b"\x7f\xa9\xe9", "♪©é"),
        (b"\x10\x25\x10\x2a\x10\x30\x10\x35\x10\x76\x10\x7f\x10\xa0", "…Š█•⅛┌[CC]"),
        (b"A\x10\x20B\x10\x21C", "A B C"),
        (b"\x10\x22\x10\xa1", "__"),
        (b"\x18\xd5\x5c\x18\xd8\x00\x18\x00\x07", "한__"),
        (b"X" * 29 + b"\x80", "X" * 29),
    ],
)
def test_codes_and_characters(data: bytes, text: str) -> None:
    assert shown(data) == text


def test_a_row_has_64_cells() -> None:
    assert shown(SPL + b"\x00\x3d" + b"ABCDE") == "ABE"


def test_a_command_may_begin_in_one_block_and_end_in_the_next() -> None:
    player = CaptionPlayer()
    data = window(0, visible=True) + b"A" + SPL + b"\x01\x00" + b"B\x18\xd5\x5cC\x10\x25" + HDW + b"\x01"
    for byte in data:
        player.service(bytes([byte]))
    assert player.texts == ["A", "A\nB한C…", ""]


@pytest.mark.parametrize(
    ("vertical", "anchor", "line"), [(0, 0, 10), (20, 1, 26), (30, 4, 29), (40, 7, 31), (90, 7, None), (45, 0, None)]
)
def test_the_place_in_the_upper_half_is_kept(vertical: int, anchor: int, line: int | None) -> None:
    player = CaptionPlayer()
    player.service(window(0, vertical=vertical, anchor=anchor) + b"X" + DSW + b"\x01")
    assert player.changes[0].line == line


def test_a_delay_holds_what_follows() -> None:
    player = CaptionPlayer()
    start = player.service(window(0) + b"A" + DLY + b"\x05" + DSW + b"\x01")
    player.wait(1)
    assert player.changes == [CaptionChange("SERVICE1", start + 45_000, "A")]


@pytest.mark.parametrize(("end", "texts"), [(DLC, ["A"]), (RST, []), (b"X" * 31, ["A"])])
def test_a_delay_ends_early(end: bytes, texts: list[str]) -> None:
    player = CaptionPlayer()
    player.service(window(0) + b"A" + DLY + b"\xff" + DSW + b"\x01" + SPL + b"\x00\x8e")
    assert player.changes == []
    for _ in range(5):
        player.service(end)
    assert player.texts[: len(texts) + 1] == texts


def test_a_reset_deletes_all() -> None:
    player = CaptionPlayer()
    player.service(window(0) + b"A" + DSW + b"\x01")
    player.service(RST + b"LOST" + DSW + b"\xff")
    assert player.texts == ["A", ""]


def test_a_lost_packet_resets_the_services() -> None:
    player = CaptionPlayer()
    for sequence, data in ((2, window(0)), (3, b"A"), (0, DSW + b"\x01"), (2, b"B")):
        player.service(data, sequence=sequence)
    assert player.texts == ["A", ""]


def test_a_packet_may_be_spread_over_pictures() -> None:
    player = CaptionPlayer()
    first, *rest = packet(1, window(0) + b"A" + DSW + b"\x01")
    player.picture((3, first))
    times = [player.picture((2, pair)) for pair in rest]
    assert player.changes == [CaptionChange("SERVICE1", times[-1], "A")]


def test_a_service_that_gets_nothing_is_erased_and_keeps_its_windows() -> None:
    player = CaptionPlayer()
    last = player.service(window(0) + b"A" + DSW + b"\x01")
    player.wait(17)
    player.service(b"B" + CR)
    player.wait(1)
    assert player.changes[1] == CaptionChange("SERVICE1", last + 16 * 90_000, "")
    assert player.texts[2:] == ["B"]


def test_eight_services_are_decoded_until_one_of_them_is_silent() -> None:
    player = CaptionPlayer()
    for number in range(1, 10):
        player.service(window(0) + b"A" + DSW + b"\x01", number)
    assert {change.source for change in player.changes} == {f"SERVICE{number}" for number in range(1, 9)}
    player.wait(17)
    player.service(window(0) + b"A" + DSW + b"\x01", 9)
    assert player.changes[-1].source == "SERVICE9"
