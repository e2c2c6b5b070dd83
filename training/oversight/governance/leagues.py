"""League tables (通报): operators, industries and areas, ranked by complaints per hundred thousand calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .report_page import LeagueRow, ReportRow

LEAGUES = {"operator": "complaints_operator", "industry": "complaints_category", "area": "complaints_area"}
"""The league tables: the table of calls and the table of complaints behind each."""
PER = 100_000
OTHERS = "others"  # the contents of a row beside its commonest one


def leagues(tables: Mapping[str, Sequence[ReportRow]]) -> dict[str, list[LeagueRow]]:
    """Returns the league tables from the shown rows of the report, the highest rank first."""
    return {
        name: ranked for name, of in LEAGUES.items() if (ranked := _league(tables.get(name, ()), tables.get(of, ())))
    }


def _league(calls: Sequence[ReportRow], complaints: Sequence[ReportRow]) -> list[LeagueRow]:
    complaints_of = {row["row"]: row for row in complaints}
    rows: list[LeagueRow] = []
    for row in calls:
        about = complaints_of.get(row["row"])
        complaints_now, complaints_before = (about["calls"], about["before"]) if about else (None, None)
        actions = row["splits"].get("action")
        contents = {word: count for word, count in row["splits"].get("content", {}).items() if count and word != OTHERS}
        rows.append(
            {
                "row": row["row"],
                "calls": row["calls"],
                "acted": None if actions is None else sum(n for word, n in actions.items() if word != "pass"),
                "content": max(contents, key=lambda word: contents[word], default=None),
                "complaints": complaints_now,
                "rate": _rate(complaints_now, row["calls"]),
                "rate_before": _rate(complaints_before, row["before"]),
                "rank": None,
                "rank_before": None,
            }
        )
    ranks, earlier = _ranks([row["rate"] for row in rows]), _ranks([row["rate_before"] for row in rows])
    for league_row, rank, rank_before in zip(rows, ranks, earlier, strict=True):
        league_row["rank"], league_row["rank_before"] = rank, rank_before
    return sorted(rows, key=lambda row: (row["rank"] is None, row["rank"] or 0, -row["calls"]))


def _ranks(rates: Sequence[float | None]) -> list[int | None]:
    highest = sorted((rate for rate in rates if rate is not None), reverse=True)
    return [None if rate is None else highest.index(rate) + 1 for rate in rates]


def _rate(complaints: int | None, calls: int | None) -> float | None:
    return None if complaints is None or not calls else round(PER * complaints / calls, 1)
