"""The settings of a training run, and files of fit parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from callsieve.features.catalogue import NAMES
from callsieve.features.files.dates import parse_day
from callsieve.features.files.toml_file import read_toml
from callsieve.training.data.label_policy import LabelPolicy, read_label_policy

LEARN_FROM = ("labels", "truth")
TARGET = 1e-4  # by default, the share of innocent calls that a certified threshold may flag
LEAST_TARGET, MOST_TARGET = 1e-6, 1e-2
Parameter = bool | int | float | str
"""Value of a parameter of LightGBM."""
WHOLE = ("num_leaves", "min_data_in_leaf", "bagging_freq", "max_bin", "rounds", "patience")
# Lowest and highest permitted value of each.
RANGES: Mapping[str, tuple[float, float]] = {
    "num_leaves": (2, 4096),
    "min_data_in_leaf": (1, 10_000_000),
    "learning_rate": (1e-4, 1.0),
    "feature_fraction": (0.01, 1.0),
    "bagging_fraction": (0.01, 1.0),
    "bagging_freq": (0, 1000),
    "lambda_l1": (0.0, 1e6),
    "lambda_l2": (0.0, 1e6),
    "min_gain_to_split": (0.0, 1e6),
    "max_bin": (7, 1023),
    "rounds": (1, 100_000),
    "patience": (1, 100_000),
}
# Parameters of LightGBM that are passed through; LightGBM checks their values. Others would make a model that a bundle
# cannot hold, or belong to the training: objective, seed, threads, constraints, input and output.
PASSED = frozenset(
    [
        "bin_construct_sample_cnt",
        "boost_from_average",
        "cat_l2",
        "cat_smooth",
        "data_sample_strategy",
        "early_stopping_min_delta",
        "enable_bundle",
        "extra_trees",
        "feature_fraction_bynode",
        "is_unbalance",
        "max_cat_threshold",
        "max_cat_to_onehot",
        "max_delta_step",
        "max_depth",
        "min_data_in_bin",
        "min_data_per_group",
        "min_sum_hessian_in_leaf",
        "monotone_constraints_method",
        "monotone_penalty",
        "neg_bagging_fraction",
        "num_grad_quant_bins",
        "other_rate",
        "path_smooth",
        "pos_bagging_fraction",
        "quant_train_renew_leaf",
        "scale_pos_weight",
        "stochastic_rounding",
        "top_rate",
        "use_quantized_grad",
    ]
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a training run; everything else follows from the calls.

    Attributes:
        features: names in the order of the model's columns.
        learn_from: "labels", as known at a cutoff, or "truth", which only simulated worlds have.
        poorer_feeds: whether to fit a second model, for records of answered calls only and of outgoing calls only.
        valid_from: first day of the model's validity, as "2026-11-28"; "" for the last day of the calls. It is for a
            model learnt from simulated worlds, whose dates say nothing of the day on which it is used.
        parameters: of LightGBM, as a file of `callsieve train --parameters` has them.
        judge_seed: decides which groups of callers judge, and which of their calls; by default the seed. Trainings with
            one judge_seed and several seeds are judged on the same calls.
        target: the share of innocent calls that a certified threshold may flag, 1e-6 to 0.01.
        base: id of the model that an adaptation starts from; "" for a training of its own.

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
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    judge_seed: int | None = None
    target: float = TARGET
    base: str = ""

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
        if not LEAST_TARGET <= self.target <= MOST_TARGET:
            raise ValueError(f"target must be from 1/1000000 to 1/100, got {self.target!r}")
        if self.valid_from:
            parse_day(self.valid_from, "valid_from")
        if self.learn_from not in LEARN_FROM:
            raise ValueError(f"learn_from must be one of {', '.join(LEARN_FROM)}, got {self.learn_from!r}")
        if isinstance(self.features, str):
            raise TypeError(f"features must be a tuple of names, got the text {self.features!r}")

    @property
    def judging_seed(self) -> int:
        """The seed that decides which calls judge."""
        return self.seed if self.judge_seed is None else self.judge_seed


def read_parameters(path: Path | None) -> dict[str, Parameter]:
    """Returns the parameters of a file; none without a file."""
    if path is None:
        return {}
    return checked(read_toml(path), str(path))


def checked(parameters: Mapping[str, Parameter], where: str) -> dict[str, Parameter]:
    """Returns the parameters after checking names, types and ranges.

    >>> checked({"num_leaves": 31}, "here")
    {'num_leaves': 31}
    """
    if not isinstance(parameters, Mapping):
        raise ValueError(f"{where}: expected values by name, got {type(parameters).__name__}")
    for name, value in parameters.items():
        if name in PASSED:
            if not isinstance(value, bool | int | float | str):
                raise ValueError(f"{where}: {name}: expected a number, a word, true or false, got {value!r:.40}")
            continue
        if name not in RANGES:
            names = ", ".join((*RANGES, *sorted(PASSED)))
            raise ValueError(f"{where}: expected parameters among {names}, got {name!r}")
        low, high = RANGES[name]
        kind = int if name in WHOLE else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            number = "a whole number" if name in WHOLE else "a number"
            raise ValueError(f"{where}: {name}: expected {number} from {low:g} to {high:g}, got {value!r:.40}")
    return dict(parameters)
