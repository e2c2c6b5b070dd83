"""Compares a simulated world with real records: statistic by statistic, and by a model trained on the world alone.

No parameter of the world is fitted here. Distributions are compared by the two-sample Kolmogorov-Smirnov distance,
published figures by their ratio. Fraud numbers are compared with published medians only, never with labelled rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from callsieve.serving.bundle.forest import read_forest
from callsieve.training.model.fit import FitRows, fit
from callsieve.training.world import Scenario, World

from . import world_arrays as arrays
from .march_table import COLUMNS, march_columns
from .world_arrays import WorldArrays

MOST_KS = 0.15
MOST_RATIO = 0.20
LEAST_CALLS = 5  # below it the real table's activity is in its label
MARCH = "sichuan_march_calls.parquet"
RAW = "sichuan_raw_calls_4_subscribers.csv"
COMPLAINTS = "ftc_complaints_2020H2.parquet"
STUDENTS = "copenhagen_calls.csv"
# The parameters of the real table, with fewer rounds: the classes of the world are easier to separate.
PARAMETERS = {"learning_rate": 0.03, "num_leaves": 15, "min_data_in_leaf": 40, "lambda_l2": 5.0, "rounds": 400}

# Compared figures of each subscriber's month: name, column of the table, unit.
MONTHLY = (
    ("calls", "voc_cnt", "calls"),
    ("peers", "user_cnt", "people"),
    ("calls per peer", "voc_cnt_per_user", "calls"),
    ("outgoing share", "call_type_1_ratio", "share"),
    ("reciprocal peers", "interactive_call_user_ratio", "share"),
    ("relationship days", "duration_days_mean", "days"),
    ("active days", "active_days", "days"),
    ("calls on the busiest day", "max_cnt_inner_day", "calls"),
    ("peers on the busiest day", "user_max_cnt_inner_day", "people"),
)
# Medians of the fraud subscribers with at least 5 calls in March 2020, whole set, as published with it.
FRAUD_MEDIANS = (133.0, 66.0, 1.53, 0.91, 0.03, 1.2, 11.0, 39.0, 20.0)
# All 5,015,430 records of the Sichuan set, of normal and of fraud subscribers alike.
TALK = {0.05: 7.0, 0.25: 17.0, 0.50: 34.0, 0.75: 73.0, 0.95: 282.0}
TALK_MEAN = 81.0
NO_PLACE, DUPLICATES = 0.112, 1389 / 5_015_430
# TouchPal, 2016: days, calls and callees of a mean nuisance number, and its mean talk in seconds.
TOUCHPAL = {"life": 6.61, "calls": 328.0, "callees": 255.0, "talk": 29.0}
# Marks on couriers, takeaway and taxis of all marks (Dianhuabang, 2022).
LIFE_SERVICE_MARKS = 0.1952


@dataclass(frozen=True, slots=True)
class Statistic:
    """One comparison. `distance` is a KS distance, or the world's value over the real one, less 1."""

    group: str
    name: str
    unit: str
    real: float
    world: float
    kind: str
    distance: float
    source: str

    @property
    def within(self) -> bool:
        """Whether the distance is at most 0.15 KS, or 20 %."""
        return abs(self.distance) <= (MOST_KS if self.kind == "ks" else MOST_RATIO)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values; a figure that could not be computed is null."""
        plain = asdict(self) | {"within": self.within}
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in plain.items()
        }


@dataclass(frozen=True, slots=True)
class Realism:
    """All statistics, and the AUC on real rows of a model that was trained on the world alone."""

    statistics: tuple[Statistic, ...]
    sim_to_real_auc: float
    rows: dict[str, int]

    @property
    def within_share(self) -> float:
        """Share of the statistics within their limits."""
        return sum(statistic.within for statistic in self.statistics) / len(self.statistics)


def require_real(data: Path) -> None:
    """Raises ValueError if a file of the real data is missing in the folder."""
    missing = [name for name in (MARCH, RAW, COMPLAINTS, STUDENTS) if not (data / name).is_file()]
    if missing:
        raise ValueError(f"{data}: expected the real data, missing: {', '.join(missing)}")


def realism(world: World, scenario: Scenario, data: Path, *, seed: int = 0, threads: int = 0) -> Realism:
    """Compare a world whose numbers are not keyed, and its scenario's complaints, with the real data in a folder.

    Raises:
        ValueError: if a file of the real data is missing.
    """
    require_real(data)
    simulated = arrays.world_arrays(world)
    rows = pd.read_parquet(data / MARCH).query(f"voc_cnt >= {LEAST_CALLS}")
    month = march_columns(arrays.month_records(simulated))
    month = month[month["voc_cnt"] >= LEAST_CALLS]
    guilty = simulated.nuisance[month.index.to_numpy()]
    statistics = (
        *_ordinary(rows[rows["label"] == 0], month[~guilty]),
        *_fraud(month[guilty]),
        *_records(simulated),
        *_rhythm(pd.read_csv(data / RAW), simulated, month[~guilty]),
        *_students(pd.read_csv(data / STUDENTS), simulated),
        *_lives(simulated),
        *_complaints(pd.read_parquet(data / COMPLAINTS), simulated, arrays.complaints(simulated, scenario)),
    )
    auc = sim_to_real_auc(month, guilty, rows, seed=seed, threads=threads)
    counts = {
        "real": len(rows),
        "real_fraud": int(rows["label"].sum()),
        "world": len(month),
        "world_nuisance": int(guilty.sum()),
    }
    return Realism(statistics, auc, counts)


def sim_to_real_auc(
    month: pd.DataFrame, guilty: NDArray[np.bool_], rows: pd.DataFrame, *, seed: int = 0, threads: int = 0
) -> float:
    """Returns the AUC on real rows of LightGBM trained on the world's subscribers; real labels are read only here."""
    X = month[list(COLUMNS)].to_numpy()
    y = guilty.astype(np.int8)
    outside = np.random.default_rng(seed).random(len(y)) < 0.25
    # Nuisance and innocent subscribers have the same total weight.
    weight = np.where(guilty, 0.5 / max(guilty.mean(), 1e-9), 0.5 / max(1 - guilty.mean(), 1e-9))
    inside, checked = (FitRows(X[side], y[side], weight[side]) for side in (~outside, outside))
    text = fit(inside, checked, COLUMNS, seed=seed, threads=threads, parameters=PARAMETERS)
    raw = read_forest(text).predict_raw(np.ascontiguousarray(rows[list(COLUMNS)].to_numpy(dtype=float)))
    return float(roc_auc_score(rows["label"], raw))


def _between(group: str, name: str, unit: str, real: Any, world: Any, source: str) -> Statistic:
    """Compares two samples by their KS distance, and gives both medians."""
    distance = float(ks_2samp(real, world).statistic) if len(world) else math.nan
    return Statistic(group, name, unit, float(np.median(real)), _median(world), "ks", distance, source)


def _against(group: str, name: str, unit: str, real: float, world: float, source: str) -> Statistic:
    """Compares two figures by their ratio."""
    return Statistic(group, name, unit, real, world, "ratio", world / real - 1 if real else math.nan, source)


def _median(values: Any) -> float:
    return float(np.median(values)) if len(values) else math.nan


def _ordinary(rows: pd.DataFrame, month: pd.DataFrame) -> list[Statistic]:
    return [
        _between("ordinary subscribers", name, unit, rows[column], month[column], "Sichuan, March 2020")
        for name, column, unit in MONTHLY
    ]


def _fraud(month: pd.DataFrame) -> list[Statistic]:
    return [
        _against("nuisance SIMs", name, unit, real, _median(month[column]), "Sichuan, March 2020, median")
        for (name, column, unit), real in zip(MONTHLY, FRAUD_MEDIANS, strict=True)
    ]


def _records(world: WorldArrays) -> list[Statistic]:
    group, source = "records", "Sichuan, 5 M records"
    talk = world.talk[world.answered & world.ordinary[world.caller]]
    rows = [
        _against(group, f"talk, quantile {at:.0%}", "s", real, float(np.quantile(talk, at)), source)
        for at, real in TALK.items()
    ]
    rows.append(_against(group, "talk, mean", "s", TALK_MEAN, float(talk.mean()), source))
    rows.append(_against(group, "without a place", "share", NO_PLACE, world.placeless, source))
    rows.append(_against(group, "duplicates", "share", DUPLICATES, world.duplicates, source))
    return rows


def _rhythm(raw: pd.DataFrame, world: WorldArrays, month: pd.DataFrame) -> list[Statistic]:
    """Compares hours and gaps of two real subscribers with those of simulated people who call about as much."""
    calls = raw[raw["label"] == 0].assign(start=lambda f: pd.to_datetime(f["start_datetime"]))
    calls = calls.sort_values(["phone_no_m", "start"])
    gaps = calls.groupby("phone_no_m")["start"].diff().dt.total_seconds().dropna()
    hours = calls["start"].dt.hour + calls["start"].dt.minute / 60
    monthly = calls.groupby("phone_no_m").size().to_numpy() / 8  # eight months
    alike = month.index[month["voc_cnt"].between(0.7 * monthly.min(), 1.4 * monthly.max())].to_numpy()
    source = "Sichuan, 2 subscribers"
    return [
        _between("rhythm", "gap between calls", "s", gaps, arrays.gaps(world, alike), source),
        _between("rhythm", "hour of day", "h", hours, arrays.hours(world, alike), source),
    ]


def _students(calls: pd.DataFrame, world: WorldArrays) -> list[Statistic]:
    missed = float((calls["duration"] < 0).mean())
    return [_against("rhythm", "missed calls among acquaintances", "share", missed, world.missed, "Copenhagen")]


def _lives(world: WorldArrays) -> list[Statistic]:
    lives = arrays.nuisance_lives(world)
    units = {"life": "days", "calls": "calls", "callees": "people", "talk": "s"}
    return [
        _against("nuisance numbers", f"{name}, mean", units[name], real, lives[name], "TouchPal, 2016")
        for name, real in TOUCHPAL.items()
    ]


def _complaints(real: pd.DataFrame, world: WorldArrays, complaints: arrays.Complaints) -> list[Statistic]:
    """Compares complaints: repeats of a number, weekend against weekday, and the caller's area."""
    group, source = "complaints", "FTC, 2020"
    published = {(7, 1): 0.129, (30, 1): 0.167, (7, 3): 0.065, (30, 3): 0.092}
    rows = [
        _against(
            group, f"number had ≥ {least} in {days} days", "share", share, arrays.churn(complaints, days, least), source
        )
        for (days, least), share in published.items()
    ]
    by_day = real.groupby("day")["complaints"].sum()
    weekend = pd.DatetimeIndex(by_day.index).day_of_week >= 5
    ratio = float(by_day[weekend].mean() / by_day[~weekend].mean())
    rows.append(_against(group, "weekend day over weekday", "ratio", ratio, arrays.weekend_ratio(complaints), source))
    known_areas = real.dropna(subset=["number_area", "consumer_area"])
    same = known_areas["number_area"].astype(str) == known_areas["consumer_area"].astype(str)
    local = float(np.average(same, weights=known_areas["complaints"]))
    rows.append(
        _against(group, "number of the callee's area", "share", local, arrays.local_share(world, complaints), source)
    )
    marks, name = world.life_service_marks, "marks on couriers, takeaway and taxis"
    rows.append(_against(group, name, "share", LIFE_SERVICE_MARKS, marks, "Dianhuabang, 2022"))
    return rows
