"""Deadlines in working days, against a table made by hand from the State Council's notices of 2025 and 2026."""

from datetime import date

import pytest

from callsieve.training.oversight.governance.working_days import read_working_days

# First day, working days, deadline. Counted with a pencil on the two notices, holiday by holiday.
BY_HAND = """
2025-01-01  1 2025-01-02   New Year's Day is a Wednesday, and no weekend is worked for it
2025-01-01  3 2025-01-06
2025-01-24  1 2025-01-26   a Sunday that is worked before the Spring Festival
2025-01-24  2 2025-01-27
2025-01-24  3 2025-02-05
2025-01-24  6 2025-02-08   a Saturday that is worked after it
2025-01-24  7 2025-02-10
2025-01-24 15 2025-02-20
2025-02-04  3 2025-02-07
2025-02-04  4 2025-02-08
2025-04-03  1 2025-04-07   Qingming, Friday to Sunday
2025-04-03  3 2025-04-09
2025-04-25  1 2025-04-27   a Sunday that is worked before Labour Day
2025-04-25  4 2025-04-30
2025-04-25  5 2025-05-06
2025-04-25 15 2025-05-20
2025-04-30  3 2025-05-08
2025-05-30  1 2025-06-03   Dragon Boat Festival, Saturday to Monday
2025-05-30  3 2025-06-05
2025-09-26  1 2025-09-28   a Sunday that is worked before National Day and Mid-Autumn
2025-09-26  3 2025-09-30
2025-09-26  4 2025-10-09
2025-09-26 15 2025-10-23
2025-09-30  3 2025-10-11   a Saturday that is worked after them
2025-09-30  4 2025-10-13
2025-10-01  1 2025-10-09
2025-12-30  2 2026-01-04   a Sunday that is worked after New Year, in the next notice
2025-12-31  3 2026-01-06
2026-01-02  1 2026-01-04
2026-02-13  1 2026-02-14   a Saturday that is worked before the Spring Festival
2026-02-13  2 2026-02-24
2026-02-13  3 2026-02-25
2026-02-13 15 2026-03-12
2026-02-27  1 2026-02-28   a Saturday that is worked after it
2026-02-27  2 2026-03-02
2026-03-06  3 2026-03-11
2026-03-06 15 2026-03-27
2026-04-03  1 2026-04-07   Qingming, Saturday to Monday
2026-04-03  3 2026-04-09
2026-04-30  3 2026-05-08   Labour Day
2026-04-30  4 2026-05-09   a Saturday that is worked after it
2026-04-30  5 2026-05-11
2026-06-18  1 2026-06-22   Dragon Boat Festival, Friday to Sunday
2026-09-18  1 2026-09-20   a Sunday that is worked before National Day
2026-09-18  6 2026-09-28   Mid-Autumn, Friday to Sunday
2026-09-18 15 2026-10-15
2026-09-24  4 2026-10-08
2026-09-30  3 2026-10-10   a Saturday that is worked after National Day
2026-09-30 15 2026-10-27
2026-10-09  2 2026-10-12
2026-11-30 15 2026-12-21
2026-12-28  3 2026-12-31
"""
ROWS = [line.split()[:3] for line in BY_HAND.strip().splitlines()]
LATER = """
[[notice]]
year = 2027
source = "a notice of the test"
off = [[2027-01-01, 2027-01-03]]
working = [2027-01-09]
"""


@pytest.mark.source("L44", by="training/oversight/governance/working_days.py")
def test_deadlines_are_those_of_the_notices():
    calendar = read_working_days()
    assert len(ROWS) >= 40
    computed = [calendar.due(date.fromisoformat(begin), int(days)).isoformat() for begin, days, _ in ROWS]
    assert computed == [deadline for *_, deadline in ROWS]


@pytest.mark.source("L44", by="training/oversight/governance/working_days.py")
def test_a_deadline_in_a_year_without_a_notice_is_refused_until_a_file_has_it(tmp_path):
    for begin, days, year in (("2026-12-28", 4, 2027), ("2024-12-27", 1, 2024)):
        with pytest.raises(ValueError, match=rf"^a deadline that begins on {begin} reaches {year}, .* as --calendar$"):
            read_working_days().due(date.fromisoformat(begin), days)
    file = tmp_path / "later.toml"
    file.write_text(LATER)
    calendar = read_working_days(file)
    assert calendar.due(date(2026, 12, 28), 4) == date(2027, 1, 4)
    assert calendar.due(date(2027, 1, 8), 1) == date(2027, 1, 9)
    assert calendar.due(date(2026, 9, 30), 3) == date(2026, 10, 10), "the shipped notices still count"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("2027-01-09", "2027-01-08", "working: expected Saturdays and Sundays outside the holidays, got 2027-01-08"),
        ("2027-01-09", "2027-01-02", "working: expected Saturdays and Sundays outside the holidays, got 2027-01-02"),
        ("2027-01-09", "2028-01-08", "notice of 2027: expected days of 2027"),
        ("2027-01-03", "2026-12-31", "expected the first and the last day of each holiday"),
        ('source = "a notice of the test"', "", "source"),
        ("[[notice]]", "[[year]]", "year"),
    ],
)
def test_a_calendar_file_with_a_mistake_is_refused(tmp_path, old, new, says):
    file = tmp_path / "later.toml"
    file.write_text(LATER.replace(old, new))
    with pytest.raises(ValueError, match=rf"later\.toml: .*{says}"):
        read_working_days(file)
