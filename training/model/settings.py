"""The settings of a training run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from callsieve.features.catalogue import NAMES
from callsieve.features.files.dates import parse_day
from callsieve.training.data.label_policy import LabelPolicy, read_label_policy
from callsieve.training.own.own_estimator import estimator_name

LEARN_FROM = ("labels", "truth")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a training run; everything else follows from the calls.

    Attributes:
        features: names in the order of the model's columns; complaint features only if they are named here.
        learn_from: "labels", as known at a cutoff, or "truth", which only simulated worlds have.
        poorer_feeds: whether to fit a second model, for records of answered calls only and of outgoing calls only.
        valid_from: first day of the model's validity, as "2026-11-28"; "" for the last day of the calls. It is for a
            model learnt from simulated worlds, whose dates say nothing of the day on which it is used.
        parameters: of LightGBM, as a file of `callsieve train --parameters` has them.
        estimator: a class or function that makes another classifier than the project's, or its name as "module:name". A
            run of such a model is judged and recorded; it can be signed only if the classifier is LightGBM's.
        judge_seed: decides which groups of callers judge, and which of their calls; by default the seed. Trainings with
            one judge_seed and several seeds are judged on the same calls.

    >>> Settings(seed=1).label_delay_days
    3
    """

    seed: int = 0
    threads: int = 0
    calls_per_number: int = 24
    learn_from: str = "labels"
    poorer_feeds: bool = False
    label_delay_days: int = 3
    valid_from: str = ""
    valid_days: int = 90
    epoch: int = 1
    features: tuple[str, ...] = NAMES
    label_policy: LabelPolicy = field(default_factory=read_label_policy)
    parameters: dict[str, Any] = field(default_factory=dict)
    estimator: str | Callable[[], Any] = ""
    judge_seed: int | None = None

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError, in one line, for values that would otherwise fail after hours of training."""
        for name in ("seed", "threads", "calls_per_number", "label_delay_days", "valid_days", "epoch"):
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"{name} must be a whole number, got {type(value).__name__}")
            if value < 0:
                raise ValueError(f"{name} must be 0 or more, got {value}")
        if self.judge_seed is not None and (type(self.judge_seed) is not int or self.judge_seed < 0):
            raise ValueError(f"judge_seed must be a whole number, 0 or more, got {self.judge_seed!r}")
        if self.valid_from:
            parse_day(self.valid_from, "valid_from")
        if self.learn_from not in LEARN_FROM:
            raise ValueError(f"learn_from must be one of {', '.join(LEARN_FROM)}, got {self.learn_from!r}")
        if isinstance(self.features, str):
            raise TypeError(f"features must be a tuple of names, got the text {self.features!r}")
        if self.estimator:
            object.__setattr__(self, "estimator", estimator_name(self.estimator))
        if self.estimator and self.parameters:
            raise ValueError("parameters: they are of the project's own LightGBM; an own estimator sets its own")

    @property
    def judging_seed(self) -> int:
        """The seed that decides which calls judge."""
        return self.seed if self.judge_seed is None else self.judge_seed
