"""Scores a file of call records of any length: memory does not grow with the file, and a killed run is resumed.

1. `features/offline/keyed_file` writes the keyed calls.
2. The stages of `features/offline/shards` compute vectors, shard by shard.
3. `shard_scoring` scores the calls of a shard, and sends their verdicts to spans of rows of the input.
4. `verdict_file` writes the spans one after the other.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.catalogue import NAMES, OWN, own_columns
from callsieve.features.complaints import COMPLAINT_NAMES
from callsieve.features.files.atomic import check_distinct, check_present, locked_folder, sha256
from callsieve.features.files.progress import Progress, steps
from callsieve.features.offline.shards import count_rows, open_plan, run
from callsieve.features.offline.shuffle import read_notes
from callsieve.features.online.feeds import COLUMNS, feed_of_batches
from callsieve.features.reading.layouts import read_layout
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.rules.rule_bits import BITS
from callsieve.serving.scorer.scorer import Scorer

from .call_files import call_days, intake_inputs, key_file, keyed_with_history, row_numbers, unexpired_file
from .column_files import read_own_columns
from .complaint_rows import complaint_table, read_complaints
from .output_keys import callee_keys_or_temporary
from .score import SCORING, open_registers, open_scorer, summary
from .shard_scoring import VERDICTS, Job, score_shard
from .verdict_file import CopiedColumns, write_verdicts

MEMORY = 3 << 29  # bytes that shards are planned for: with the rest of the program it stays below 2 GiB
SPAN_ROWS = 1 << 19  # rows of the input in a span
NOTHING_REFUSED = pa.table({"row": pa.array([], pa.int64()), "reason": pa.array([], pa.string())})


def score_file(
    bundle: Path,
    path: Path,
    layout_name: str,
    *,
    trust: Path | None,
    policy: Path | None,
    key: Path | None,
    out: Path | None,
    callees: Path | None = None,
    complaints: Path | None = None,
    columns: Path | None = None,
    registers: Path | None = None,
    history: Path | None = None,
    keep: Sequence[str] = (),
    quarantine: Path | None,
    strict: bool,
    zone: str | None = None,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Scores a file of call records and writes a row of `out` for each of its rows, in its order.

    Unfinished work is in the folder `out` + ".work", which a later run with the same input resumes. It is deleted at
    the end. Without `out` nothing is resumed.

    Args:
        history: file of the same layout with the days before, which are not scored.
        zone: time zone of the exchange; by default the layout's.
        keep: columns of the file that are copied to `out` as they are, such as an own id.
    Returns: counts of calls and callers by action, what was not scored, and `resumed` if an unfinished run was;
        JSON-able.
    Raises:
        ValueError: in one line, for faults of any file, or a file without a call.
    """
    check_distinct(path, complaints, columns, key, out, quarantine, history)
    check_present(path, bundle, trust, policy, key, callees, complaints, columns, registers, history)
    scorer = open_scorer(bundle, trust, policy, open_registers(registers, key, SCORING))
    own = checked_columns(scorer, complaints, columns)
    callee_keys = callee_keys_or_temporary(callees)
    parts = steps(progress, {"calls": 45, "score": 50, "write": 5})
    must_be_declared = None if policy is None else scorer.policy.require_declaration
    declaration = require_purpose(path, SCORING, must_be_declared=must_be_declared)
    if history is not None:
        require_purpose(history, SCORING, must_be_declared=must_be_declared)
    quarantined = dict[str, int]()
    with work_folder(out) as work:
        resumed, refused = any(work.glob("*.json")), work / "_refused.parquet"
        if layout_name == "keyed":
            layout, source = None, unexpired_file(path, work, declaration)
            calls = source if history is None else keyed_with_history(source, history, work)
        else:
            layout, source = read_layout(layout_name), path
            lasting = {} if out is None else intake_inputs(path, layout_name, key, zone) | {"history": digest(history)}
            options: dict[str, Any] = {"key": key, "quarantine": quarantine, "strict": strict, "history": history}
            options |= {"refused": refused, "zone": zone, "progress": parts["calls"]}
            calls, quarantined = key_file(path, layout_name, work, inputs=lasting, **options)
        copies = CopiedColumns(source, layout, keep)
        numbers = row_numbers(calls, keyed=layout_name == "keyed" and history is None)
        count = count_rows(calls) if numbers is None else int((numbers > 0).sum())
        if not count:
            raise ValueError(f"{path}: no call to score")
        identity = {"model": scorer.bundle.model_id, "policy": scorer.policy.version, "span": SPAN_ROWS}
        files = {"policy file": policy, "complaints": complaints, "registers": registers, "columns": columns}
        identity |= {name: digest(file) for name, file in (files | {"history": history}).items()}
        threads = threads or os.cpu_count() or 1
        plan = open_plan(calls, work, NAMES, MEMORY, threads, identity)
        invalid = pq.read_table(refused) if refused.exists() else NOTHING_REFUSED
        rows = max(count if numbers is None else int(numbers.max()), pc.max(invalid["row"]).as_py() or 0)
        job = Job(
            scorer=scorer,
            complaints=None if complaints is None else matched_complaints(calls, complaints),
            columns=own,
            days=call_days(calls),
            numbers=numbers,
            spans=-(-rows // SPAN_ROWS),
            span_rows=SPAN_ROWS,
            feed=scorer.policy.feed or feed_of_file(calls, count_rows(calls)),
            details=out is not None,
        )
        plan.work.mkdir(exist_ok=True)
        run(plan, calls, threads, parts["score"], partial(score_shard, plan, job), VERDICTS)
        scored = plan.files(VERDICTS)
        if out is not None:
            spans = {"spans": job.spans, "span_rows": SPAN_ROWS}
            write_verdicts(scored, invalid, copies, out, callee_keys, parts["write"], **spans)
        counts = total([json.loads(read_notes(file)["counts"]) for file in scored])
        shutil.rmtree(plan.work)
    counts["rules"] = {name: counts["rules"][name] for name in BITS if name in counts["rules"]}
    figures = summary(scorer, declaration, job.feed, {"calls": count, **counts}, quarantined)
    return figures | ({"resumed": True} if resumed else {})


def checked_columns(scorer: Scorer, complaints: Path | None, columns: Path | None) -> pd.DataFrame | None:
    """Returns the own columns of a file. Raises ValueError if the model needs complaints or columns not given."""
    if complaints is None and set(scorer.features) & set(COMPLAINT_NAMES):
        raise ValueError("the model has complaint features: expected --complaints FILE")
    own = None if columns is None else read_own_columns(columns)
    missing = [name.removeprefix(OWN) for name in own_columns(scorer.features)]
    missing = [name for name in missing if own is None or name not in own]
    if missing:
        raise ValueError(f"the model has own columns: expected --columns FILE with {', '.join(missing)}")
    return own


@contextmanager
def work_folder(out: Path | None) -> Iterator[Path]:
    """Yields the locked folder for unfinished work and deletes it at the end; after an error or a kill it remains.

    Without `out` it is a temporary folder.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="callsieve-") as folder:
            yield Path(folder)
        return
    work = out.with_name(out.name + ".work")
    with locked_folder(work):
        yield work
        for file in work.iterdir():
            if file.name != "_lock":
                file.unlink()
    shutil.rmtree(work, ignore_errors=True)


def digest(path: Path | None) -> str:
    """Returns the SHA-256 of a file, or of the files of a folder with their names; "" for None."""
    if path is None or not path.is_dir():
        return "" if path is None else sha256(path)
    return json.dumps({file.name: sha256(file) for file in sorted(path.iterdir()) if file.is_file()})


def feed_of_file(calls: Path, count: int) -> str:
    """Returns the feed of a Parquet file of keyed calls."""
    with pq.ParquetFile(calls, pre_buffer=False) as file:
        return feed_of_batches(lambda: file.iter_batches(columns=list(COLUMNS)), count)


def matched_complaints(calls: Path, complaints: Path) -> pa.Table:
    """Returns `complaint_rows.complaint_table` of all calls; in memory are calls between complaining parties alone."""
    frame, tables = read_complaints(complaints), []
    callers, callees = (pa.array(frame[name].unique(), pa.string()) for name in ("number", "reporter"))
    with pq.ParquetFile(calls, pre_buffer=False) as file:
        for batch in file.iter_batches(columns=["start", "caller", "callee", "caller_block", "trunk", "device"]):
            table = pa.Table.from_batches([batch])
            party = [table[name].cast(pa.string()) for name in ("caller", "callee")]
            between = pc.and_(*(pc.is_in(*pair) for pair in zip(party, (callers, callees), strict=True)))
            tables.append(table.filter(between))
    return complaint_table(pa.concat_tables(tables).unify_dictionaries().sort_by("start"), frame)


def total(counts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Adds the counts of all shards, name by name; `last` is the latest moment."""
    result: dict[str, Any] = {}
    for part in counts:
        for name, value in part.items():
            if isinstance(value, dict):
                result[name] = total([result.get(name, {}), value])
            else:
                result[name] = max(result.get(name, 0), value) if name == "last" else result.get(name, 0) + value
    return result
