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
from collections.abc import Iterator, Mapping
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
from callsieve.features.files.atomic import locked_folder
from callsieve.features.files.parquet_file import GROUP_ROWS
from callsieve.features.files.progress import Progress, steps
from callsieve.features.intake.text_columns import unified
from callsieve.features.offline import odd_records
from callsieve.features.offline.shards import open_plan, run
from callsieve.features.offline.shuffle import read_notes
from callsieve.features.online.feeds import COLUMNS, feed_of_batches
from callsieve.serving.rules.rule_bits import BITS
from callsieve.serving.scorer.scorer import Scorer

from .call_files import call_days, digest, keyed_input
from .complaint_rows import complaint_table, read_complaints
from .memory_scoring import SCORING, ScoreInputs, open_registers, open_scorer, summary
from .output_keys import callee_keys_or_temporary
from .own_column_join import read_own_columns
from .shard_scoring import VERDICTS, Job, score_shard, shift_of_file
from .verdict_file import CopiedColumns, check_copied, write_verdicts

MEMORY = 1 << 30  # bytes that shards are planned for; the whole program took 1.2 GiB for 1.5 million calls
SPAN_ROWS = 1 << 19  # rows of the input in a span


def score_file(inputs: ScoreInputs, *, threads: int, progress: Progress) -> dict[str, Any]:
    """Scores a file of call records and writes a row of `out` for each of its rows, in its order.

    Unfinished work is in the folder `out` + ".work", which a later run with the same input resumes. It is deleted at
    the end. Without `out` nothing is resumed.

    Args:
        threads: number of threads; 0 for one a core.
    Returns: counts of calls and callers by action, what was not scored, and `resumed` if an unfinished run was;
        JSON-able.
    Raises:
        ValueError: in one line, for faults of any file, or a file without a call.
    """
    inputs.check()
    check_copied(inputs.calls, inputs.keep)
    registers = open_registers(inputs.registers, inputs.calls.key, SCORING)
    scorer = open_scorer(inputs.bundle, inputs.trust, inputs.policy, registers)
    own = checked_columns(scorer, inputs.complaints, inputs.columns)
    callee_keys = callee_keys_or_temporary(inputs.callees)
    declaration = inputs.declared(scorer.policy)
    step, threads = steps(progress, {"calls": 45, "score": 50, "write": 5}), threads or os.cpu_count() or 1
    with work_folder(inputs.out) as work:
        resumed, lasting = any(work.glob("*.json")), inputs.out is not None
        keyed = keyed_input(inputs.calls, inputs.history, work, declaration, resumable=lasting, progress=step["calls"])
        copies, count = CopiedColumns(keyed.source, keyed.layout, inputs.keep), keyed.count()
        if not count:
            raise ValueError(f"{inputs.calls.path}: no call to score")
        plan = open_plan(keyed.path, work, NAMES, MEMORY, threads, identity(inputs, scorer))
        job = Job(
            scorer=scorer,
            complaints=None if inputs.complaints is None else matched_complaints(keyed.path, inputs.complaints),
            columns=own,
            days=call_days(keyed.path),
            numbers=keyed.numbers,
            spans=-(-keyed.last_row() // SPAN_ROWS),
            span_rows=SPAN_ROWS,
            feed=scorer.feed_for(scorer.policy.feed or feed_of_file(keyed.path)),
            details=lasting,
        )
        odd = odd_records_of_file(keyed.path, job.feed)
        plan.work.mkdir(exist_ok=True)
        run(plan, keyed.path, threads, step["score"], partial(score_shard, plan, job), VERDICTS)
        scored = plan.files(VERDICTS)
        if inputs.out is not None:
            spans = {"spans": job.spans, "span_rows": SPAN_ROWS}
            write_verdicts(scored, keyed.refused, copies, inputs.out, callee_keys, step["write"], **spans)
        shift = shift_of_file(plan, job)
        counts = total([json.loads(read_notes(file)["counts"]) for file in scored])
        shutil.rmtree(plan.work)
    counts["rules"] = {name: counts["rules"][name] for name in BITS if name in counts["rules"]}
    figures = summary(scorer, declaration, (job.feed, shift), {"calls": count, **counts}, keyed.quarantined, odd)
    return figures | ({"resumed": True} if resumed else {})


def identity(inputs: ScoreInputs, scorer: Scorer) -> dict[str, Any]:
    """Returns what the verdicts follow from besides the calls; a run with another identity is not resumed."""
    files = {
        "policy file": inputs.policy,
        "complaints": inputs.complaints,
        "registers": inputs.registers,
        "columns": inputs.columns,
        "history": inputs.history,
    }
    model = {"model": scorer.bundle.model_id, "policy": scorer.policy.version, "span": SPAN_ROWS}
    return model | {name: digest(file) for name, file in files.items()}


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


def feed_of_file(calls: Path) -> str:
    """Returns the feed of a Parquet file of keyed calls."""
    with pq.ParquetFile(calls, pre_buffer=False) as file:
        return feed_of_batches(lambda: file.iter_batches(GROUP_ROWS, columns=list(COLUMNS)), file.metadata.num_rows)


def odd_records_of_file(calls: Path, feed: str) -> list[str]:
    """Returns `odd_records` of a Parquet file of keyed calls on this feed."""
    with pq.ParquetFile(calls, pre_buffer=False) as file:
        batches = file.iter_batches(GROUP_ROWS, columns=list(odd_records.COLUMNS))
        return odd_records.odd_records(batches, file.metadata.num_rows, lambda: feed)


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
    return complaint_table(unified(pa.concat_tables(tables)).sort_by("start"), frame)


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
