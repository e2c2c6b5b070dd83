"""An internal audit of connecting parties (谁接入谁负责): exact counts of every operator and trunk, none hidden.

The published report hides small cells and rounds. The audit shows every operator, and every trunk with its subject,
access point and declared use. It needs a ticket of another person and enters the audit log. It counts the calls of
firms' lines and names no number. Names are those of the registers; `privacy reidentify` finds
others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.reading.call_files import write_table
from callsieve.training.data.fingerprint import fingerprint
from callsieve.training.oversight.log.tickets import PARTY_AUDIT, AccessControl, Act

from .complaint_counts import calls_of_complaints
from .parties import Column, ReportData, columns, dictionary, in_force, party_names, read_report_data
from .report import periods, within

PARTIES = ("operator", "trunk")
LEDGER = ("subject", "access_point", "declared_use")
_COUNTED = {
    "answered": "yes", "false_number": "yes", "outside_register": "yes", "registered": "no", "action": "",
    "plan_class": "",
}  # fmt: skip
"""The attributes that are counted: one label of them, or with "" each label in a column of its own."""


@dataclass(frozen=True, slots=True)
class PartyAudit:
    """The calls of an audit, and the period and the period before, as `report.period_of` writes them."""

    source: ReportData
    now: str
    before: str


def open_audit(data: Path, verdicts: Path | None, until: str | None, days: int) -> PartyAudit:
    """Reads the calls of a period and of the period before it. Args and raises: as for `report.write_report`."""
    source = read_report_data(data, verdicts)
    now, before = periods(source, until, days)
    return PartyAudit(source.filter(within(source, now) | within(source, before)), now, before)


def audit_act(audit: PartyAudit, purpose: str, person: str) -> Act:
    """Returns the act of auditing the parties of these calls."""
    return Act(PARTY_AUDIT, fingerprint(audit.source.calls), audit.source.calls.num_rows, purpose, person)


def write_audit(audit: PartyAudit, act: Act, out: Path, folder: Path, control: AccessControl) -> dict[str, Any]:
    """Enters the audit in the log, then writes one row a party to a new Parquet file.

    Returns: the number of rows by kind of party, the period, and the entry of the log.
    """
    if out.exists():
        raise FileExistsError(f"{out}: expected a new file; nothing is overwritten")
    entry = control.enter(act, str(folder))
    rows = party_rows(audit)
    write_table(pa.Table.from_pandas(rows, preserve_index=False), out)
    counts = {kind: int((rows["kind"] == kind).sum()) for kind in PARTIES}
    return {"now": audit.now, "before": audit.before, **counts, "entry": entry}


def party_rows(audit: PartyAudit) -> pd.DataFrame:
    """Returns one row for each operator and trunk with a call in the period, those with the most calls first.

    Columns: `kind`, `party` (token), its `name`, the entry of a trunk in the ledger at the end of the period (LEDGER),
    `calls`, `before` (calls of the period before), distinct `callees` and `callers`, calls by the attributes of the
    report, and `complaints` that became known in the period.
    """
    source = audit.source
    attributes = columns(source)
    inside, past = (within(source, period) for period in (audit.now, audit.before))
    people = {name: dictionary(source.calls, name).codes for name in ("callee", "caller")}
    complained = calls_of_complaints(source, audit.now)
    tables = [
        _rows(kind, attributes[kind], attributes, inside, past, people, complained).assign(kind=kind)
        for kind in PARTIES
    ]
    rows = pd.concat(tables, ignore_index=True)
    end = pd.Timestamp(audit.now.partition("/")[2], tz="UTC")
    ranges = in_force(source.registers["trunks"], end, ["trunk", "number", "block"])  # a trunk has a row for each
    entries = ranges.drop_duplicates("trunk", keep="last").set_index("trunk")
    rows["name"] = rows["party"].map(party_names(source, audit.now.partition("/")[2])).astype(object)
    for name in LEDGER:
        rows[name] = rows["party"].map(entries[name].to_dict()).astype(object)
    first = ["kind", "party", "name", *LEDGER]
    return rows[[*first, *(name for name in rows.columns if name not in first)]]


def _rows(
    kind: str,
    party: Column,
    attributes: Mapping[str, Column],
    inside: Array,
    past: Array,
    people: Mapping[str, Array],
    complained: Array,
) -> pd.DataFrame:
    size = len(party.labels)

    def count(chosen: Array) -> Array:
        return np.bincount(party.codes[chosen & (party.codes >= 0)], minlength=size)

    table: dict[str, Any] = {"party": list(party.labels), "calls": count(inside), "before": count(past)}
    for name, codes in people.items():
        chosen = inside & (party.codes >= 0)
        pairs = np.unique(np.stack([party.codes[chosen], codes[chosen]]), axis=1)
        table[f"{name}s"] = np.bincount(pairs[0], minlength=size)
    for name, label in _COUNTED.items():
        if name in attributes and (name != "outside_register" or kind == "trunk"):
            column = attributes[name]
            for code, word in enumerate(column.labels):
                if label in ("", word):
                    table[f"{name}_{word}"] = count(inside & (column.codes == code))
    codes = party.codes[complained[complained >= 0]]
    table["complaints"] = np.bincount(codes[codes >= 0], minlength=size)
    frame = pd.DataFrame(table)
    return frame[frame["calls"] > 0].sort_values("calls", ascending=False, kind="stable")
