"""The language of pages: English, or Chinese from `zh.po`.

Texts in templates and code are English, and are the keys of the catalogue. `gettext` returns a text in the language
that `language` has set. Names of kinds, which are data, go through `words` or `phrase`.
`tests/training/test_language.py` checks that the catalogue is complete and has nothing that is not used.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime
from functools import cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from zoneinfo import ZoneInfo

LANGUAGES = ("en", "zh")
CATALOGUE = Path(__file__).with_name("zh.po")
BEIJING = "Asia/Shanghai"
NAME = "name"
"""Context, in the catalogue, of names that are data: kinds of callers, evasions, number classes, baselines."""

_LANGUAGE: ContextVar[str] = ContextVar("callsieve_language", default="en")
_VALUE = re.compile(r"'[^']*'|\b[0-9a-f]{16,}\b|(?:\d[\d,.]*\d|\d)(?:e[+-]?\d+)?")


@contextmanager
def language(name: str) -> Iterator[None]:
    """Sets the language of the pages that are written within the block.

    >>> with language("zh"):
    ...     gettext("not measured")
    '未测'
    """
    if name not in LANGUAGES:
        raise ValueError(f"language: expected one of {', '.join(LANGUAGES)}, got {name!r}")
    token = _LANGUAGE.set(name)
    try:
        yield
    finally:
        _LANGUAGE.reset(token)


def current_language() -> str:
    """Returns the language in force: "en" or "zh"."""
    return _LANGUAGE.get()


@cache
def _translations(name: str) -> NullTranslations:
    if name == "en":
        return NullTranslations()
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = io.BytesIO()
    with CATALOGUE.open("rb") as file:
        write_mo(compiled, read_po(file))
    compiled.seek(0)
    return GNUTranslations(compiled)


def message(text: str) -> str:
    """Returns the text in the language in force, with its placeholders as they are."""
    return _translations(current_language()).gettext(text)


def gettext(text: str, **values: object) -> str:
    """Returns the text in the language in force."""
    return message(text) % values


def words(name: str) -> str:
    """Returns the name of a kind with spaces, in the language in force; a name without a translation stays.

    >>> words("low_and_slow")
    'low and slow'
    >>> with language("zh"):
    ...     [words(name) for name in ("low_and_slow", "class mobile", "my_own_kind")]
    ['低频慢拨', '类别：移动号码', 'my own kind']
    """
    plain = name.replace("_", " ")
    head, _, rest = plain.partition("class ")
    return gettext("class %(name)s", name=phrase(rest)) if rest and not head else phrase(plain)


def phrase(text: str) -> str:
    """Returns a text of the figures in the language in force; a text without a translation stays as it is.

    Numbers, hashes and quoted parts are not translated: the catalogue has `#` in their place.

    >>> with language("zh"):
    ...     [phrase(text) for text in ("simulated world 'tiny', seed 3", "calls_2026/may.csv")]
    ["模拟世界'tiny'，随机种子3", 'calls_2026/may.csv']
    """
    known = _translations(current_language())
    exact = known.pgettext(NAME, text)
    if exact != text:
        return exact
    parts = known.pgettext(NAME, _VALUE.sub("#", text)).split("#")
    values = _VALUE.findall(text)
    if len(parts) != len(values) + 1:
        return text
    return parts[0] + "".join(value + part for value, part in zip(values, parts[1:], strict=True))


def table_name(name: str) -> str:
    """Returns the name of a table in the language in force; a name may end in the number of its folder.

    >>> with language("zh"):
    ...     [table_name(name) for name in ("complaints", "complaints 2")]
    ['举报', '举报 2']
    """
    plain, _, place = name.rpartition(" ")
    return f"{words(plain)} {place}" if place.isdecimal() else words(name)


def moment(text: str) -> str:
    """Returns an ISO 8601 moment in words, in the language in force; in Chinese it is Beijing time.

    >>> moment("2025-03-09T16:00:00Z")
    '9 March 2025, 16:00 UTC'
    >>> with language("zh"):
    ...     moment("2025-03-09T16:00:00Z")
    '北京时间2025年3月10日 00:00'
    """
    at = datetime.fromisoformat(text)
    if current_language() == "zh":
        at = at.astimezone(ZoneInfo(BEIJING))
    return gettext("%(day)s, %(time)s UTC", day=day(at), time=at.strftime("%H:%M"))


def day(value: date, year: bool = True) -> str:
    """Returns a date in the form of the language.

    >>> day(date(2025, 3, 9))
    '9 March 2025'
    >>> with language("zh"):
    ...     [day(date(2025, 3, 9)), day(date(2025, 3, 9), year=False)]
    ['2025年3月9日', '3月9日']
    """
    from babel.dates import format_date, format_skeleton

    locale = {"en": "en_GB", "zh": "zh_CN"}[current_language()]
    return format_date(value, "long", locale) if year else format_skeleton("MMMd", value, locale=locale)
