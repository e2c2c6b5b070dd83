"""Short codes have the class that their source states. A code that no table names is unknown and is never blocked."""

import datetime
from dataclasses import replace

import pytest

from callsieve.features.intake.numbers import parse
from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.rules.policy import final_action, read_policy
from callsieve.serving.rules.rules import PROTECTED, matching_rules
from tests.serving.rules.test_rules import plain

ON = datetime.date(2026, 11, 2)
# Class by code, written from the sources that `services.csv` names.
CODES = {
    "emergency": "110 119 120 122 12110 12119 12395 95110 95119",
    "public_service": "10000 10001 10010 10050 10086 10099 1008611 1001011 1000011 11183 11185 11888 114 116114 118114 "
    "12121 12301 12306 12315 12318 12321 12333 12345 12348 12355 12366 12368 12369 12381 12388 12580 96110 96119",
    "95_service": "95128 95306 95338 95500 95511 95519 95533 95555 95566 95588 95599 955100 956000",
    "95_call_centre": "95013 95040 95105 95213 95700 95013123",
    "96": "96111 96315 96777 968888 9612345",
}
UNKNOWN = (
    "10086123 101 1010 111 1121 11223 116 118100 1183 11999 125 12520 12530 1258 1259 126 127 12999 "
    "9551901 955881234 956 9630 960 02811999 +8611999"
)
IMPOSSIBLE = (
    "0 1 12 13 95 97 999999 1380013800 138001380000 11111111111 12345678901 9655555555 1008611234 "
    "00012345 0261234567 robot *21# +86 +99912345 99 9999 97123 98765"
)


def kind(text):
    return parse(text, ON).kind


@pytest.mark.source("L19", by="features/intake/numberplan/services.csv")
@pytest.mark.parametrize(("name", "code"), [(name, code) for name, codes in CODES.items() for code in codes.split()])
def test_a_code_has_the_class_of_its_source_alone_and_after_the_country_code(name, code):
    assert kind(code) == kind(f"+86{code}") == name


@pytest.mark.parametrize("code", ["110", "12119", "12345", "12580", "96110", "96119", "116114", "118114"])
def test_a_code_of_an_area_keeps_its_class_behind_an_area_code(code):
    local = parse(f"028{code}", ON)
    assert (local.kind, local.region) == (kind(code), "028")


@pytest.mark.source("L19", by="features/intake/numbers.py")
@pytest.mark.parametrize("code", UNKNOWN.split())
def test_a_code_that_no_table_names_is_unknown_and_keeps_its_digits(code):
    number = parse(code, ON)
    assert (number.kind, number.canonical, number.holder) == ("unknown", code, "")


@pytest.mark.parametrize("text", IMPOSSIBLE.split())
def test_a_form_that_no_caller_can_have_is_irregular(text):
    assert kind(text) == "irregular"


@pytest.mark.source("L19", by="features/intake/numbers.py")
def test_the_plan_of_2018_blocks_impossible_forms_and_no_short_code():
    policy = replace(read_policy("plan-2018"), appeal="office")

    def action(text):
        call = plain(caller_class=float(NUMBER_CLASSES.index(kind(text))))
        return final_action(policy, "pass", {rule.name for rule in matching_rules(call, policy.terms)})

    assert {action(text) for text in IMPOSSIBLE.split()} == {"block"}
    assert "block" not in {action(code) for codes in CODES.values() for code in codes.split()}
    assert {action(code) for code in UNKNOWN.split()} == {"pass"}


@pytest.mark.parametrize("code", ["96110", "12119", "95119", "12580", "1008611", "116114"])
def test_codes_that_warn_people_are_protected(code):
    assert kind(code) in PROTECTED


@pytest.mark.parametrize(
    ("text", "holder"),
    [
        ("1064112345678", "China Telecom"), ("1064612345678", "China Unicom"), ("1064712345678", "China Mobile"),
        ("1064812345678", "China Mobile"), ("1064912345678", "China Telecom"), ("1410123456789", "China Telecom"),
    ],
)  # fmt: skip
def test_a_data_card_has_the_holder_of_its_range(text, holder):
    number = parse(text, ON)
    assert (number.kind, number.holder) == ("iot", holder)
