"""Score a file of call records with a signed bundle: verdicts for every call, counts for the whole."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.catalogue import NAMES
from callsieve.features.catalogue.lite import LITE
from callsieve.features.complaints import complaint_vectors
from callsieve.features.files.atomic import alone
from callsieve.features.files.dates import unix_now
from callsieve.features.files.folders import check_apart
from callsieve.features.files.progress import Progress
from callsieve.features.intake.text_columns import codes
from callsieve.features.keys.callee_keys import Callees
from callsieve.features.keys.tokens import ENVIRONMENT
from callsieve.features.offline.shards import read_manifest, write_manifest, write_shards
from callsieve.features.offline.table import vectors
from callsieve.features.online.coverage import call_days, covered_rows
from callsieve.features.reading.call_files import write_table
from callsieve.serving.bundle.signing import read_public_key, signer_path
from callsieve.serving.custody.expiry import count_expired
from callsieve.serving.custody.purposes import require_purpose
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.rules.policy import ACTIONS, read_policy
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS, rule_columns
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores

from .call_files import intake_inputs, key_or_temporary, read_keyed_file
from .complaint_rows import complaint_table, read_complaints
from .output_keys import callee_keys_or_temporary, with_callee_keys
from .register_files import read_registers
from .table_rules import rule_column, rules_met, with_preferences

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


SCORING, VECTORS = "scoring", "training"  # purposes: vectors are what models are made of


def score_calls(
    scorer: Scorer, calls: pa.Table, complaints: pd.DataFrame | None = None, *, threads: int = 0
) -> tuple[Scores, Array]:
    """Scores of keyed calls by model and rules, and their vectors.

    With `complaints` (columns of COMPLAINTS) if the model asks for them; with the scorer's registers, if any.

    Raises: ValueError: if the model has features of reports, and there are none.
    """
    rows = vectors(calls, threads=threads or None)
    if scorer.features != NAMES:
        if complaints is None:
            raise ValueError("the model has features of reports: expected --complaints FILE")
        rows = np.hstack([rows, complaint_vectors(calls, complaint_table(calls, complaints))])
    return score_vectors(scorer, calls, rows, threads), rows


def score_vectors(scorer: Scorer, calls: pa.Table, rows: Array, threads: int) -> Scores:
    """What is said about calls whose vectors are known: by model and rules, and by what called persons do not want."""
    met = rules_met(calls, rule_columns(rows), scorer.registers, scorer.policy.terms)
    filled = rows_with_history(calls, scorer.policy.history_days)
    scores = scorer.score_table(rows, met, covered=filled, threads=threads or 2)
    return with_preferences(scorer, calls, rows, scores, filled)


def rows_with_history(calls: pa.Table, days: int) -> Array:
    """Before which calls so many days are known, where their table is all that is known."""
    start = calls["start"].to_numpy()
    return covered_rows(start, call_days(start), days)


def counts(scores: Scores, calls: pa.Table) -> dict[str, dict[str, int]]:
    """Calls by action, and callers by the strongest action that one of their calls met.

    Apart from them: calls by the action of the model's bands alone, and calls that meet each rule.
    """
    caller, callers = codes(calls["caller"])
    strongest = np.zeros(callers, dtype=np.int8)
    np.maximum.at(strongest, caller, scores.action)
    met = {name: int(np.count_nonzero(scores.rule_bits & bit)) for name, bit in BITS.items()}
    return {
        "actions": by_action(Counter(scores.action.tolist())),
        "callers": by_action(Counter(strongest.tolist())),
        "bands": by_action(Counter(scores.band_action.tolist())),
        "rules": {name: calls for name, calls in met.items() if calls},
    }


def by_action(counts: Mapping[int, int]) -> dict[str, int]:
    """How often each action, none left out."""
    return {word: counts.get(i, 0) for i, word in enumerate(ACTIONS)}


def verdict_table(scores: Scores, calls: pa.Table, callees: Callees) -> pa.Table:
    """One row a call: moment, caller, whom it was for (by a key of its own), score, action, the rules that it meets."""
    action = pa.DictionaryArray.from_arrays(pa.array(scores.action), pa.array(ACTIONS))
    names = ["start", "caller", "callee"]
    return pa.table(
        {
            **dict(zip(names, with_callee_keys(calls.select(names), callees).columns, strict=True)),
            "score": pa.array(scores.score, from_pandas=True),
            "action": action,
            "rules": rule_column(scores.rule_bits),
        }
    )


def open_scorer(
    bundle: Path, trust: Path | None, policy: Path | None = None, registers: Registers | None = None
) -> Scorer:
    """The scorer of a bundle that the key which is trusted has signed, or by default the one beside it."""
    signer = read_public_key(signer_path(bundle, trust))
    return Scorer.load(bundle, trusted=[signer], policy=read_policy(policy), registers=registers)


def open_registers(folder: Path | None, key: Path | None, purpose: str) -> Registers | None:
    """The registers of a folder, keyed or as offices write them, without rows past their time.

    Raises: ValueError: if they hold numbers as written, and there is no key that keyed the calls, or if the folder is
        not declared for the purpose.
    """
    if folder is None:
        return None
    told = require_purpose(folder, purpose)
    secret = key_or_temporary(key)
    registers = read_registers(folder, secret).registers
    fresh = key is None and ENVIRONMENT not in os.environ
    if fresh and registers.has_epoch(secret.epoch):
        raise ValueError(f"{folder}: numbers as written need the key of the calls: expected --key FILE")
    return registers if told.simulated else registers.in_time(read_retention(), unix_now())


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
    registers: Path | None = None,
    quarantine: Path | None,
    strict: bool,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """Counts of a scored file by action, for calls and callers; the verdict of each call goes to `out`."""
    check_apart(path, complaints, key, out, quarantine)
    scorer = open_scorer(bundle, trust, policy, open_registers(registers, key, SCORING))
    hidden = callee_keys_or_temporary(callees)
    read = read_keyed_file(
        path, layout_name, SCORING, key=key, quarantine=quarantine, strict=strict,
        progress=lambda done, size: progress("read", 0.4 * done / max(size, 1)),
    )  # fmt: skip
    if read.calls.num_rows == 0:
        raise ValueError(f"{path}: no call to score; {read.put_apart}")
    progress("score", 0.5)
    told = None if complaints is None else read_complaints(complaints)
    scores, rows = score_calls(scorer, read.calls, told, threads=threads)
    if out is not None:
        write_table(verdict_table(scores, read.calls, hidden), out)
    last = int(read.calls["start"].to_numpy().max()) / 1000
    return {
        "model": scorer.bundle.model_id,
        "policy": scorer.policy.version,
        "purpose": SCORING,
        "calls": read.calls.num_rows,
        **counts(scores, read.calls),
        "unscored": int(np.isnan(scores.raw).sum()),
        "filling": int(np.count_nonzero(~rows_with_history(read.calls, scorer.policy.history_days))),
        "no_threshold": dict(sorted(Counter(filter(None, scorer.abstaining_strata(rows))).items())),
        "quarantined": read.quarantined,
        "valid_until": scorer.bundle.valid_until,
        "stale": last > datetime.fromisoformat(scorer.bundle.valid_until).timestamp(),
    }


def write_vectors(
    path: Path,
    layout_name: str,
    out: Path,
    *,
    names: tuple[str, ...] = NAMES,
    memory: int | None = None,
    key: Path | None = None,
    quarantine: Path | None = None,
    strict: bool = False,
    threads: int = 0,
    progress: Progress,
) -> dict[str, Any]:
    """Write the vectors of a file of calls into a folder, in shards; begun and killed, it goes on where it was.

    Column `row` is a row of the file if that is keyed, else of `_calls.parquet`: its keyed calls, kept in the folder.
    """
    check_apart(path, key, quarantine)
    told = require_purpose(path, VECTORS)
    calls, quarantined = path, 0
    if layout_name != "keyed":
        asked = intake_inputs(path, layout_name, key) | {"quarantine": str(quarantine), "strict": strict}
        calls = out / "_calls.parquet"
        # With a new key two at once would write other tokens each, one under the other's hands.
        with alone(out):
            noted = read_manifest(out / "_intake.json", asked)
            if noted is None:
                read = read_keyed_file(
                    path, layout_name, VECTORS, key=key, quarantine=quarantine, strict=strict,
                    progress=lambda done, size: progress("intake", 0.3 * done / max(size, 1)),
                )  # fmt: skip
                write_table(read.calls, calls)
                noted = asked | {"quarantined": sum(read.quarantined.values())}
                write_manifest(out / "_intake.json", noted)
        quarantined = noted["quarantined"]
    elif not told.simulated and (due := count_expired(path, read_retention().of("calls"), unix_now())):
        raise ValueError(f"{path}: {due} calls are past their time; see callsieve retention run")
    facts = write_shards(calls, out, features=names, memory=memory, threads=threads or None, progress=progress)
    return {**facts, "quarantined": quarantined, "purpose": VECTORS, "out": str(out)}


def names_in(text: str | None) -> tuple[str, ...]:
    """Names of features: all, or those of a file, one a line, or with commas between; "lite" is for LITE.

    >>> names_in("call_hour, call_step")
    ('call_hour', 'call_step')
    """
    if text is None:
        return NAMES
    if text == "lite":
        return LITE
    # Names with commas may be longer than a file's name can be.
    of_file = "," not in text and Path(text).is_file()
    words = Path(text).read_text(encoding="utf-8").split() if of_file else text.split(",")
    return tuple(dict.fromkeys(word.strip() for word in words))


def bytes_in(text: str | None) -> int | None:
    """A size as a person writes it.

    >>> bytes_in("1.5GiB")
    1610612736
    """
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?) ?([KMGT])iB", text)
    if not found:
        raise ValueError(f"memory: expected a size as 4GiB or 800MiB, got {text!r}")
    return int(float(found[1]) * 1024 ** (1 + "KMGT".index(found[2])))
