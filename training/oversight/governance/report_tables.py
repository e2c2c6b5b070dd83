"""The tables of the governance report for an office's own software, as CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from callsieve.training.language import current_language
from callsieve.training.reports.csv_tables import write_rows

from .parties import regulators
from .report_page import ReportFigures, ReportRow, named

Rows = Sequence[Mapping[str, object]]
REGULATED = ("regulator", "complaints_regulator")  # tables whose rows are keys of `regulators.toml`


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
