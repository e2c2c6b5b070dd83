"""Reads and writes files of fit parameters: a search writes them, a training reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.toml_file import read_toml

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


def read_parameters(path: Path | None) -> dict[str, Any]:
    """Returns the parameters of a file; none without a file.

    Raises:
        ValueError: in one line, if the file is not TOML, a value is outside RANGES, or a name is in neither list.
    """
    if path is None:
        return {}
    return checked(read_toml(path), str(path))


def checked(parameters: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the parameters after checking names, types and ranges.

    >>> checked({"num_leaves": 31}, "here")
    {'num_leaves': 31}
    """
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


def write_parameters(parameters: Mapping[str, Any], why: str, path: Path) -> None:
    """Writes a file that `read_parameters` reads; `why` is a comment of one line."""
    lines = [f"# {why}", *(f"{name} = {value!r}" for name, value in checked(parameters, str(path)).items())]
    write_atomic(path, ("\n".join(lines) + "\n").encode())
