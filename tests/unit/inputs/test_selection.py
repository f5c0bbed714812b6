"""Which input is on air."""

from gateway.inputs.selection import Candidate, choose

YES = Candidate(True, 60)
NEW = Candidate(True, 0.5)
NO = Candidate(False)


def test_the_first_usable_input_begins():
    assert choose([NO, NEW, YES], None, None, 2) == 1
    assert choose([NO, NO], None, None, 2) is None


def test_a_lost_input_is_replaced_at_once_by_the_first_usable_one():
    assert choose([NO, NO, NEW], 0, None, 2) == 2
    assert choose([NO, NO], 0, None, 2) is None


def test_a_better_input_returns_only_when_it_is_steady():
    assert choose([NEW, YES], 1, None, 2) == 1
    assert choose([Candidate(True, 2), YES], 1, None, 2) == 0
    assert choose([NEW, YES, YES], 2, None, 2) == 1


def test_a_worse_input_never_replaces_a_usable_one():
    assert choose([NEW, YES], 0, None, 0) == 0


def test_without_returns_inputs_change_only_manually_or_after_a_failure():
    assert choose([YES, YES], 1, None, 2, automatic=False) == 1
    assert choose([YES, NO], 1, None, 2, automatic=False) == 0


def test_a_manually_selected_input_is_on_air_whenever_it_delivers():
    assert choose([YES, NEW], 0, 1, 2) == 1
    assert choose([YES, NO, YES], 1, 1, 2) == 0
    assert choose([YES, NO, YES], 2, 1, 2) == 0, "while the taken one is away, the choice is automatic"
