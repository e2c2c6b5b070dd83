"""A verdict made again from its evidence, bit for bit."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from callsieve.features.files.strict_json import finite
from callsieve.serving.live.verdict_log import VerdictRecord, floats_to_letters, letters_to_floats
from callsieve.serving.rules.rules import Fact
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import FILLING


@dataclass(frozen=True, slots=True)
class RescoreResult:
    """What came out equal, and what did not, each with what was then and what is now."""

    equal: tuple[str, ...]
    differences: tuple[str, ...]


def rescore(found: VerdictRecord, scorer: Scorer) -> RescoreResult:
    """Judge the vector of a case once more by a bundle and a policy.

    Rules that were met are facts about the call, kept as they were found; they are not looked up again.
    """
    told = tuple(map(_fact, found.rules))
    again = scorer.explain_row(
        letters_to_floats(found.vector), found.at, told, always=False, covered=found.status != FILLING
    )
    now = {
        "model": again.model,
        "catalogue": scorer.bundle.catalogue_hash,
        "policy": scorer.policy.version,
        "raw": floats_to_letters([again.raw]),
        "score": finite(again.score),
        "band": again.band,
        "action": again.action,
        "content": again.content,
        "mode": again.mode,
        "reasons": json.loads(json.dumps(finite([asdict(reason) for reason in again.reasons]))),
    }
    then = {name: getattr(found, name) for name in now}
    equal = tuple(name for name in now if then[name] == now[name])
    return RescoreResult(
        equal, tuple(f"{name}: {_short(then[name])}, now {_short(now[name])}" for name in now if name not in equal)
    )


def _fact(plain: dict[str, Any]) -> Fact:
    """A fact of the evidence; where it has no number, JSON had to have nothing."""
    return Fact(**plain | {name: math.nan for name in ("value", "limit") if plain[name] is None})


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
