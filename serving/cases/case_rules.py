"""How appeals are taken and decided: one reviewed file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from callsieve.features.files.dates import DAY, HOUR
from callsieve.features.files.strict_json import as_fields, as_integer, as_list, as_mapping, as_number, as_text
from callsieve.features.files.toml_file import read_toml

LINKS = ("block", "trunk", "device")


@dataclass(frozen=True, slots=True)
class CaseRules:
    """The values of `cases.toml`; times in milliseconds."""

    version: str
    answer: int
    unlisted: int
    grounds: tuple[str, ...]
    per_number: int
    limited: int
    links: tuple[str, ...]
    together: int
    crowd: int
    persons: int
    harmful: int
    harm: Mapping[str, float]
    redress: Mapping[str, str]


def read_case_rules(path: str | Path | None = None) -> CaseRules:
    """Read a file of rules; the one that comes with the package if no path is given.

    Raises:
        ValueError: in one line that says which field breaks which rule.
    """
    name = str(path or "cases.toml")
    told = read_toml(Path(path) if path else files(__package__).joinpath("cases.toml"), name)
    try:
        return _rules(told)
    except ValueError as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from None


def _rules(table: Mapping[str, Any]) -> CaseRules:
    top = ("version", "answer_hours", "unlisted_days", "grounds", "limits", "together", "harm", "redress")
    told = as_fields(table, "rules", top)
    limits = as_fields(told["limits"], "limits", ("per_number", "days"))
    together = as_fields(told["together"], "together", ("links", "hours", "crowd", "persons"))
    harm = as_mapping(as_fields(told["harm"], "harm", ("days", "label", "screen", "block")), "harm")
    redress = as_fields(told["redress"], "redress", ("en", "zh"))
    links = tuple(as_text(word, "together: links") for word in as_list(together["links"], "together: links", 0, 3))
    if not set(links) <= set(LINKS):
        raise ValueError(f"together: links must be of {', '.join(LINKS)}")
    return CaseRules(
        version=as_text(told["version"], "version"),
        answer=round(HOUR * as_number(told["answer_hours"], "answer_hours", 0.01, 10_000)),
        unlisted=round(DAY * as_number(told["unlisted_days"], "unlisted_days", 0.01, 10_000)),
        grounds=tuple(as_text(word, "grounds") for word in as_list(told["grounds"], "grounds", 1, 100)),
        per_number=as_integer(limits["per_number"], "limits: per_number", 1),
        limited=round(DAY * as_number(limits["days"], "limits: days", 0.01, 10_000)),
        links=links,
        together=round(HOUR * as_number(together["hours"], "together: hours", 0.01, 10_000)),
        crowd=as_integer(together["crowd"], "together: crowd", 2),
        persons=as_integer(together["persons"], "together: persons", 1, 10),
        harmful=round(DAY * as_number(harm["days"], "harm: days", 0.01, 10_000)),
        harm={word: as_number(harm[word], f"harm: {word}", 0, 1000) for word in ("label", "screen", "block")},
        redress={language: as_text(words, f"redress: {language}") for language, words in redress.items()},
    )
