"""Parses a number as written into its canonical form, class, range holder, region and block, as of a date.

The number plan is in dated tables (`numberplan/`). The order in which readings are tried is here. It decides how
ambiguous forms are read:

* A run of 7 or 8 digits that starts with 2-8 is a local number without its area code, even if it starts with
  86. Any other run that starts with 86, and has no other reading, has the country code.
* After a country code, `10 6xxx xxxx` and `951 xxx xxxx` are fixed numbers of Beijing and Yinchuan. Without
  one and without the trunk 0, they are a 106 port and a 95 number, because these are presented in that form.
* `951 12345` after a country code is a 95 number; `0951 12345` is the city's own 12345.
* 13 digits that start with 1064 are a data card, not a 106 port.
* An 11-digit run that starts with 13-19 is always read as a mobile number, and is irregular if the range is unassigned;
  a number of another country needs + or 00.
* An IP or carrier prefix (179xx, 12593) is dropped only before a whole number.
* A text that has the form of a short code, but none that the tables name, is of class "unknown": operators and
  provinces open codes that no table has. All other texts without a reading are irregular, as no caller can have them.

The canonical form never depends on the date; class and holder do. The holder of a range is not always the network
that serves the number: ported numbers have another one.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

from callsieve.features.records import NEAR_DISTANCE, STEPS, UNKNOWN

from .numberplan import Plan, Service, period, plan

# Compared without separators and in lower case.
_WITHHELD_TEXTS = """
anonymous unavailable restricted private privatenumber privatecaller unknown unknowncaller
unknownnumber withheld blocked hidden nonumber nocallerid notavailable none null nil nan na <na> 匿名
匿名号码 未知 未知号码 隐藏 隐藏号码 私人号码 私密号码 保密 保密号码 未显示 无 无号码 无主叫 空
"""
WITHHELD = frozenset(["", *_WITHHELD_TEXTS.split()])
# E.164 country codes of one and two digits; all others have three.
_SHORT_CODES_TEXT = """
1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65
66 81 82 84 86 90 91 92 93 94 95 98
"""
_SHORT_COUNTRY_CODES = frozenset(_SHORT_CODES_TEXT.split())
_SEPARATORS = str.maketrans("", "", "\u2010\u2011\u2012\u2013\u2014\u2212·-_.()/[]'\"")
_LONGEST = 15  # digits of an E.164 number
_SERIES_DIGITS = 18  # a 64-bit integer has room for them
_DIGITS_AT_END = re.compile("[0-9]*$")
# A form that the plan has for short codes. The tables name the known ones; a code behind an area code is shorter.
_SHORT_CODE, _AREA_SHORT_CODE = (re.compile(rf"(?:1[0-2]|9[56])[0-9]{{1,{more}}}") for more in (7, 4))
_NO_DIGITS = frozenset(("withheld", "unknown"))
_NOT_SURELY_DOMESTIC = frozenset(("foreign", "irregular", "withheld", "unknown"))


@dataclass(slots=True)
class Number:
    """A parsed number. Its repr has no digits, so that they cannot enter a log.

    `canonical` is "+86..." or "+CC..." for numbers of the E.164 plan, national digits for service codes and local
    numbers, the text itself if irregular, "" if withheld. `holder` is the holder of the range, "" if unknown. `region`
    is an area code with its 0, or the ISO country of a foreign number, or "" for mobile numbers. `block` is all but the
    last four digits (mobiles: 万号段), and at least three digits of a service code.
    """

    canonical: str = field(repr=False)
    kind: str
    holder: str
    region: str
    block: str = field(repr=False)


def parse(written: str | None, on: datetime.date) -> Number:
    """Parses a number by the number plan of a day.

    >>> on = datetime.date(2026, 11, 2)
    >>> parse("0086 138-0013-8000", on).canonical == parse("013800138000", on).canonical == "+8613800138000"
    True
    >>> number = parse("(010) 8888 8888", on)
    >>> number.canonical, number.kind, number.region, number.block
    ('+861088888888', 'fixed', '010', '0108888')
    >>> parse("192 0000 0000", datetime.date(2019, 1, 1)).kind  # not assigned then
    'irregular'
    """
    return parse_in_period(written, period(on))


def shared_digits(a: tuple[str, str], b: tuple[str, str]) -> int:
    """Returns the count of leading digits that two results of `significant` share, or UNKNOWN.

    Numbers of different countries share 0.
    """
    (country_a, digits_a), (country_b, digits_b) = a, b
    if not digits_a or not digits_b:
        return UNKNOWN
    if country_a != country_b:
        return 0
    for shared, (x, y) in enumerate(zip(digits_a, digits_b, strict=False)):
        if x != y:
            return shared
    return min(len(digits_a), len(digits_b))


def significant(number: Number) -> tuple[str, str]:
    """Returns country code and national significant number (at most 15 digits); "" for both if unknown."""
    canonical = number.canonical
    if number.kind in _NO_DIGITS or (number.kind == "fixed" and not number.region):
        return "", ""  # a local number without its area code: the leading digits are missing
    if canonical.startswith("+86"):
        country, rest = "86", canonical[3:]
    elif canonical.startswith("+"):
        size = next((n for n in (1, 2) if canonical[1 : 1 + n] in _SHORT_COUNTRY_CODES), 3)
        country, rest = canonical[1 : 1 + size], canonical[1 + size :]
    else:
        country, rest = "86", canonical.lstrip("0")
    if not _only_digits(rest):
        rest = "".join(c for c in rest if "0" <= c <= "9")
    return country, rest[:_LONGEST]


def step(previous: Number | None, current: Number) -> int:
    """Returns the dialling distance between a number and the one dialled before: an index into STEPS, or UNKNOWN."""
    if previous is None or not has_digits(previous) or not has_digits(current):
        return UNKNOWN
    if previous.canonical == current.canonical:
        return STEPS.index("same")
    before, now = series(previous), series(current)
    if before[0] == now[0] and abs(now[1] - before[1]) <= NEAR_DISTANCE:
        return STEPS.index("near")
    return STEPS.index("block" if current.block and previous.block == current.block else "other")


def has_digits(number: Number) -> bool:
    """Returns whether the number has digits: it is neither withheld nor an opaque code."""
    return number.kind not in _NO_DIGITS


def series(number: Number) -> tuple[str, int]:
    """Returns the series of a number, and its place there: two numbers of a series are as far apart as their places.

    A series is the text before the last digits of the canonical form, at most 18, with a 0 for each of these digits.

    >>> series(parse("13800139999", datetime.date(2026, 11, 2)))
    ('+0000000000000', 8613800139999)
    """
    head = number.canonical[:-_SERIES_DIGITS] + _DIGITS_AT_END.sub("", number.canonical[-_SERIES_DIGITS:])
    digits = number.canonical[len(head) :]
    return head + "0" * len(digits), int(digits or 0)


def is_domestic(number: Number) -> bool:
    """Returns whether the number certainly belongs to the Chinese number plan."""
    return number.kind not in _NOT_SURELY_DOMESTIC


def same_region(a: Number, b: Number) -> int:
    """Returns 1 if both numbers are in one area or foreign country, 0 if not, UNKNOWN if it cannot be determined."""
    if a.region and b.region:
        return int(a.region == b.region)
    if "foreign" in (a.kind, b.kind):
        other = b if a.kind == "foreign" else a
        return 0 if is_domestic(other) else UNKNOWN
    return UNKNOWN


def parse_in_period(written: str | None, period: int) -> Number:
    """Parses a number by the number plan of a period."""
    written, dated = written or "", plan(period)
    # Fast path: nearly every number is a plain mobile one.
    mobile = written[3:] if written[:3] == "+86" else written
    if len(mobile) == 11 and mobile.isdigit() and mobile.isascii():
        kind = dated.networks.get(mobile[:5])
        if kind is not None:
            return Number("+86" + mobile, kind[0], kind[1], "", mobile[:7])
    text = _compact(written)
    if text in WITHHELD:
        return Number("", "withheld", "", "", "")
    if text[0] == "+":
        return _international(text[1:], dated) or _without_reading(text, dated)
    if text[:2] == "00":
        return _international(text[2:], dated) or _without_reading("+" + text[2:], dated)
    return _domestic(text, dated) or _without_reading(text, dated)


def _domestic(text: str, plan: Plan) -> Number | None:
    if not _only_digits(text):
        return None
    number = _chinese(text, plan, country_code=False)
    if number is None and text[:2] == "86":
        return _international(text, plan) or _without_reading("+" + text, plan)
    return number or _after_carrier_prefix(text, plan)


def _only_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _compact(written: str) -> str:
    text = _bare(written)
    while not text.isascii() and (again := _bare(text)) != text:
        text = again  # removing a separator can let characters combine
    return text


def _bare(written: str) -> str:
    text = written if written.isascii() else unicodedata.normalize("NFKC", written)
    text = "".join(text.lower().translate(_SEPARATORS).split())
    if text.startswith(("tel:", "sip:", "sips:")):
        return text.split(";", 1)[0].split("@", 1)[0].rpartition(":")[2]
    return text.split("@", 1)[0]


def _without_reading(text: str, plan: Plan) -> Number:
    digits, form = text.removeprefix("+86"), _SHORT_CODE
    if digits[:1] == "0" and (area := _area(digits[1:], plan)):
        digits, form = digits[1 + len(area) :], _AREA_SHORT_CODE
    kind = "unknown" if _only_digits(digits) and form.fullmatch(digits) else "irregular"
    return Number(text, kind, "", "", text[:-4])


def _international(digits: str, plan: Plan) -> Number | None:
    if not _only_digits(digits):
        return None
    if digits[:2] == "86":
        return _chinese(digits[2:], plan, country_code=True) or _after_carrier_prefix(digits[2:], plan)
    return _foreign(digits)


def _after_carrier_prefix(digits: str, plan: Plan) -> Number | None:
    length = plan.carriers.get(digits[:3]) or plan.carriers.get(digits[:5])
    if length is None or len(digits) < length + 10:
        return None
    rest = digits[length:]
    if rest[:2] == "00":
        return _international(rest[2:], plan)
    return _chinese(rest, plan, country_code=False)


def _chinese(digits: str, plan: Plan, *, country_code: bool) -> Number | None:
    """Parses a Chinese number; `country_code` tells whether the country code preceded it."""
    trunk_zero = digits[:1] == "0"
    national = digits[1:] if trunk_zero else digits
    if len(national) == 11:
        kind = plan.networks.get(national[:5])
        if kind is not None:
            return Number("+86" + national, kind[0], kind[1], "", national[:7])
    if trunk_zero:
        return _fixed(national, plan) or _area_service(national, plan)
    if len(national) == 13:
        kind = plan.machines.get(national[:5])
        if kind is not None:
            return Number("+86" + national, kind[0], kind[1], "", national[:-4])
    if country_code:
        return _fixed(national, plan) or _service(national, plan) or _area_service(national, plan)
    return _service(national, plan) or _fixed(national, plan) or _local(national)


def _area(digits: str, plan: Plan) -> str:
    return next((digits[:n] for n in (2, 3) if digits[:n] in plan.areas), "")


def _fixed(digits: str, plan: Plan) -> Number | None:
    area = _area(digits, plan)
    local = digits[len(area) :]
    kind = plan.areas[area].get(len(local)) if area else None
    if kind is None or not "2" <= local[0] <= "8":
        return None
    return Number("+86" + digits, kind, "", "0" + area, "0" + digits[:-4])


def _local(digits: str) -> Number | None:
    if len(digits) not in (7, 8) or not "2" <= digits[0] <= "8":
        return None
    return Number(digits, "fixed", "", "", digits[:-4])


def _code(digits: str, plan: Plan) -> Service | None:
    for size in (7, 6, 5, 4, 3, 2):
        for service in plan.services.get(digits[:size], ()):
            if service.shortest <= len(digits) <= service.longest:
                return service
    return None


def _service(digits: str, plan: Plan) -> Number | None:
    code = _code(digits, plan)
    if code is None:
        return None
    return Number(digits, code.kind, code.holder, "", _code_block(digits))


def _area_service(digits: str, plan: Plan) -> Number | None:
    area = _area(digits, plan)
    if not area:
        return None
    rest = digits[len(area) :]
    code = _code(rest, plan)
    if code is None or code.scope == "alone":
        return None
    if code.scope == "nation":
        return _service(rest, plan)
    return Number("0" + digits, code.kind, code.holder, "0" + area, f"0{area}{_code_block(rest)}")


def _code_block(digits: str) -> str:
    # The first five digits of a longer code name its holder (95013 and its extensions).
    return digits[: max(3 if len(digits) <= 5 else 5, len(digits) - 4)]


@lru_cache(maxsize=4096)
def _foreign(digits: str) -> Number | None:
    import phonenumbers

    try:
        number = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    canonical = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    region = phonenumbers.region_code_for_number(number) or ""
    return Number(canonical, "foreign", "", region, canonical[:-4])
