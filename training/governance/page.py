"""The report for those who govern as one page that needs no network, and as a table (Parquet)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from callsieve.features.files.folders import write_whole
from callsieve.features.reading.call_files import write_table
from callsieve.training.reports.pictures import BLUE, GREY, RC, VERMILLION, Picture, blank, legend, named_rows, svg
from callsieve.training.reports.run_page import environment

from .disclosure import Cell, Count
from .parties import regulators

ACTION_COLOURS = {"pass": "#c9d3da", "label": "#E69F00", "screen": VERMILLION, "block": "#8c2d04"}
ROWS_DRAWN = 15
NOT_SHOWN = "–"
WORDS = {"all": "all calls", "95_call_centre": "95, call centres", "95_service": "95, service numbers"}


def write_cells(shown: Mapping[Cell, Count], path: Path) -> None:
    """Write what is shown as a table: one row a cell; people are told as "at least"."""
    cells = sorted(shown)
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(cell, name) for cell in cells], pa.string()) for name in Cell._fields
    }
    columns["records"] = pa.array([shown[cell].records for cell in cells], pa.int64())
    for kind in ("callee", "caller"):
        columns[f"{kind}s_at_least"] = pa.array([shown[cell].people.get(kind) for cell in cells], pa.int64())
    write_table(pa.table(columns), path)


def write_page(facts: Mapping[str, Any], path: Path) -> None:
    """Write the page, whole or not at all; the same facts give the same bytes."""
    write_whole(path, page(facts).encode())


def page(facts: Mapping[str, Any]) -> str:
    """The page as text."""
    pages = environment(__package__)
    pages.filters |= {"named": named, "part": part, "change": change, "days": days}
    known = any("action" in row["splits"] for rows in facts["tables"].values() for row in rows)
    template = pages.get_template("governance.html")
    drawn, names = pictures(facts["tables"]), regulators()["regulators"]
    return template.render(facts, actions=known, pictures=drawn, regulators=names).lstrip()


def named(row: str) -> str:
    """A row as a reader sees it: of a token the first letters, which tell it from the others.

    >>> named("e1." + "abcdefgh" * 4), named("customer_service")
    ('e1.abcdefgh…', 'customer service')
    """
    epoch, dot, token = row.partition(".")
    if dot and len(token) == 32:
        return f"{epoch}.{token[:8]}…"
    return WORDS.get(row, row.replace("_", " "))


def part(row: Mapping[str, Any], split: str, word: str = "yes") -> float | None:
    """The share of a part in a row; None if it is not shown."""
    parts = row["splits"].get(split)
    return parts.get(word, 0) / row["calls"] if parts and row["calls"] else None


def change(row: Mapping[str, Any]) -> str:
    """How calls changed against the period before.

    >>> change({"calls": 110, "before": 100}), change({"calls": 3, "before": None}), change({"calls": 30, "before": 10})
    ('+10%', '–', '3.0 times')
    >>> change({"calls": 999, "before": 1000})
    '0%'
    """
    if not row["before"]:
        return NOT_SHOWN
    ratio = row["calls"] / row["before"]
    return f"{ratio:.1f} times" if ratio >= 2 else f"{ratio - 1:+.0%}" if round(ratio, 2) != 1 else "0%"


def days(period: str) -> str:
    """A period in words.

    >>> days("2025-03-03/2025-03-10")
    '2025-03-03 to 2025-03-09'
    """
    first, _, after = period.partition("/")
    return f"{first} to {date.fromisoformat(after) - timedelta(days=1)}"


def pictures(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Picture]:
    """Every picture whose figures are shown, by name."""
    found = {}
    with mpl.rc_context(RC):
        for name in ("operator", "trunk", "industry", "victims_in_common"):
            if rows := list(tables.get(name, ()))[:ROWS_DRAWN]:
                found[name] = Picture(svg(_calls(rows, False)), svg(_calls(rows, True)))
        if rows := [row for row in tables.get("preferences", ()) if part(row, "accepts") is not None]:
            found["preferences"] = Picture(svg(_wanted(rows, False)), svg(_wanted(rows, True)))
        for name in ("operator", "trunk"):
            if rows := [row for row in tables.get(name, ()) if (part(row, "action", "pass") or 1.0) < 1.0][:ROWS_DRAWN]:
                found[f"{name}_mix"] = Picture(svg(_mix(rows, False)), svg(_mix(rows, True)))
    return found


def _calls(rows: Sequence[Mapping[str, Any]], narrow: bool) -> Figure:
    """Calls of each row, and the mark of the period before."""
    figure, ax = blank(narrow, 1.2 + 0.3 * len(rows))
    ax.barh(range(len(rows)), [row["calls"] for row in rows], color=BLUE, height=0.6, label="calls")
    past = [(row["before"], y) for y, row in enumerate(rows) if row["before"]]
    if past:
        ax.plot(*zip(*past, strict=True), "|", color=VERMILLION, ms=13, mew=2.5, label="period before")
    ax.set_xscale("log")
    ax.set_xlim(left=max(1, min(row["calls"] for row in rows) / 3))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.set_xlabel("calls (logarithmic)")
    named_rows(ax, [named(row["row"]) for row in rows])
    legend(ax)
    return figure


def _mix(rows: Sequence[Mapping[str, Any]], narrow: bool) -> Figure:
    """What was decided on the calls of each row, where that is not "pass"."""
    figure, ax = blank(narrow, 1.2 + 0.3 * len(rows))
    left = [0.0] * len(rows)
    for word in ("label", "screen", "block"):
        width = [part(row, "action", word) or 0.0 for row in rows]
        ax.barh(range(len(rows)), width, left=left, color=ACTION_COLOURS[word], height=0.6, label=word)
        left = [a + b for a, b in zip(left, width, strict=True)]
    ax.set_xlim(0, max(0.01, *left) * 1.05)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.2g}" if x and x < 0.0005 else f"{x:.1%}"))
    ax.set_xlabel("share of calls that do not simply pass")
    named_rows(ax, [named(row["row"]) for row in rows])
    legend(ax)
    return figure


def _wanted(rows: Sequence[Mapping[str, Any]], narrow: bool) -> Figure:
    """How many people want calls of each category, and how many do not."""
    figure, ax = blank(narrow, 1.2 + 0.3 * len(rows))
    yes = [row["splits"]["accepts"].get("yes", 0) for row in rows]
    no = [row["splits"]["accepts"].get("no", 0) for row in rows]
    ax.barh(range(len(rows)), yes, color=BLUE, height=0.6, label="want them")
    ax.barh(range(len(rows)), no, left=yes, color=GREY, height=0.6, label="do not")
    ax.set_xlabel("people who said so")
    named_rows(ax, [named(row["row"]) for row in rows])
    legend(ax)
    return figure
