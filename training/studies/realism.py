"""The simulated world against real records: each statistic, how far the world is from it, and a classifier's test.

Nothing here changes the world. Distributions are compared by the two-sample Kolmogorov-Smirnov distance, published
figures by their ratio. Fraud numbers are compared with published medians only, never with labelled rows.
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

from callsieve.serving.bundle.booster import Booster
from callsieve.serving.custody.purposes import require_purpose
from callsieve.training.model.fit import Part, fit
from callsieve.training.world import Scenario, World

from . import observed
from .march import COLUMNS, march_columns

MOST_KS = 0.15
MOST_RATIO = 0.20
LEAST_CALLS = 5  # below it the real table's activity is in its label
MARCH = "sichuan_march_calls.parquet"
RAW = "sichuan_raw_calls_4_subscribers.csv"
COMPLAINTS = "ftc_complaints_2020H2.parquet"
STUDENTS = "copenhagen_calls.csv"
# As for the real table itself, but with deeper patience: the world's classes are easier to tell than the real ones.
PARAMETERS = {"learning_rate": 0.03, "num_leaves": 15, "min_data_in_leaf": 40, "lambda_l2": 5.0, "rounds": 400}

# What is compared of each subscriber's month: name, column of the table, unit.
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
        """Whether the world is near enough: 0.15 KS, or 20 %."""
        return abs(self.distance) <= (MOST_KS if self.kind == "ks" else MOST_RATIO)

    def to_json(self) -> dict[str, Any]:
        """Plain values; a figure that could not be taken is null."""
        plain = asdict(self) | {"within": self.within}
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in plain.items()
        }


@dataclass(frozen=True, slots=True)
class Realism:
    """All comparisons, and the AUC on real rows of a model that has seen the world alone."""

    statistics: tuple[Statistic, ...]
    sim_to_real_auc: float
    rows: dict[str, int]

    @property
    def within_share(self) -> float:
        """Share of the statistics that are near enough."""
        return sum(one.within for one in self.statistics) / len(self.statistics)


def require_real(data: Path) -> None:
    """Raise `ValueError` if a file is missing in the folder, or it is not declared for statistics (`purposes.py`)."""
    missing = [name for name in (MARCH, RAW, COMPLAINTS, STUDENTS) if not (data / name).is_file()]
    if missing:
        raise ValueError(f"{data}: expected the real data, without {', '.join(missing)}")
    require_purpose(data, "statistics")


def realism(world: World, scenario: Scenario, data: Path, *, seed: int = 0, threads: int = 0) -> Realism:
    """Compare a world whose numbers are not keyed, and its scenario's complaints, with the real data in a folder.

    Raises:
        ValueError: as `require_real`.
    """
    require_real(data)
    seen = observed.observe(world)
    rows = pd.read_parquet(data / MARCH).query(f"voc_cnt >= {LEAST_CALLS}")
    month = march_columns(observed.month_records(seen))
    month = month[month["voc_cnt"] >= LEAST_CALLS]
    guilty = seen.nuisance[month.index.to_numpy()]
    statistics = (
        *_ordinary(rows[rows["label"] == 0], month[~guilty]),
        *_fraud(month[guilty]),
        *_records(seen),
        *_rhythm(pd.read_csv(data / RAW), seen, month[~guilty]),
        *_students(pd.read_csv(data / STUDENTS), seen),
        *_lives(seen),
        *_complaints(pd.read_parquet(data / COMPLAINTS), seen, observed.complaints(seen, scenario)),
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
    """AUC on the real rows of LightGBM trained on the world's subscribers; their labels are read only here."""
    X = month[list(COLUMNS)].to_numpy()  # noqa: N806
    y = guilty.astype(np.int8)
    outside = np.random.default_rng(seed).random(len(y)) < 0.25
    # A year of one kind must not drown the other: each kind has the same weight in all.
    weight = np.where(guilty, 0.5 / max(guilty.mean(), 1e-9), 0.5 / max(1 - guilty.mean(), 1e-9))
    inside, checked = (Part(X[side], y[side], weight[side]) for side in (~outside, outside))
    text = fit(inside, checked, COLUMNS, seed=seed, threads=threads, parameters=PARAMETERS)
    raw = Booster(text).predict_raw(np.ascontiguousarray(rows[list(COLUMNS)].to_numpy(dtype=float)))
    return float(roc_auc_score(rows["label"], raw))


def _between(group: str, name: str, unit: str, real: Any, world: Any, source: str) -> Statistic:
    """Two samples: their medians and the KS distance."""
    distance = float(ks_2samp(real, world).statistic) if len(world) else math.nan
    return Statistic(group, name, unit, float(np.median(real)), _median(world), "ks", distance, source)


def _against(group: str, name: str, unit: str, real: float, world: float, source: str) -> Statistic:
    """A figure of each side, and their ratio."""
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


def _records(seen: observed.Observed) -> list[Statistic]:
    group, source = "records", "Sichuan, 5 M records"
    talk = seen.talk[seen.answered & seen.ordinary[seen.caller]]
    found = [
        _against(group, f"talk, quantile {at:.0%}", "s", real, float(np.quantile(talk, at)), source)
        for at, real in TALK.items()
    ]
    found.append(_against(group, "talk, mean", "s", TALK_MEAN, float(talk.mean()), source))
    found.append(_against(group, "without a place", "share", NO_PLACE, seen.placeless, source))
    found.append(_against(group, "duplicates", "share", DUPLICATES, seen.duplicates, source))
    return found


def _rhythm(raw: pd.DataFrame, seen: observed.Observed, month: pd.DataFrame) -> list[Statistic]:
    """Hours and gaps of two ordinary subscribers, and of the world's people who call about as much."""
    calls = raw[raw["label"] == 0].assign(start=lambda f: pd.to_datetime(f["start_datetime"]))
    calls = calls.sort_values(["phone_no_m", "start"])
    gaps = calls.groupby("phone_no_m")["start"].diff().dt.total_seconds().dropna()
    hours = calls["start"].dt.hour + calls["start"].dt.minute / 60
    monthly = calls.groupby("phone_no_m").size().to_numpy() / 8  # eight months
    alike = month.index[month["voc_cnt"].between(0.7 * monthly.min(), 1.4 * monthly.max())].to_numpy()
    source = "Sichuan, 2 subscribers"
    return [
        _between("rhythm", "gap between calls", "s", gaps, observed.gaps(seen, alike), source),
        _between("rhythm", "hour of day", "h", hours, observed.hours(seen, alike), source),
    ]


def _students(calls: pd.DataFrame, seen: observed.Observed) -> list[Statistic]:
    missed = float((calls["duration"] < 0).mean())
    return [_against("rhythm", "missed calls among acquaintances", "share", missed, seen.missed, "Copenhagen")]


def _lives(seen: observed.Observed) -> list[Statistic]:
    lives = observed.nuisance_lives(seen)
    units = {"life": "days", "calls": "calls", "callees": "people", "talk": "s"}
    return [
        _against("nuisance numbers", f"{name}, mean", units[name], real, lives[name], "TouchPal, 2016")
        for name, real in TOUCHPAL.items()
    ]


def _complaints(real: pd.DataFrame, seen: observed.Observed, told: observed.Complaints) -> list[Statistic]:
    """Complaints: how often a number is already known, weekday and weekend, and the caller's area."""
    group, source = "reports", "FTC, 2020"
    known = {(7, 1): 0.129, (30, 1): 0.167, (7, 3): 0.065, (30, 3): 0.092}
    found = [
        _against(
            group, f"number had ≥ {least} in {days} days", "share", share, observed.churn(told, days, least), source
        )
        for (days, least), share in known.items()
    ]
    by_day = real.groupby("day")["complaints"].sum()
    weekend = pd.DatetimeIndex(by_day.index).day_of_week >= 5
    ratio = float(by_day[weekend].mean() / by_day[~weekend].mean())
    found.append(_against(group, "weekend day over weekday", "ratio", ratio, observed.weekend_ratio(told), source))
    known_areas = real.dropna(subset=["number_area", "consumer_area"])
    same = known_areas["number_area"].astype(str) == known_areas["consumer_area"].astype(str)
    local = float(np.average(same, weights=known_areas["complaints"]))
    found.append(
        _against(group, "number of the callee's area", "share", local, observed.local_share(seen, told), source)
    )
    marks, name = seen.life_service_marks, "marks on couriers, takeaway and taxis"
    found.append(_against(group, name, "share", LIFE_SERVICE_MARKS, marks, "Dianhuabang, 2022"))
    return found
