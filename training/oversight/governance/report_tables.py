"""The tables of the governance report for an office's own software: CSV files, and one XLSX workbook of all tables."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from callsieve.features.files.atomic import write_atomic
from callsieve.training.language import current_language
from callsieve.training.reports.csv_tables import write_rows

from .parties import regulators
from .report_page import ReportFigures, ReportRow, named

Rows = Sequence[Mapping[str, object]]
REGULATED = ("regulator", "complaints_regulator")  # tables whose rows are keys of `regulators.toml`
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time of a ZIP file: equal tables give equal bytes


def write_tables(figures: ReportFigures, out: Path) -> None:
    """Writes `report.xlsx`, and each table as a CSV file in the folder `tables`, in the language in force."""
    tables = flat_tables(figures)
    (out / "tables").mkdir()
    for name, rows in tables.items():
        write_rows(out / "tables" / f"{name}.csv", rows)
    write_atomic(out / "report.xlsx", workbook(tables))


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


def workbook(tables: Mapping[str, Rows]) -> bytes:
    """Returns an XLSX workbook with a sheet for each table. Texts are inline strings, which are never formulas."""
    sheets = list(enumerate(tables, 1))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
        + "".join(
            f'<Override PartName="/xl/worksheets/sheet{place}.xml" ContentType="{_TYPE}.worksheet+xml"/>'
            for place, _ in sheets
        )
        + "</Types>",
        "_rels/.rels": _relations([("officeDocument", "xl/workbook.xml")]),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_LINKS}"><sheets>'
        + "".join(f'<sheet name={quoteattr(name[:31])} sheetId="{place}" r:id="rId{place}"/>' for place, name in sheets)
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": _relations(
            [("worksheet", f"worksheets/sheet{place}.xml") for place, _ in sheets]
        ),
        **{f"xl/worksheets/sheet{place}.xml": _sheet(tables[name]) for place, name in sheets},
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in parts.items():
            whole = f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{text}'
            archive.writestr(zipfile.ZipInfo(path, _LONG_AGO), whole, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _relations(targets: Iterable[tuple[str, str]]) -> str:
    links = "".join(
        f'<Relationship Id="rId{place}" Type="{_LINKS}/{kind}" Target="{target}"/>'
        for place, (kind, target) in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{links}</Relationships>'


def _sheet(rows: Rows) -> str:
    head = list(dict.fromkeys(name for row in rows for name in row))
    lines: list[Sequence[object]] = [head, *([row.get(name) for name in head] for row in rows)]
    return f'<worksheet xmlns="{_MAIN}"><sheetData>{"".join(map(_line, lines))}</sheetData></worksheet>'


def _line(values: Sequence[object]) -> str:
    return f"<row>{''.join(map(_cell, values))}</row>"


def _cell(value: object) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, int | float):
        return f"<c><v>{value}</v></c>"
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(text)}</t></is></c>'
