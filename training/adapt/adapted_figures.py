"""The types of the figures of an adaptation, for the run page, MLflow, the model card and `--json`."""

from __future__ import annotations

from typing import Literal, TypedDict

from callsieve.training.evidence.funnel import Covered

Learnt = Literal["nothing", "threshold", "threshold and trees"]


class Side(TypedDict):
    """A model on the network: its threshold, and probable shares at it.

    caught: of nuisance calls. flagged, bound: share of innocent calls flagged, as estimated from checked callers, and
    its upper bound; None without checks.
    """

    threshold: float | None
    caught: float
    flagged: float | None
    bound: float | None


class AdaptedFigures(TypedDict):
    """The figures of an adaptation.

    base, manifest, signed_by: model id of the base, SHA-256 of its manifest, and id of the key that signed it. learnt:
    "nothing", "threshold" or "threshold and trees". why: a sentence on that. missing: checks that are still needed
    before anything is learnt. asked, absent, answered, twice, changed: callers drawn, of these without a call here,
    answered, answered twice, and with two different answers. left_out: callers with a single call,
    which may be forged and are not drawn. covered: from all callers to those that evidence decides.
    before, after: base and adapted model.
    """

    base: str
    manifest: str
    signed_by: str
    learnt: Learnt
    why: str
    missing: int
    asked: int
    absent: int
    answered: int
    twice: int
    changed: int
    complaints: int
    left_out: int
    covered: dict[str, Covered]
    before: Side
    after: Side
