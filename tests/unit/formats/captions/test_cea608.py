"""Captions of CEA-608: each control code, character sets, repeated and damaged codes."""

from __future__ import annotations

import pytest

from gateway.formats.captions.source import CaptionChange
from tests.support.caption_player import PICTURE, CaptionPlayer
from tests.support.caption_writer import code, odd, painted_on, place, popped_on, rolled_up, typed

PADDING = b"\x80\x80"
FIELD = {1: 0, 2: 0, 3: 1, 4: 1}
EDM, CR, BS, DER, ENM, EOC = 0x2C, 0x2D, 0x21, 0x24, 0x2E, 0x2F
RCL, RU2, RU3, RU4, RDC, TR, RTD = 0x20, 0x25, 0x26, 0x27, 0x29, 0x2A, 0x2B


def shown(*pairs: bytes) -> str:
    """What CC1 shows as a pop-on caption with these pairs."""
    player = CaptionPlayer()
    player.send([*code(1, RCL), *place(1, 15), *pairs, *code(1, EOC)])
    return player.texts[-1] if player.texts else ""


@pytest.mark.parametrize("channel", [1, 2, 3, 4])
def test_a_pop_on_caption_starts_with_its_end_code_and_ends_when_it_is_erased(channel: int) -> None:
    player = CaptionPlayer()
    end = player.send(popped_on(channel, "HELLO", "WORLD"), FIELD[channel])
    player.send([PADDING] * 30, FIELD[channel])
    erased = player.send(code(channel, EDM), FIELD[channel])
    assert player.changes == [
        CaptionChange(f"CC{channel}", end - PICTURE, "HELLO\nWORLD"),
        CaptionChange(f"CC{channel}", erased - PICTURE, ""),
    ]


def test_the_next_pop_on_caption_replaces_the_last_one() -> None:
    player = CaptionPlayer()
    ends = [player.send(popped_on(1, text)) - PICTURE for text in ("ONE", "TWO")]
    assert [(change.start, change.text) for change in player.changes] == [(ends[0], "ONE"), (ends[1], "TWO")]


def test_text_that_waits_can_be_erased() -> None:
    player = CaptionPlayer()
    player.send([*code(1, RCL), *place(1, 15), *typed("WRONG"), *code(1, ENM), *typed("RIGHT"), *code(1, EOC)])
    assert player.texts == ["RIGHT"]


def test_erasing_nothing_changes_nothing() -> None:
    player = CaptionPlayer()
    player.send([*code(1, EDM), *code(1, RCL), *code(1, EDM), *code(1, EOC)])
    assert player.changes == []


def test_a_line_rolls_up_at_the_time_of_its_last_character() -> None:
    player = CaptionPlayer()
    ends = [player.send(rolled_up(1, text)) for text in ("ONE", "TWO", "THREE")]
    player.send(code(1, CR))
    assert [(change.start, change.text) for change in player.changes] == [
        (ends[0], "ONE"),
        (ends[1], "ONE\nTWO"),
        (ends[2], "TWO\nTHREE"),
    ]


@pytest.mark.parametrize(("mode", "depth"), [(RU2, 2), (RU3, 3), (RU4, 4)])
def test_the_mode_says_how_many_rows_stay(mode: int, depth: int) -> None:
    player = CaptionPlayer()
    player.send(code(1, mode))
    for number in range(6):
        player.send([*code(1, CR), *typed(str(number))])
    player.send(code(1, CR))
    assert player.texts[-1] == "\n".join("012345"[-depth:])


def test_fewer_rows_remove_the_upper_ones() -> None:
    player = CaptionPlayer()
    player.send([*code(1, RU4), *typed("A"), *code(1, CR), *typed("B"), *code(1, CR), *typed("C"), *code(1, RU2)])
    player.send([*typed("D"), *code(1, CR)])
    assert player.texts[-2:] == ["A\nB\nC", "B\nCD"]


def test_an_empty_line_pushes_the_others_out() -> None:
    player = CaptionPlayer()
    player.send([*rolled_up(1, "ONE"), *code(1, CR)])
    last = player.send(code(1, CR))
    assert player.changes[-1] == CaptionChange("CC1", last - PICTURE, "")


def test_a_pause_completes_a_line_and_more_text_shows_it_again() -> None:
    player = CaptionPlayer()
    first = player.send(rolled_up(1, "ONE"))
    player.wait(0.3)
    assert player.changes == [CaptionChange("CC1", first, "ONE")]
    last = player.send(typed(" TWO"))
    player.wait(0.3)
    assert player.changes[1:] == [CaptionChange("CC1", last, "ONE TWO")]


def test_text_in_another_channel_is_a_pause_too() -> None:
    player = CaptionPlayer()
    first = player.send(rolled_up(1, "ONE"))
    player.send(rolled_up(2, "OTHER TEXT"))
    assert player.changes == [CaptionChange("CC1", first, "ONE")]


def test_the_base_row_moves_the_roll_up_caption() -> None:
    player = CaptionPlayer()
    player.send([*rolled_up(1, "ONE"), *code(1, CR), *place(1, 1), *typed("TWO"), *code(1, CR)])
    assert player.changes[-1].text == "ONE\nTWO"
    assert player.changes[-1].line == 10  # two rows need the first two


def test_roll_up_erases_a_pop_on_caption() -> None:
    player = CaptionPlayer()
    player.send([*popped_on(1, "OLD"), *code(1, RU2)])
    assert player.texts == ["OLD", ""]


def test_painted_rows_are_shown_when_the_next_one_begins() -> None:
    player = CaptionPlayer()
    first = player.send(painted_on(1, 14, "UPPER"))
    second = player.send([*place(1, 15), *typed("LOWER")])
    player.send(code(1, EDM))
    assert [(change.start, change.text) for change in player.changes[:2]] == [
        (first, "UPPER"),
        (second, "UPPER\nLOWER"),
    ]
    assert player.texts[2] == ""


def test_painting_adds_to_a_pop_on_caption() -> None:
    player = CaptionPlayer()
    player.send([*popped_on(1, "BELOW"), *painted_on(1, 14, "ABOVE"), *code(1, RCL)])
    assert player.texts == ["BELOW", "ABOVE\nBELOW"]


@pytest.mark.parametrize(("row", "line"), [(1, 10), (3, 21), (7, 42), (8, None), (15, None)])
def test_the_place_in_the_upper_half_is_kept(row: int, line: int | None) -> None:
    player = CaptionPlayer()
    player.send([*code(1, RCL), *place(1, row), *typed("X"), *code(1, EOC)])
    assert [(change.text, change.line) for change in player.changes] == [("X", line)]


@pytest.mark.parametrize("row", range(1, 16))
def test_each_row_has_its_code(row: int) -> None:
    player = CaptionPlayer()
    upper, lower = place(1, row), place(1, row - 1) if row > 1 else place(1, 15)
    player.send([*code(1, RCL), *upper, *typed("A"), *lower, *typed("B"), *code(1, EOC)])
    assert player.texts == ["B\nA" if row > 1 else "A\nB"]


def test_back_space_removes_the_last_character() -> None:
    assert shown(*typed("HELP"), *code(1, BS), *typed("LO")) == "HELLO"
    assert shown(*code(1, BS), *typed("A")) == "A"


def test_delete_to_end_of_row_begins_at_the_cursor() -> None:
    assert shown(*typed("HELLO YOU"), *place(1, 15, 4), *code(1, DER)) == "HELL"


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_tab_offsets_move_the_cursor(columns: int) -> None:
    assert shown(*typed("ABCDE"), *place(1, 15), *code(1, 0x20 + columns, 0x17), *typed("x")) == (
        "ABCDE"[:columns] + "x" + "ABCDE"[columns + 1 :]
    )


def test_mid_row_codes_and_flashing_take_a_cell() -> None:
    assert shown(*typed("A"), *code(1, 0x2E, 0x11), *typed("B"), *code(1, 0x28), *typed("C")) == "A B C"


def test_colours_of_the_background_take_none() -> None:
    assert shown(*typed("A"), *code(1, 0x22, 0x10), *typed("B"), *code(1, 0x2E, 0x17), *typed("C")) == "ABC"


def test_a_row_has_32_cells_and_the_last_one_is_overwritten() -> None:
    assert shown(*typed("X" * 32 + "YZ")) == "X" * 31 + "Z"


def test_some_codes_of_ascii_are_other_characters() -> None:
    assert shown(*typed("'*\\^_`{|}~\x7f")) == "’áéíóúç÷Ññ█"


def test_special_characters() -> None:
    codes = [pair for second in range(0x30, 0x40) for pair in code(1, second, 0x11)]
    assert shown(*codes) == "®°½¿™¢£♪à èâêîôû"


@pytest.mark.parametrize(
    ("first", "characters"),
    [(0x12, "ÁÉÓÚÜü‘¡*'—©℠•“”ÀÂÇÈÊËëÎÏïÔÙùÛ«»"), (0x13, "ÃãÍÌìÒòÕõ{}\\^_|~ÄäÖöß¥¤│ÅåØø┌┐└┘")],
)
def test_extended_characters_replace_the_one_before(first: int, characters: str) -> None:
    for second, character in enumerate(characters, 0x20):
        assert shown(*typed("AB"), *code(1, second, first), *typed("C")) == f"A{character}C"


def test_codes_count_once_when_they_are_repeated_and_when_they_are_not() -> None:
    assert shown(*typed("ABC"), *code(1, BS)) == shown(*typed("ABC"), code(1, BS)[0]) == "AB"
    assert shown(*typed("ABC"), *code(1, BS), *code(1, BS)) == "A"
    player = CaptionPlayer()
    player.send(dict.fromkeys(popped_on(1, "HELLO")))  # each code once
    assert player.texts == ["HELLO"]


def test_padding_between_repeated_codes_does_not_count() -> None:
    player = CaptionPlayer()
    first, second = code(1, EOC)
    player.send([*popped_on(1, "HELLO")[:-2], first, PADDING, second])
    assert player.texts == ["HELLO"]


def test_a_byte_with_wrong_parity_is_left_out() -> None:
    good, bad = typed("AB")[0], bytes([typed("AB")[0][0] ^ 0x80, typed("AB")[0][1]])
    assert shown(good, bad) == "ABB"
    assert shown(good, bytes([good[0], good[1] ^ 0x80])) == "ABA"


def test_a_control_code_with_wrong_parity_counts_when_it_is_repeated() -> None:
    player = CaptionPlayer()
    pairs = popped_on(1, "HELLO")
    player.send([*pairs[:-2], bytes([pairs[-2][0], pairs[-2][1] ^ 0x80]), pairs[-1]])
    assert player.texts == ["HELLO"]


@pytest.mark.parametrize("mode", [TR, RTD])
def test_text_mode_is_ignored(mode: int) -> None:
    player = CaptionPlayer()
    player.send(
        [*rolled_up(1, "ONE"), *code(1, mode), *place(1, 3), *typed("STOCKS 1 2 3"), *code(1, BS), *code(1, CR)]
    )
    player.send([*code(1, DER), *rolled_up(1, "TWO"), *code(1, RCL)])
    assert player.texts == ["ONE", "ONE\nTWO"]


def test_nothing_is_shown_before_a_mode_is_known() -> None:
    player = CaptionPlayer()
    player.send([*place(1, 15), *typed("LOST"), *code(1, CR)])
    player.wait(1)
    assert player.changes == []


def test_program_information_is_ignored() -> None:
    player = CaptionPlayer()
    player.send([*code(3, RCL), *place(3, 15), *typed("HEL")], 1)
    player.send([odd(b"\x01\x03"), *typed("MOVIE"), odd(b"\x0f\x1d"), *typed("LO")], 1)
    player.send([odd(b"\x05\x02"), *typed("XX"), *code(3, EOC)], 1)
    assert player.texts == ["HELLO"]


def test_codes_of_field_1_count_in_field_2() -> None:
    player = CaptionPlayer()
    player.send([odd(b"\x14\x20"), *place(3, 15), *typed("HELLO"), odd(b"\x14\x2f")], 1)
    assert [(change.source, change.text) for change in player.changes] == [("CC3", "HELLO")]


def test_the_channels_of_a_field_do_not_mix() -> None:
    player = CaptionPlayer()
    player.send([*code(1, RCL), *place(1, 15), *typed("ONE"), *code(2, RCL), *place(2, 15), *typed("TWO")])
    player.send([*code(1, EOC), *code(2, EOC)])
    assert [(change.source, change.text) for change in player.changes] == [("CC1", "ONE"), ("CC2", "TWO")]


def test_a_channel_that_gets_nothing_is_erased_after_16_seconds() -> None:
    player = CaptionPlayer()
    last = player.send(popped_on(1, "FORGOTTEN"))
    player.wait(17)
    assert player.changes[1:] == [CaptionChange("CC1", last + 16 * 90_000, "")]


def test_of_two_changes_in_one_picture_the_last_one_counts() -> None:
    player = CaptionPlayer()
    player.send(popped_on(1, "ONE"))
    player.send([*code(1, RCL), *place(1, 15), *typed("TWO")])
    time = player.picture((0, code(1, EDM)[0]), (0, code(1, EOC)[0]))
    assert player.changes[1:] == [CaptionChange("CC1", time, "TWO")]


def test_spaces_that_place_words_become_one() -> None:
    assert shown(*typed("  A   B  ")) == "A B"
