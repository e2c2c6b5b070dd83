"""The rules of appeals (`cases.toml`): how appeals are accepted, grouped and decided, in one reviewed file."""

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
    """The values of `cases.toml`. All times are in milliseconds.

    Attributes:
        version: version of the file.
        answer_time: from an appeal to the moment by which a reviewer must have decided.
        clearance: how long a caller passes after an appeal was overturned in its favour.
        grounds: the grounds that an appellant may state.
        max_appeals: appeals of one number within `appeal_window`.
        appeal_window: see `max_appeals`.
        links: what links appeals into a group, of LINKS.
        group_gap: longest time between two linked appeals of a group.
        large_group: number of members from which several reviewers must agree.
        reviewers: number of reviewers who must agree in a large group.
        harm_window: how long a case counts for harm.
        harm: weight of each action.
        redress: where an appellant can turn after a decision, by language.
    """

    version: str
    answer_time: int
    clearance: int
    grounds: tuple[str, ...]
    max_appeals: int
    appeal_window: int
    links: tuple[str, ...]
    group_gap: int
    large_group: int
    reviewers: int
    harm_window: int
    harm: Mapping[str, float]
    redress: Mapping[str, str]


def read_case_rules(path: str | Path | None = None) -> CaseRules:
    """Reads a file of case rules; the shipped file if no path is given.

    Raises:
        ValueError: in one line, which names the field and the violated rule.
    """
    name = str(path or "cases.toml")
    table = read_toml(Path(path) if path else files(__package__).joinpath("cases.toml"), name)
    try:
        return _rules(table)
    except ValueError as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from None


def _rules(table: Mapping[str, Any]) -> CaseRules:
    names = ("version", "answer_hours", "unlisted_days", "grounds", "limits", "together", "harm", "redress")
    fields = as_fields(table, "rules", names)
    limits = as_fields(fields["limits"], "limits", ("per_number", "days"))
    together = as_fields(fields["together"], "together", ("links", "hours", "crowd", "persons"))
    harm = as_mapping(as_fields(fields["harm"], "harm", ("days", "label", "screen", "block")), "harm")
    redress = as_fields(fields["redress"], "redress", ("en", "zh"))
    links = tuple(as_text(link, "together: links") for link in as_list(together["links"], "together: links", 0, 3))
    if not set(links) <= set(LINKS):
        raise ValueError(f"together: links must be of {', '.join(LINKS)}")
    return CaseRules(
        version=as_text(fields["version"], "version"),
        answer_time=round(HOUR * as_number(fields["answer_hours"], "answer_hours", 0.01, 10_000)),
        clearance=round(DAY * as_number(fields["unlisted_days"], "unlisted_days", 0.01, 10_000)),
        grounds=tuple(as_text(ground, "grounds") for ground in as_list(fields["grounds"], "grounds", 1, 100)),
        max_appeals=as_integer(limits["per_number"], "limits: per_number", 1),
        appeal_window=round(DAY * as_number(limits["days"], "limits: days", 0.01, 10_000)),
        links=links,
        group_gap=round(HOUR * as_number(together["hours"], "together: hours", 0.01, 10_000)),
        large_group=as_integer(together["crowd"], "together: crowd", 2),
        reviewers=as_integer(together["persons"], "together: persons", 1, 10),
        harm_window=round(DAY * as_number(harm["days"], "harm: days", 0.01, 10_000)),
        harm={action: as_number(harm[action], f"harm: {action}", 0, 1000) for action in ("label", "screen", "block")},
        redress={language: as_text(text, f"redress: {language}") for language, text in redress.items()},
    )
