"""Numbers are parsed as in the examples, as by `phonenumbers`, and the same again from their canonical form."""

import datetime
import random
import re
import subprocess
import sys
from collections import Counter

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.intake import numberplan
from callsieve.features.intake.numberplan import EPOCH, _table, changes, period, plan
from callsieve.features.intake.numbers import Number, parse, same_region, shared_digits, significant, step
from callsieve.features.records import STEPS, UNKNOWN

ON = datetime.date(2026, 11, 2)
MOBILE = "+8613800138000"
BEIJING = "+861088888888"


@pytest.mark.parametrize(
    ("text", "canonical", "kind", "region", "block"),
    [
        # mobiles, with prefixes and separators
        ("13800138000", MOBILE, "mobile", "", "1380013"),
        ("+8613800138000", MOBILE, "mobile", "", "1380013"),
        ("008613800138000", MOBILE, "mobile", "", "1380013"),
        ("8613800138000", MOBILE, "mobile", "", "1380013"),
        ("013800138000", MOBILE, "mobile", "", "1380013"),
        ("+86013800138000", MOBILE, "mobile", "", "1380013"),
        ("1795113800138000", MOBILE, "mobile", "", "1380013"),
        ("1259313800138000", MOBILE, "mobile", "", "1380013"),
        ("861259313800138000", MOBILE, "mobile", "", "1380013"),
        ("179510013800138000", "179510013800138000", "irregular", "", "17951001380013"),
        ("138-0013 8000", MOBILE, "mobile", "", "1380013"),
        ("＋８６　１３８００１３８０００", MOBILE, "mobile", "", "1380013"),
        ("tel:+86-138-0013-8000", MOBILE, "mobile", "", "1380013"),
        ("sip:+8613800138000@example.org;user=phone", MOBILE, "mobile", "", "1380013"),
        ("17000000000", "+8617000000000", "resale", "", "1700000"),
        ("16212345678", "+8616212345678", "resale", "", "1621234"),
        ("13491234567", "+8613491234567", "irregular", "", "1349123"),
        ("13492234567", "+8613492234567", "satellite", "", "1349223"),
        ("17401234567", "+8617401234567", "satellite", "", "1740123"),
        ("16191234567", "+8616191234567", "satellite", "", "1619123"),
        ("15412345678", "+8615412345678", "irregular", "", "1541234"),  # 154 is not assigned
        ("1410123456789", "+861410123456789", "iot", "", "141012345"),
        ("+861064712345678", "+861064712345678", "iot", "", "106471234"),
        # fixed
        ("010-88888888", BEIJING, "fixed", "010", "0108888"),
        ("+86 (10) 8888 8888", BEIJING, "fixed", "010", "0108888"),
        ("1088888888", BEIJING, "fixed", "010", "0108888"),
        ("1795101088888888", BEIJING, "fixed", "010", "0108888"),
        ("03108888888", "+863108888888", "fixed", "0310", "0310888"),
        ("031088888888", "031088888888", "irregular", "", "03108888"),  # one digit too many for Handan
        ("01018888888", "01018888888", "irregular", "", "0101888"),  # no local number starts with 1
        ("02688888888", "02688888888", "irregular", "", "0268888"),  # no such area
        ("88888888", "88888888", "fixed", "", "8888"),
        ("8888888", "8888888", "fixed", "", "888"),
        # service codes
        ("95588", "95588", "95_service", "", "955"),
        ("+8695588", "95588", "95_service", "", "955"),
        ("01095588", "95588", "95_service", "", "955"),
        ("955888888", "955888888", "unknown", "", "95588"),
        ("95013", "95013", "95_call_centre", "", "950"),
        ("95013123456", "95013123456", "95_call_centre", "", "9501312"),
        ("95110", "95110", "emergency", "", "951"),
        ("96111", "96111", "96", "", "961"),
        ("02896111", "02896111", "96", "028", "028961"),
        ("+862896111", "02896111", "96", "028", "028961"),
        ("400-123-4567", "4001234567", "400", "", "400123"),
        ("+864001234567", "4001234567", "400", "", "400123"),
        ("04001234567", "04001234567", "irregular", "", "0400123"),
        ("8001234567", "8001234567", "800", "", "800123"),
        ("10101234", "10101234", "1010", "", "10101"),
        ("106900001234", "106900001234", "106", "", "10690000"),
        ("10086", "10086", "public_service", "", "100"),
        ("01010086", "10086", "public_service", "", "100"),
        ("12345", "12345", "public_service", "", "123"),
        ("02812345", "02812345", "public_service", "028", "028123"),
        ("110", "110", "emergency", "", "110"),
        ("010110", "010110", "emergency", "010", "010110"),
        # other countries
        ("+1 415 555 2671", "+14155552671", "foreign", "US", "+1415555"),
        ("0014155552671", "+14155552671", "foreign", "US", "+1415555"),
        ("+852 9123 4567", "+85291234567", "foreign", "HK", "+8529123"),
        ("17951008 5291234567", "+85291234567", "foreign", "HK", "+8529123"),
        ("+44 (0)20 7946 0018", "+442079460018", "foreign", "GB", "+44207946"),
        ("+999123456789", "+999123456789", "irregular", "", "+99912345"),
        ("+0123456", "+0123456", "irregular", "", "+012"),
        # no form of the plan
        ("11111111111", "11111111111", "irregular", "", "1111111"),
        ("12", "12", "irregular", "", ""),
        ("Robot-7", "robot7", "irregular", "", "ro"),
        ("+", "+", "irregular", "", ""),
        ("+86", "+86", "irregular", "", ""),
        ("*21#", "*21#", "irregular", "", ""),
    ],
)
def test_a_number_is_parsed_to_its_parts(text, canonical, kind, region, block):
    number = parse(text, ON)
    assert (number.canonical, number.kind, number.region, number.block) == (canonical, kind, region, block)


@pytest.mark.parametrize(
    ("text", "canonical", "kind"),
    [
        ("86123456", "86123456", "fixed"),  # eight local digits, not +86 123456
        ("8695588", "8695588", "fixed"),  # seven local digits, not +86 95588
        ("86110", "110", "emergency"),  # five digits are no local number
        ("8688881234", "+8688881234", "irregular"),  # a country code, and then no area
        ("1065551234", "1065551234", "106"),
        ("+861065551234", "+861065551234", "fixed"),
        ("01065551234", "+861065551234", "fixed"),
        ("9512345678", "9512345678", "95_call_centre"),
        ("+869512345678", "+869512345678", "fixed"),
        ("09512345678", "+869512345678", "fixed"),
        ("+8695112345", "95112345", "95_call_centre"),
        ("095112345", "095112345", "public_service"),
        ("1064712345678", "+861064712345678", "iot"),
        ("106471234567", "106471234567", "106"),
        ("14155552671", "+8614155552671", "irregular"),  # no + or 00: not guessed to be of another country
        ("17951234567", "+8617951234567", "irregular"),  # too short to be a prefix and a whole number
        ("1795188888888", "1795188888888", "irregular"),  # a local number is not a whole one
    ],
)
def test_an_ambiguous_number_is_parsed_in_one_way(text, canonical, kind):
    number = parse(text, ON)
    assert (number.canonical, number.kind) == (canonical, kind)


@pytest.mark.parametrize("text", [None, "", " ", "-", "Anonymous", "UNAVAILABLE", "n/a", "no number", "匿名"])
def test_texts_without_a_number_are_withheld(text):
    assert parse(text, ON) == Number("", "withheld", "", "", "")


# Prefixes of numbers with 11 digits by class and holder, from the ministry's list of network numbers of 2023-03.
RANGES = {
    (
        "mobile",
        "China Mobile",
    ): "1340 1348 135 136 137 138 139 147 148 150 151 152 157 158 159 172 178 182 183 184 187 188 195 197 198",
    ("mobile", "China Unicom"): "130 131 132 145 146 155 156 166 175 176 185 186 196",
    ("mobile", "China Telecom"): "133 149 153 173 177 180 181 189 190 191 193 199",
    ("mobile", "China Broadnet"): "192",
    ("resale", "China Mobile"): "165 1703 1705 1706",
    ("resale", "China Unicom"): "167 1704 1707 1708 1709 171",
    ("resale", "China Telecom"): "162 1700 1701 1702",
    ("irregular", ""): "140 154 160 161 163 164 168 169 179 194",
}
# Digits of a subscriber's number by area code (`phonenumbers`); 0 for a code that was abolished.
AREAS = {"010": 8, "024": 8, "0311": 8, "0731": 8, "0898": 8, "0310": 7, "0470": 7, "0937": 7, "0413": 0,
         "0634": 0, "0852": 0, "0853": 0, "0899": 0}  # fmt: skip


@pytest.mark.parametrize("known", RANGES, ids=" ".join)
def test_a_range_has_the_class_and_the_holder_of_the_list(known):
    for prefix in RANGES[known].split():
        number = parse(prefix.ljust(11, "2"), ON)
        assert (number.kind, number.holder) == known, prefix


def test_a_fixed_number_has_the_digits_of_its_area():
    for code, digits in AREAS.items():
        kinds = {length: parse(code + "6" * length, ON).kind for length in (7, 8)}
        assert kinds == {length: "fixed" if length == digits else "irregular" for length in (7, 8)}, code


def test_ranges_apply_from_their_first_day():
    before, first = datetime.date(2019, 11, 30), datetime.date(2019, 12, 1)
    assert parse("19212345678", before).kind == "irregular"
    assert parse("19212345678", first).kind == "mobile"
    assert period(first) == period(before) + 1
    assert parse("13800138000", datetime.date(1999, 1, 1)).kind == "mobile"


def test_every_row_of_the_tables_has_a_source():
    names = ("networks.csv", "machines.csv", "areas.csv", "services.csv", "carriers.csv")
    assert all(row.cells["source"] and row.since < row.until for name in names for row in _table(name))
    assert len(plan(len(changes())).areas) > 300


# Any text, and texts that are nearly numbers.
digits = st.text("0123456789", min_size=1, max_size=14)
heads = ["", "+86", "86", "0", "00", "+", "0086", "17951", "12593", "010", "0951", "95", "96", "106", "400", "1064",
         "138"]  # fmt: skip
nearly = st.builds(str.__add__, st.sampled_from(heads), digits)
texts = st.one_of(nearly, st.from_regex(r"(\+86)?(0)?1[3-9][0-9]{9}", fullmatch=True), st.text(max_size=20))
dates = st.dates(datetime.date(2000, 1, 1), datetime.date(2030, 1, 1))


@given(texts, dates, dates)
def test_the_canonical_form_is_the_same_on_any_date_and_of_itself(text, on, later):
    number, a = parse(text, on), parse(text, later)
    assert parse(number.canonical, on) == number
    assert (number.canonical, number.block) == (a.canonical, a.block)


@given(texts)
def test_neither_a_block_nor_the_repr_is_a_whole_subscriber_number(text):
    number = parse(text, ON)
    if number.kind in ("mobile", "resale", "satellite", "iot", "fixed", "foreign"):
        assert len(number.block.lstrip("+0")) <= len(number.canonical.lstrip("+")) - 4
    hidden = repr(number).replace(number.region, "")
    assert not re.search(r"\d{5}", hidden)


# `phonenumbers` as the oracle. Where the two differ, and why:
DIFFERENT = {
    "14[689]": "assigned in the MIIT list; the library knows them as data cards or not at all",
    "1349[^239]": "only 13492, 13493 and 13499 are assigned; the library takes all of 134",
    "1610": "not in the MIIT list; the library takes it",
    "1619": "satellites, assigned in the MIIT list; not in the library",
    "174(0[6-9]|1[0-2]|9)": "satellites, assigned in the MIIT list; not in the library",
    "(10|21)800": "access codes of international free calls to the library; we leave them to the area",
    "(10|2[0-57-9]|[3-9][0-9][0-9])[019]": "no subscriber number starts so (K); the library takes some",
}
OURS = {"mobile": "mobile", "resale": "mobile", "satellite": "mobile", "fixed": "fixed", "400": "400", "800": "800"}
TYPES = phonenumbers.PhoneNumberType
THEIRS = {TYPES.MOBILE: "mobile", TYPES.FIXED_LINE: "fixed", TYPES.SHARED_COST: "400", TYPES.TOLL_FREE: "800"}


def drawn_nationals():
    random.seed(7)
    tail = lambda n: "".join(random.choices("0123456789", k=n))
    # Every five-digit head of a mobile number once: the whole table is compared.
    yield from (f"1{head}{tail(6)}" for head in range(3000, 10000))
    areas = ["10", *(f"2{n}" for n in range(10)), *map(str, range(300, 1000))]
    yield from (
        f"{area}{tail(n)}" for area in areas for n in (6, 7, 8, 9) for _ in range(3) if area not in ("400", "800")
    )
    yield from (f"{head}{tail(n)}" for head in ("400", "800") for n in (6, 7, 8) for _ in range(100))
    yield from (f"{head}{tail(5)}" for head in ("10800", "21800", "22800") for _ in range(10))


def test_parse_agrees_with_phonenumbers_except_where_documented():
    explained = Counter()
    for national in drawn_nationals():
        number = parse("+86" + national, ON)
        ours = OURS.get(number.kind, "none")
        theirs = phonenumbers.PhoneNumber(country_code=86, national_number=int(national))
        expected = THEIRS.get(phonenumbers.number_type(theirs), "none")
        if expected == "400" and not national.startswith("400"):
            expected = "none"  # 95 and 96 codes: the overlap ends here
        if ours == expected:
            if ours in ("mobile", "fixed"):
                assert number.canonical == phonenumbers.format_number(theirs, phonenumbers.PhoneNumberFormat.E164)
            continue
        reason = next((head for head in DIFFERENT if re.match(head, national)), None)
        assert reason, f"head {national[:5]}, {len(national)} digits: {ours}, phonenumbers says {expected}"
        explained[reason] += 1
    assert set(explained) == set(DIFFERENT)  # a reason without any difference is out of date


def test_phonenumbers_is_loaded_for_foreign_numbers_only():
    code = """
import datetime, sys
from callsieve.features.intake.numbers import parse
on = datetime.date(2026, 1, 1)
parse("13800138000", on); parse("010-88888888", on); parse("nonsense", on)
assert "phonenumbers" not in sys.modules
parse("+14155552671", on)
assert "phonenumbers" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def at(text):
    return parse(text, ON)


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        ("13800138000", "+8613800138001", 10),
        ("13800138000", "13800138000", 11),
        ("13800138000", "010-88888888", 1),
        ("010-88888888", "+861088889999", 6),
        ("13800138000", "+13800138000", 0),  # not even a number there: but another country code
        ("+14155552671", "+14155559999", 6),
        ("+85291234567", "+85391234567", 0),
        ("88881234", "88885678", UNKNOWN),  # the area is not known
        ("13800138000", "anonymous", UNKNOWN),
        ("13800138000", "#", UNKNOWN),
    ],
)
def test_shared_prefix_counts_common_digits(a, b, shared):
    first, second = significant(at(a)), significant(at(b))
    assert shared_digits(first, second) == shared_digits(second, first) == shared


@pytest.mark.parametrize(
    ("previous", "current", "word"),
    [
        ("13800138000", "+86 138 0013 8000", "same"),
        ("13800138000", "13800138010", "near"),
        ("13800138010", "13800138000", "near"),
        ("13800138000", "13800138011", "block"),
        ("13800139999", "13800140000", "near"),  # the next block
        ("13800139995", "13800140006", "other"),
        ("010-88889999", "010-88890009", "near"),
        ("021-66669999", "+86 21 66670000", "near"),
        ("010-88880001", "010-88880002", "near"),
        ("95013", "950131", "other"),
        ("#0001", "#0002", "near"),
    ],
)
def test_step_classifies_consecutive_callees(previous, current, word):
    assert STEPS[step(at(previous), at(current))] == word


@given(st.integers(13800000000, 13801000000), st.integers(-12, 12))
@settings(max_examples=200)
def test_numbers_within_ten_are_near_in_whatever_block(number, distance):
    expected = "same" if distance == 0 else "near" if abs(distance) <= 10 else None
    other = number + distance
    expected = expected or ("block" if number // 10_000 == other // 10_000 else "other")
    assert STEPS[step(at(str(number)), at(str(other)))] == expected


def test_step_without_digits_is_unknown():
    assert step(None, at("13800138000")) == UNKNOWN
    assert step(at(""), at("13800138000")) == step(at("13800138000"), at("")) == UNKNOWN


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("010-88888888", "+861066666666", 1),
        ("010-88888888", "021-66666666", 0),
        ("02896111", "028-66666666", 1),
        ("+14155552671", "13800138000", 0),  # wherever the mobile is from
        ("+14155552671", "+12125550123", 1),
        ("13800138000", "13800138001", UNKNOWN),
        ("+14155552671", "anonymous", UNKNOWN),
        ("+14155552671", "99999", UNKNOWN),
    ],
)
def test_same_region_compares_areas_and_countries(a, b, same):
    assert same_region(at(a), at(b)) == same_region(at(b), at(a)) == same


def test_an_area_or_a_service_outside_its_time_is_known_and_not_assigned(monkeypatch):
    cells = {"prefix": "95", "min_length": "5", "max_length": "5", "kind": "service", "holder": "h", "scope": "nation"}
    rows = {
        "areas.csv": [({"code": "010", "local_lengths": "8"}, 0), ({"code": "010", "local_lengths": "7 8"}, 1)],
        "services.csv": [(cells, 1), (cells | {"prefix": "96"}, 1), (cells | {"prefix": "96"}, 0)],
    }
    table = lambda name: tuple(numberplan._Row(row, -(1 << 40) + since, 1 << 40) for row, since in rows.get(name, ()))
    monkeypatch.setattr(numberplan, "_table", table)
    monkeypatch.setattr(numberplan, "_day", lambda *_: -(1 << 40))
    plan_of_day = plan.__wrapped__(0)
    assert plan_of_day.areas == {"010": {8: "fixed", 7: "irregular"}}
    kinds = {prefix: [(s.kind, s.holder) for s in services] for prefix, services in plan_of_day.services.items()}
    assert kinds == {"95": [numberplan.UNKNOWN_CODE], "96": [("service", "h")]}


def test_characters_combine_after_a_separator_is_removed():
    assert at("e-\u0301").canonical == at("\u00e9").canonical == "\u00e9"


def test_changes_are_days_in_order():
    assert list(changes()) == sorted(set(changes()))
    assert (datetime.date(2017, 8, 1) - EPOCH).days in changes()
