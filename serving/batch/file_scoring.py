"""Scores a file of call records of any length: memory does not grow with the file, and a killed run is resumed.

1. `features/offline/keyed_file` writes the keyed calls.
2. The stages of `features/offline/shards` compute vectors, shard by shard.
3. `score_shard` scores the calls of a shard, and sends their verdicts to spans of rows of the input.
4. `write_verdicts` writes the spans one after the other.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.catalogue import NAMES, OWN, own_columns
from callsieve.features.complaints import COMPLAINT_NAMES, complaint_vectors
from callsieve.features.files.atomic import check_distinct, check_present, locked_folder, sha256
from callsieve.features.files.progress import Progress, steps
from callsieve.features.offline.shards import count_rows, open_plan, run
from callsieve.features.offline.shuffle import read_notes, write_parts
from callsieve.features.offline.stages import Plan, ShardVectors, party_tokens, shard_vectors
from callsieve.features.online.coverage import covered_rows
from callsieve.features.online.feeds import COLUMNS, feed_of_batches
from callsieve.features.reading.layouts import read_layout
from callsieve.features.records import NUMBER_CLASSES
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.rules.rule_bits import BITS
from callsieve.serving.rules.rule_input import VECTOR_COLUMNS
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores

from .call_files import call_days, intake_inputs, key_file, keyed_with_history, row_numbers, unexpired_file
from .complaint_rows import complaint_table, read_complaints
from .output_keys import callee_keys_or_temporary
from .own_columns import own_values, read_own_columns
from .score import SCORING, open_registers, open_scorer
from .table_rules import rules_met, with_preferences
from .verdict_counts import verdict_counts
from .verdict_file import CopiedColumns, verdict_details, write_verdicts

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

MEMORY = 3 << 29  # bytes that shards are planned for: with the rest of the program it stays below 2 GiB
BLOCK_ROWS = 1 << 13  # calls that are scored at once: their vectors fit the cache
SPAN_ROWS = 1 << 19  # rows of the input in a span
NOTHING_REFUSED = pa.table({"row": pa.array([], pa.int64()), "reason": pa.array([], pa.string())})
VERDICTS = "verdicts"  # the files of the last stage
ALONE = ("caller", "callee")  # the tokens that rules read
JOINED = (*ALONE, "caller_block", "trunk", "device")  # those that registers and complaints are joined by
EPOCHS = ("caller_epoch", "callee_epoch")
CALLER_CLASS = NAMES.index("call_caller_class")


@dataclass(frozen=True)
class Job:
    """The inputs that scoring a shard needs besides its calls.

    Attributes:
        complaints: columns `features.complaints.COMPLAINT_COLUMNS`; None for a model without complaint features.
        columns: own columns, as from `read_own_columns`; None for a model without them.
        days: days since 1970 (UTC) with calls, of the whole file.
        numbers: for each keyed call the number of its row in the input, not positive for a call of the history; None
            if the keyed calls are the input.
        spans: number of spans of SPAN_ROWS rows of the input.
        feed: the feed of the whole file.
        details: whether the verdicts are written, and so explained.
    """

    scorer: Scorer
    complaints: pa.Table | None
    columns: pd.DataFrame | None
    days: set[int]
    numbers: Array | None
    spans: int
    feed: str
    details: bool


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
        resumed = any(work.glob("*.json"))
        refused = work / "_refused.parquet"
        if layout_name == "keyed":
            calls = source = unexpired_file(path, work, declaration)
            if history is not None:
                calls = keyed_with_history(source, history, work)
        else:
            source = path
            calls, quarantined = key_file(
                path,
                layout_name,
                work,
                inputs={}
                if out is None
                else intake_inputs(path, layout_name, key, zone) | {"history": digest(history)},
                key=key,
                quarantine=quarantine,
                strict=strict,
                history=history,
                refused=refused,
                zone=zone,
                progress=parts["calls"],
            )
        layout = None if layout_name == "keyed" else read_layout(layout_name)
        copies = CopiedColumns(source, layout, keep)
        numbers = row_numbers(calls, keyed=layout_name == "keyed" and history is None)
        threads = threads or os.cpu_count() or 1
        count = count_rows(calls) if numbers is None else int((numbers > 0).sum())
        if not count:
            raise ValueError(f"{path}: no call to score")
        identity = {"model": scorer.bundle.model_id, "policy": scorer.policy.version, "span": SPAN_ROWS}
        files = {"policy file": policy, "complaints": complaints, "registers": registers, "columns": columns}
        files["history"] = history
        identity |= {name: digest(file) for name, file in files.items()}
        plan = open_plan(calls, work, NAMES, MEMORY, threads, identity)
        invalid = pq.read_table(refused) if refused.exists() else NOTHING_REFUSED
        rows = max(count if numbers is None else int(numbers.max()), pc.max(invalid["row"]).as_py() or 0)
        frame = None if complaints is None else matched_complaints(calls, complaints)
        feed = scorer.policy.feed or feed_of_file(calls, count_rows(calls))
        job = Job(scorer, frame, own, call_days(calls), numbers, -(-rows // SPAN_ROWS), feed, out is not None)
        plan.work.mkdir(exist_ok=True)
        run(plan, calls, threads, parts["score"], partial(score_shard, plan, job), VERDICTS)
        if out is not None:
            files_of_verdicts, sizes = plan.files(VERDICTS), {"spans": job.spans, "span_rows": SPAN_ROWS}
            write_verdicts(files_of_verdicts, invalid, copies, out, callee_keys, parts["write"], **sizes)
        counts = total([json.loads(read_notes(file)["counts"]) for file in plan.files(VERDICTS)])
        shutil.rmtree(plan.work)
    counts["rules"] = {name: counts["rules"][name] for name in BITS if name in counts["rules"]}
    last = counts.pop("last") / 1000
    return {
        "model": scorer.bundle.model_id,
        "policy": scorer.policy.version,
        "purpose": declaration.in_record(SCORING),
        "calls": count,
        **counts,
        "feed": job.feed,
        "other_feed": 0 if scorer.bands(job.feed) else count - counts["filling"],
        "quarantined": quarantined,
        "valid_until": scorer.bundle.valid_until,
        "stale": last > datetime.fromisoformat(scorer.bundle.valid_until).timestamp(),
        **({"resumed": True} if resumed else {}),
    }


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


def score_shard(plan: Plan, job: Job, shard: int) -> None:
    """Scores the calls of a shard of callers and writes their verdicts, by span of time."""
    calls = shard_vectors(plan, shard)
    numbers = calls.rows + 1 if job.numbers is None else job.numbers[calls.rows]
    if (numbers <= 0).any():
        calls, numbers = selected(calls, numbers > 0), numbers[numbers > 0]
    keyed = keyed_columns(calls, ALONE if job.scorer.registers is job.complaints is None else JOINED)
    covered = covered_rows(calls.start, job.days, job.scorer.policy.history_days)
    scores, abstaining, details = score_rows(job, calls, keyed, covered)
    counts = verdict_counts(scores, keyed) | {
        "unscored": int(np.isnan(scores.raw).sum()),
        "filling": int(np.count_nonzero(~covered)),
        "no_threshold": dict(sorted(abstaining.items())),
        "last": int(calls.start.max(initial=0)),
    }
    verdicts = {"row": numbers, "start": calls.start, "score": scores.score, "action": scores.action}
    parties = {name: calls.parties[name].combine_chunks() for name in ("caller", "callee", *EPOCHS)}
    rows = {name: pa.array(values) for name, values in (verdicts | {"rules": scores.rule_bits}).items()} | parties
    rows |= details
    spans = ((numbers - 1) // SPAN_ROWS).astype(np.uint16)
    notes = {"counts": json.dumps(counts)}
    write_parts(rows, spans, job.spans, plan.files(VERDICTS)[shard], notes)


def selected(calls: ShardVectors, chosen: Array) -> ShardVectors:
    """Returns the calls of a shard where `chosen` is true, shape (calls,); not their order by caller."""
    return replace(
        calls,
        rows=calls.rows[chosen],
        start=calls.start[chosen],
        parties=calls.parties.filter(pa.array(chosen)),
        values={role: values[chosen] for role, values in calls.values.items()},
        by_caller=np.empty(0, np.int64),
    )


def keyed_columns(calls: ShardVectors, names: tuple[str, ...]) -> pa.Table:
    """Returns start, class of the caller, and these tokens of keyed calls."""
    tokens = party_tokens(calls.parties, names)
    code = calls.values["caller"][:, CALLER_CLASS]
    unknown = NUMBER_CLASSES.index("unknown")
    classes = pa.array(np.where(np.isnan(code), unknown, code).astype(np.int8))
    words = pa.DictionaryArray.from_arrays(classes, pa.array(NUMBER_CLASSES))
    return pa.table({"start": calls.start, **tokens, "caller_class": words})


def score_rows(
    job: Job, calls: ShardVectors, keyed: pa.Table, covered: Array
) -> tuple[Scores, Counter[str], dict[str, pa.Array]]:
    """Returns the scores of a shard's calls, the calls for which every band abstains by stratum, and the details."""
    parts, abstaining, scorer = [], Counter[str](), job.scorer
    details: list[dict[str, pa.Array]] = []
    stale = calls.start > datetime.fromisoformat(scorer.bundle.valid_until).timestamp() * 1000
    values = list(calls.values.values())
    if job.complaints is not None:
        values.append(complaint_vectors(keyed, job.complaints))
    if own_columns(scorer.features):
        values.append(own_values(scorer.features, keyed["caller"], calls.start, job.columns))
    bits = rules_met(keyed, rule_values(calls), scorer.registers, scorer.policy.terms)
    block = np.empty((BLOCK_ROWS, len(scorer.features)))
    for begin in range(0, max(len(calls.rows), 1), BLOCK_ROWS):
        part = slice(begin, begin + BLOCK_ROWS)
        rows = np.concatenate([columns[part] for columns in values], axis=1, out=block[: len(calls.rows) - begin])
        scores = scorer.score_table(rows, bits[part], covered=covered[part], feed=job.feed)
        parts.append(with_preferences(scorer, keyed.slice(begin, BLOCK_ROWS), rows, scores, covered[part]))
        abstaining.update(filter(None, scorer.abstaining_strata(rows, job.feed)))
        if job.details:
            some = keyed.slice(begin, BLOCK_ROWS)
            details.append(verdict_details(scorer, some, rows, parts[-1], covered[part], stale[part]))
    columns = ("raw", "score", "action", "band_action", "rule_bits")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    explained = {name: pa.concat_arrays([part[name] for part in details]) for name in (details[0] if details else ())}
    return Scores(**joined, feed=job.feed), abstaining, explained


def rule_values(calls: ShardVectors) -> dict[int, Array]:
    """Returns the columns that rules read, as `rules.rule_bits.rule_columns` does."""
    columns = [values[:, i] for values in calls.values.values() for i in range(values.shape[1])]
    return {place: columns[place] for _, place in VECTOR_COLUMNS}


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
