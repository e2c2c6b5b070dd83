"""The governance report as one HTML page that needs no network, and as tables (Parquet, CSV)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import matplotlib as mpl
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from callsieve.features.files.atomic import write_atomic
from callsieve.features.reading.call_files import write_table
from callsieve.training.language import current_language, day, gettext, words
from callsieve.training.reports.csv_tables import write_rows
from callsieve.training.reports.drawing import BLUE, GREY, RC, VERMILLION, Picture, blank, legend, named_rows, svg
from callsieve.training.reports.run_page import environment, render

from .disclosure import Cell, Count
from .parties import ScoringModel, regulators

ACTION_COLOURS = {"pass": "#c9d3da", "label": "#E69F00", "screen": VERMILLION, "block": "#8c2d04"}
MAX_BARS = 15
LOG_FROM = 20
"""A picture of calls has a logarithmic axis if its longest bar is more than so many times its shortest."""
NOT_SHOWN = "–"
WORDS = {"all": "all calls", "95_call_centre": "95, call centres", "95_service": "95, service numbers"}
Rows = Sequence[Mapping[str, object]]
REGULATED = ("regulator", "complaints_regulator")  # tables whose rows are keys of `regulators.toml`


class ReportRow(TypedDict):
    """A row of a table: calls, distinct people by kind, and calls of the previous period (None if not comparable).

    `year_before` has the calls of the same dates a year earlier, from the file of earlier counts. `splits` has the
    calls of each part, by split.
    """

    row: str
    calls: int
    people: dict[str, int]
    splits: dict[str, dict[str, int]]
    before: int | None
    year_before: int | None


class LeagueRow(TypedDict):
    """A row of a league table.

    `acted` are calls with an action, `content` is the commonest one that was predicted. `rate` and `rate_before` are
    complaints per 100,000 calls; rank 1 is the highest rate. None stands for what is not known.
    """

    row: str
    calls: int
    acted: int | None
    content: str | None
    complaints: int | None
    rate: float | None
    rate_before: float | None
    rank: int | None
    rank_before: int | None


class ReportFigures(TypedDict):
    """The figures of the page: its periods, its limits, the rows by table, and the names of parties by token.

    `model` is the model that gave the verdicts; None if unknown.
    """

    now: str
    before: str
    least: dict[str, int]
    base: int
    bulk: int
    tables: dict[str, list[ReportRow]]
    leagues: dict[str, list[LeagueRow]]
    names: dict[str, str]
    simulated: bool
    model: ScoringModel | None


def write_cells(counts: Mapping[Cell, Count], path: Path) -> None:
    """Writes the shown cells as a table, one row per cell; counts are rounded as in the report."""
    cells = sorted(counts)
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(cell, name) for cell in cells], pa.string()) for name in Cell._fields
    }
    columns["records"] = pa.array([counts[cell].records for cell in cells], pa.int64())
    for kind in ("callee", "caller"):
        columns[f"{kind}s_at_least"] = pa.array([counts[cell].people.get(kind) for cell in cells], pa.int64())
    write_table(pa.table(columns), path)


def write_page(figures: ReportFigures, path: Path) -> None:
    """Writes the page in the language in force, atomically; equal figures give equal bytes."""
    write_atomic(path, page(figures).encode())


def page(figures: ReportFigures) -> str:
    """Returns the page as HTML."""
    pages = environment(__package__)
    names = figures["names"]
    pages.filters |= {"named": partial(named, names=names), "part": part, "change": change, "days": days}
    actions = any("action" in row["splits"] for rows in figures["tables"].values() for row in rows)
    template = pages.get_template("governance.html")
    yearly = any(row.get("year_before") is not None for rows in figures["tables"].values() for row in rows)
    plots, regulator_names = pictures(figures["tables"], names), regulators().regulators
    return render(template, figures, actions=actions, yearly=yearly, pictures=plots, regulators=regulator_names)


def named(row: str, names: Mapping[str, str]) -> str:
    """Returns the display label of a row: the name of a party with the first letters of its token, or that token alone.

    >>> named("e1." + "abcdefgh" * 4, {}), named("customer_service", {})
    ('e1.abcdefgh…', 'customer service')
    >>> named("e1." + "abcdefgh" * 4, {"e1." + "abcdefgh" * 4: "甲公司"})
    '甲公司 e1.abcd…'
    """
    epoch, dot, token = row.partition(".")
    if dot and len(token) == 32:
        return f"{names[row]} {epoch}.{token[:4]}…" if row in names else f"{epoch}.{token[:8]}…"
    return WORDS[row] if row in WORDS and current_language() == "en" else words(row)


def part(row: ReportRow, split: str, word: str = "yes") -> float | None:
    """Returns the share of a part in a row; None if the split is hidden."""
    parts = row["splits"].get(split)
    return parts.get(word, 0) / row["calls"] if parts and row["calls"] else None


def change(row: Mapping[str, Any], before: str = "before") -> str:
    """Returns the change of calls against the previous period, or against "year_before", as text.

    >>> change({"calls": 110, "before": 100}), change({"calls": 3, "before": None}), change({"calls": 30, "before": 10})
    ('+10%', '–', '3.0 times')
    >>> change({"calls": 999, "before": 1000})
    '0%'
    """
    if not row.get(before):
        return NOT_SHOWN
    ratio = row["calls"] / row[before]
    if ratio >= 2:
        return gettext("%(ratio)s times", ratio=round(ratio, 1))
    return f"{ratio - 1:+.0%}" if round(ratio, 2) != 1 else "0%"


def days(period: str) -> str:
    """Returns a period as text, with its last day included.

    >>> days("2025-03-03/2025-03-10")
    '3 March 2025 to 9 March 2025'
    """
    first, _, after = period.partition("/")
    last = date.fromisoformat(after) - timedelta(days=1)
    return gettext("%(low)s to %(high)s", low=day(date.fromisoformat(first)), high=day(last))


def pictures(tables: Mapping[str, Sequence[ReportRow]], names: Mapping[str, str]) -> dict[str, Picture]:
    """Returns the pictures of all tables that have rows to show, by name; `names` has the parties' by token."""
    plots = {}
    with mpl.rc_context(RC):
        for name in ("operator", "trunk", "industry", "victims_in_common"):
            if rows := list(tables.get(name, ()))[:MAX_BARS]:
                plots[name] = Picture(svg(_calls(rows, names, False)), svg(_calls(rows, names, True)))
        if rows := [row for row in tables.get("preferences", ()) if part(row, "accepts") is not None]:
            plots["preferences"] = Picture(svg(_accepted(rows, False)), svg(_accepted(rows, True)))
        for name in ("operator", "trunk"):
            if rows := [row for row in tables.get(name, ()) if (part(row, "action", "pass") or 1.0) < 1.0][:MAX_BARS]:
                plots[f"{name}_mix"] = Picture(svg(_mix(rows, names, False)), svg(_mix(rows, names, True)))
    return plots


def _calls(rows: Sequence[ReportRow], names: Mapping[str, str], narrow: bool) -> Figure:
    """Draws a bar for the calls of each row, with a mark at the previous period."""
    figure, ax = blank(narrow, 1.2 + 0.3 * len(rows))
    ax.barh(range(len(rows)), [row["calls"] for row in rows], color=BLUE, height=0.6, label=gettext("calls"))
    past = [(row["before"], y) for y, row in enumerate(rows) if row["before"]]
    if past:
        ax.plot(*zip(*past, strict=True), "|", color=VERMILLION, ms=13, mew=2.5, label=gettext("previous period"))
    least, most = min(row["calls"] for row in rows), max(row["calls"] for row in rows)
    if most > LOG_FROM * least:
        ax.set_xscale("log")
        ax.set_xlim(left=max(1, least / 3))
        ax.xaxis.set_minor_formatter(NullFormatter())  # on a short axis its labels cover each other
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.set_xlabel(gettext("calls (log scale)") if most > LOG_FROM * least else gettext("calls"))
    named_rows(ax, [named(row["row"], names) for row in rows])
    legend(ax)
    return figure


def _mix(rows: Sequence[ReportRow], names: Mapping[str, str], narrow: bool) -> Figure:
    figure, ax = blank(narrow, 1.2 + 0.3 * len(rows))
    left = [0.0] * len(rows)
    for word in ("label", "screen", "block"):
        width = [part(row, "action", word) or 0.0 for row in rows]
        ax.barh(range(len(rows)), width, left=left, color=ACTION_COLOURS[word], height=0.6, label=words(word))
        left = [a + b for a, b in zip(left, width, strict=True)]
    ax.set_xlim(0, max(0.01, *left) * 1.05)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.2g}" if x and x < 0.0005 else f"{x:.1%}"))
    ax.set_xlabel(gettext("share of calls labelled, screened or blocked"))
    named_rows(ax, [named(row["row"], names) for row in rows])
    legend(ax)
    return figure


def _accepted(rows: Sequence[ReportRow], narrow: bool) -> Figure:
    figure, ax = blank(narrow, 1.2 + 0.3 * len(rows))
    yes = [row["splits"]["accepts"].get("yes", 0) for row in rows]
    no = [row["splits"]["accepts"].get("no", 0) for row in rows]
    ax.barh(range(len(rows)), yes, color=BLUE, height=0.6, label=gettext("accept"))
    ax.barh(range(len(rows)), no, left=yes, color=GREY, height=0.6, label=gettext("do not accept"))
    ax.set_xlabel(gettext("people with a stated preference"))
    named_rows(ax, [named(row["row"], {}) for row in rows])
    legend(ax)
    return figure


def write_tables(figures: ReportFigures, out: Path) -> None:
    """Writes each table as a CSV file in the folder `tables`, in the language in force.

    A byte order mark tells a spreadsheet that the file is UTF-8; without it, Chinese names are unreadable there.
    """
    (out / "tables").mkdir()
    for name, rows in flat_tables(figures).items():
        write_rows(out / "tables" / f"{name}.csv", rows, encoding="utf-8-sig")


def flat_tables(figures: ReportFigures) -> dict[str, Rows]:
    """Returns each table and league table of a report as rows of plain values, by name."""
    names = figures["names"]
    offices = {row: texts[current_language()] for row, texts in regulators().regulators.items()}
    tables: dict[str, Rows] = {}
    for name, rows in figures["tables"].items():
        labels = offices if name in REGULATED else {}
        tables[name] = [_flat(row, labels.get(row["row"]) or named(row["row"], names)) for row in rows]
    for name, league in figures["leagues"].items():
        tables[f"league_{name}"] = [{"row": row["row"], "name": named(row["row"], names), **row} for row in league]
    return tables


def _flat(row: ReportRow, label: str) -> dict[str, object]:
    flat: dict[str, object] = {"row": row["row"], "name": label, "calls": row["calls"]}
    flat |= {"before": row["before"], "year_before": row["year_before"]}
    flat |= {f"{kind}s_at_least": count for kind, count in row["people"].items()}
    for split, parts in row["splits"].items():
        if split == "content":  # the commonest content and all others: its name differs from row to row
            flat["content"], flat["content.calls"] = next(iter(parts.items()))
        else:
            flat |= {f"{split}.{part}": count for part, count in parts.items()}
    return flat
