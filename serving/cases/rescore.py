"""Scores the stored vector of a case again and compares the result with the stored verdict, bit for bit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from callsieve.features.files.strict_json import finite
from callsieve.serving.bundle.level import Shift
from callsieve.serving.live.verdict_log import VerdictRecord, floats_to_letters, letters_to_floats
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.status import band_conditions


@dataclass(frozen=True, slots=True)
class RescoreResult:
    """The comparison of a stored verdict with a new one.

    Attributes:
        equal: names of the equal fields.
        differences: one text for each other field, with the stored and the new value.
    """

    equal: tuple[str, ...]
    differences: tuple[str, ...]


def rescore(record: VerdictRecord, scorer: Scorer) -> RescoreResult:
    """Scores the vector of a case again, with the bundle and the policy of `scorer`.

    The facts of the call are the stored ones; registers are not looked up again.
    """
    vector = letters_to_floats(record.vector)
    conditions = band_conditions(record.status, record.band, scored=record.score is not None)
    facts, shift = record.facts(), Shift(record.shift)
    verdict = scorer.explain_row(vector, record.at, facts, always=False, feed=record.feed, shift=shift, **conditions)
    new = {
        "model": verdict.model,
        "catalogue": scorer.bundle.catalogue_hash,
        "policy": scorer.policy.version,
        "raw": floats_to_letters([verdict.raw]),
        "score": finite(verdict.score),
        "band": verdict.band,
        "action": verdict.action,
        "content": verdict.content,
        "mode": verdict.mode,
        "reasons": json.loads(json.dumps(finite([asdict(reason) for reason in verdict.reasons]))),
    }
    stored = {name: getattr(record, name) for name in new}
    equal = tuple(name for name in new if stored[name] == new[name])
    return RescoreResult(
        equal, tuple(f"{name}: {_short(stored[name])}, now {_short(new[name])}" for name in new if name not in equal)
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
