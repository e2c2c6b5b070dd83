"""The table of verdicts that `callsieve score --out` writes: one row for each row of the input, in its order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from callsieve.features.arrays import Array
from callsieve.features.files.atomic import atomic_path
from callsieve.features.files.parquet_file import is_parquet, parquet_errors
from callsieve.features.files.progress import Progress
from callsieve.features.intake.text_columns import unified
from callsieve.features.keys.callee_keys import CalleeCipher
from callsieve.features.offline.shards import party_tokens
from callsieve.features.offline.shuffle import read_part
from callsieve.features.reading.delimited import read_lines
from callsieve.features.reading.layouts import Layout, read_layout
from callsieve.serving.rules.plan_classes import plan_class
from callsieve.serving.rules.policy import ACTIONS
from callsieve.serving.rules.rule_bits import rule_names
from callsieve.serving.rules.strata import STRATA, strata_of
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.status import MESSAGES, Status, message_of, status_of_score
from callsieve.serving.scorer.verdict import Scores, case_id

from .call_files import CallFile
from .output_keys import with_callee_keys
from .table_rules import rule_column

IDENTITY = ("start", "caller", "callee")
ROW = "row"
DETAILS = ("status", "message", "band", "content", "mode", "reasons", "plan_class", "case")
INVALID: Status = "wrong_input"  # the status of a row that is no call
OWN = "own "  # before the name of a copied column that the verdicts have, too
BATCH_ROWS = 1 << 17


def verdict_table(calls: pa.Table, score: Array, action: Array, rule_bits: Array, callees: CalleeCipher) -> pa.Table:
    """Returns one row a call: its identity, the probability, the action, and the names of the rules that it meets.

    `score`, `action`, `rule_bits`: as in `scorer.verdict.Scores`, shape (calls,).
    """
    identity = with_callee_keys(calls.select(IDENTITY), callees)
    return pa.table(
        {
            **dict(zip(IDENTITY, identity.columns, strict=True)),
            "probability": pa.array(score, from_pandas=True),
            "action": pa.DictionaryArray.from_arrays(pa.array(action), pa.array(ACTIONS)),
            "rules": rule_column(rule_bits),
        }
    )


def verdict_details(
    scorer: Scorer, calls: pa.Table, rows: Array, scores: Scores, covered: Array, stale: Array
) -> dict[str, pa.Array]:
    """Returns the columns DETAILS of some calls, as the scorer would give them for each; words as dictionaries.

    Content, mode, reasons, plan class and case are given for calls that do not pass.

    Args:
        calls: keyed calls with start, caller and callee, shape (calls,).
        rows: their vectors, shape (calls, features).
        covered: whether the history reaches back far enough, shape (calls,).
        stale: whether the call starts after the model's validity, shape (calls,).
    """
    strata, bands = strata_of(rows), () if scores.shift.unlike else scorer.bands(scores.feed)
    band = np.zeros(len(rows), dtype=np.int8)
    for code, candidate in reversed([*enumerate(bands, 1)]):
        reached = scores.raw >= np.array([candidate.threshold_for(stratum) for stratum in STRATA])[strata]
        band[reached & covered] = code
    status, message = statuses(scorer, strata, scores, covered, stale)
    flagged = np.flatnonzero(scores.action > 0)
    by_band = flagged[scores.band_action[flagged] > 0]
    explained = scorer.table_explanations(rows[by_band], scores.feed)
    content = dict(zip(by_band.tolist(), explained["content"], strict=True))
    parties = calls.take(pa.array(flagged)).select(["caller", "callee", "start"]).to_pydict()
    cases = [case_id(scorer.bundle.model_id, *identity) for identity in zip(*parties.values(), strict=True)]
    named = [
        plan_class(content.get(place), rule_names(bits))
        for place, bits in zip(flagged.tolist(), scores.rule_bits[flagged].tolist(), strict=True)
    ]
    columns = {"status": status, "message": message, "band": _words(["", *(item.name for item in bands)], band)}
    columns |= {name: _spread(texts, by_band, len(rows)) for name, texts in explained.items()}
    columns |= {name: _spread(texts, flagged, len(rows)) for name, texts in (("plan_class", named), ("case", cases))}
    return {name: columns[name] for name in DETAILS}


def _words(words: Sequence[str], codes: Array) -> pa.DictionaryArray:
    return pa.array(words, pa.string()).dictionary_encode().take(pa.array(codes))


def _spread(texts: Sequence[str | None], places: Array, count: int) -> pa.StringArray:
    source = np.full(count, -1)
    source[places] = np.arange(len(places))
    return pa.array(texts, pa.string()).take(pa.array(source, mask=source < 0))


def statuses(
    scorer: Scorer, strata: Array, scores: Scores, covered: Array, stale: Array
) -> tuple[pa.DictionaryArray, pa.DictionaryArray]:
    """Returns the status and the message of some calls, as `Scorer.score` would give them for each.

    `strata`: indexes of STRATA, shape (calls,).
    """
    bands = scorer.bands(scores.feed)
    silent = np.array([scorer.is_silent(stratum, scores.feed) for stratum in STRATA])
    fault: tuple[Status, str] = "fault", message_of("fault", "the model's raw score is not finite")
    words = [
        fault
        if broken
        else status_of_score(
            stale=old,
            behind=False,
            filling=filling,
            other_feed=not bands,
            silent=quiet,
            unlike=scores.shift.unlike,
            detail=scores.shift.detail,
        )
        for broken, old, filling, quiet in product((False, True), repeat=4)
    ]
    codes = 8 * np.isnan(scores.raw) + 4 * stale + 2 * ~covered + silent[strata]
    return _words([status for status, _ in words], codes), _words([message for _, message in words], codes)


def write_verdicts(
    parts: Sequence[Path],
    refused: pa.Table,
    copies: CopiedColumns,
    out: Path,
    callees: CalleeCipher,
    progress: Progress,
    *,
    spans: int,
    span_rows: int,
) -> None:
    """Writes the verdicts of all shards in order of the input's rows, with the rows that are no calls."""
    with atomic_path(out) as part:
        file = None
        for span in range(spans):
            verdicts = read_part(parts, span)
            verdicts = verdicts.sort_by(ROW).combine_chunks()
            calls = pa.table({"start": verdicts["start"]} | party_tokens(verdicts, ("caller", "callee")))
            score, action, rules = (verdicts[name].to_numpy() for name in ("score", "action", "rules"))
            table = verdict_table(calls, score, action, rules, callees)
            for name in DETAILS:
                table = table.append_column(name, verdicts[name].combine_chunks().cast(pa.string()))
            table = table.add_column(0, ROW, verdicts[ROW])
            last = (span + 1) * span_rows if span < spans - 1 else None
            invalid = refused.filter(_between(refused[ROW], span * span_rows, last))
            if invalid.num_rows:
                table = _with_refused(table, invalid)
            table = copies.joined(table, last)
            if file is None:
                file = pq.ParquetWriter(part, table.schema, compression="zstd", write_page_checksum=True)
            file.write_table(table.cast(file.schema))
            progress("write", (span + 1) / spans)
        if file is not None:
            file.close()


def _between(rows: pa.ChunkedArray, first: int, last: int | None) -> pa.ChunkedArray:
    later = pc.greater(rows, first)
    return later if last is None else pc.and_(later, pc.less_equal(rows, last))


def _with_refused(table: pa.Table, invalid: pa.Table) -> pa.Table:
    columns = {name: pa.nulls(invalid.num_rows, table.schema.field(name).type) for name in table.column_names}
    message = pc.binary_join_element_wise(MESSAGES[INVALID], invalid["reason"], ": ")
    columns |= {"status": pa.array([INVALID] * invalid.num_rows), "message": message, ROW: invalid[ROW]}
    rows = pa.table(columns, schema=table.schema)
    return unified(pa.concat_tables([table, rows])).sort_by(ROW).combine_chunks()


class CopiedColumns:
    """Columns of the input that are copied to the verdicts, read once from its begin to its end."""

    def __init__(self, path: Path, layout: Layout | None, names: Sequence[str]) -> None:
        """Opens the file. `layout`: layout of the file; None for a Parquet file of keyed calls."""
        self._names, self._batches = names, column_batches(path, layout, names) if names else iter(())
        self._rows = np.empty(0, np.int64)
        self._cells: pa.Table | None = None
        if names:
            self._read()

    def _read(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            return False
        rows, cells = batch
        cells = pa.table([column.cast(_plain(column.type)) for column in cells.columns], names=list(self._names))
        self._rows = np.concatenate([self._rows, rows])
        self._cells = cells if self._cells is None else pa.concat_tables([self._cells, cells])
        return True

    def joined(self, table: pa.Table, last: int | None) -> pa.Table:
        """Returns the table with the columns; null for a line that could not be split into cells.

        `last`: last row of the span; None for the last span.
        """
        if self._cells is None:
            return table
        while (last is None or not len(self._rows) or self._rows[-1] < last) and self._read():
            pass
        rows = table[ROW].to_numpy()
        places = np.minimum(np.searchsorted(self._rows, rows), max(len(self._rows) - 1, 0))
        matches = self._rows[places] == rows
        taken = self._cells.take(pa.array(places, mask=~matches))
        for name in self._names:
            table = table.append_column(OWN + name if name in table.column_names else name, taken[name])
        if last is not None:
            begin = int(np.searchsorted(self._rows, last, side="right"))
            self._rows, self._cells = self._rows[begin:], self._cells.slice(begin)
        return table


def check_copied(calls: CallFile, names: Sequence[str]) -> None:
    """Raises ValueError if a file of calls does not have one of the columns to copy."""
    if names:
        next(column_batches(calls.path, None if calls.keyed else read_layout(calls.layout), names), None)


def column_batches(path: Path, layout: Layout | None, names: Sequence[str]) -> Iterator[tuple[Array, pa.Table]]:
    """Yields row numbers and the cells of some columns of a file, batch by batch."""

    def check(there: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        for name in names:
            if name not in there:
                raise ValueError(f"{path.name}: --keep: no column {name!r}; the file has {', '.join(there)}")
        return {name: (name,) for name in names}

    if layout is not None and not is_parquet(path):
        for batch in read_lines(path, check, layout):
            yield batch.rows, batch.cells.select(list(names))
        return
    with parquet_errors(path), pq.ParquetFile(path, pre_buffer=False) as file:
        check(file.schema_arrow.names)
        done = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=list(names)):
            yield np.arange(done + 1, done + 1 + batch.num_rows), pa.Table.from_batches([batch]).select(list(names))
            done += batch.num_rows


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
