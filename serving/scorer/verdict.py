"""What is said about a call, and about a table of calls."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from callsieve.features.dataclass import dataclass
from callsieve.serving.rules.rules import Fact

from .reasons import Reason

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILLING = "filling"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said about one call.

    `score` is the calibrated probability of a nuisance call and `raw` the model's own score (log-odds), NaN if there
    is none. `band` names the certified band that the raw score reached, if any, and `threshold` is where that band
    begins, else NaN. `status` is "ok", "stale" (the model is past its `valid_until`), "filling" (too little is known of
    the week before the call, or there was no room to keep it: no band says anything), or why there is no score; in the
    last two the action is that of the rules. `case` leads back to the evidence. `rules` are the facts that hold of the
    call, whatever the model says of it; neither changes the other.

    >>> from callsieve.features import Call, History, Intake, Key
    >>> from callsieve.serving import Scorer, read_public_key
    >>> call = Intake(Key("e1", bytes(32)))(Call(1772500000.0, "13800138000", "13900139000"))
    >>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
    >>> verdict = scorer.score(History(), call)
    >>> verdict.action, verdict.status, 0 < verdict.score < 1, len(verdict.case)
    ('pass', 'filling', True, 16)
    """

    action: str
    score: float
    band: str
    content: str | None
    mode: str | None
    reasons: tuple[Reason, ...]
    status: str
    case: str
    model: str
    valid_until: str
    raw: float = math.nan
    threshold: float = math.nan
    rules: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """What is said about each row of a table; arrays of equal length. `action` indexes `policy.ACTIONS`.

    `banded` is the action by the bands alone. Bit i of `rules` says that the row meets `rules.RULES[i]`.

    >>> import numpy as np
    >>> from callsieve.serving import Scorer, read_public_key
    >>> from callsieve.serving.rules.policy import ACTIONS
    >>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
    >>> found = scorer.score_table(np.full((2, len(scorer.features)), np.nan))
    >>> found.score.shape, [ACTIONS[i] for i in found.action]
    ((2,), ['pass', 'pass'])
    """

    raw: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    action: npt.NDArray[np.int8]
    banded: npt.NDArray[np.int8]
    rules: npt.NDArray[np.int64]


def case_id(model: str, caller: str, callee: str, start: int) -> str:
    """The same call judged by the same model is the same case: 16 hex digits, from which nothing can be read back."""
    identity = f"{model} {caller} {callee} {start}"
    return hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:16]
