"""The tables of docs/capacity.md equal the output of the simulation, and its costs are computed correctly."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.capacity import QUICK, shown
from tools.capacity import bill, measured, prices
from tools.capacity.__main__ import PACKAGE, PAGE, code, fingerprint
from tools.capacity.bill import Usage
from tools.capacity.demand import Media
from tools.capacity.measured import Figure
from tools.capacity.tables import TABLES, number


def test_the_page_shows_every_table() -> None:
    assert sorted(shown()) == sorted(TABLES)


@pytest.mark.parametrize("name", QUICK)
def test_a_table_of_the_page_equals_the_printed_table(name: str) -> None:
    assert shown()[name] == TABLES[name](), f"`make capacity-page` writes the page's tables anew ({name})"


def test_a_changed_table_changes_the_fingerprint() -> None:
    page = PAGE.read_text("utf-8")
    before = fingerprint(page, "code")
    assert fingerprint(page.replace("# ", "# Another heading: ", 1), "code") == before
    assert fingerprint(page, "other code") != before
    for table in shown().values():
        assert fingerprint(page.replace(table, table.replace("|", "||", 1)), "code") != before


def test_changes_of_code_but_not_of_comments_change_the_fingerprint(tmp_path: Path) -> None:
    before = code()
    shutil.copytree(PACKAGE, tmp_path, dirs_exist_ok=True)
    measured = (tmp_path / "measured.py").read_text("utf-8")
    (tmp_path / "measured.py").write_text(f"{measured}\n# a remark\n")
    assert code(tmp_path) == before
    (tmp_path / "measured.py").write_text(measured.replace("Figure(0.", "Figure(1.", 1))
    assert code(tmp_path) != before


def test_each_price_tier_applies_to_its_own_volume() -> None:
    assert prices.tiered(10_000, prices.CLOUDFRONT_GB) == pytest.approx(850)
    assert prices.tiered(60_000, prices.CLOUDFRONT_GB) == pytest.approx(850 + 3_200 + 600)
    assert prices.tiered(200_000, prices.INTERNET_GB) == pytest.approx(900 + 3_400 + 7_000 + 2_500)


def test_a_load_balancer_costs_its_largest_dimension() -> None:
    quiet = Usage(0, 0, 10, 0, 0, 0, 0, 0, joins=1, open=100)
    busy = Usage(0, 0, 10, 0, 0, 0, 0, 0, joins=1_000, open=100)
    hour = prices.HOURS_PER_MONTH
    both = 2 * prices.BALANCER_HOUR
    assert bill.month(quiet)["balancers"] == pytest.approx((both + 10 * prices.ALB_LCU_HOUR) * hour)
    assert bill.month(busy)["balancers"] == pytest.approx((both + 40 * prices.ALB_LCU_HOUR) * hour)


def test_every_measured_figure_names_its_command() -> None:
    figures = [x for x in vars(measured).values() if isinstance(x, Figure)]
    assert len(figures) > 10
    assert all(x.value > 0 and x.unit and "bench" in x.how for x in figures)


def test_an_hour_of_a_stream_in_gigabytes_follows_from_the_bitrate() -> None:
    assert Media(bitrate=2_500_000).gb_hour == pytest.approx(1.125)


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (9.87, "9.9"), (45.67, "45.7"), (1_234, "1,230"), (9_999_999, "10,000,000")]
)
def test_numbers_are_rounded_to_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text
