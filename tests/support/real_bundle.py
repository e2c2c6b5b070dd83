"""A signed bundle over the real catalogue, and calls of a few numbers to score with it."""

import functools

import numpy as np
import pyarrow as pa

from callsieve.features import FEATURES, Call, History, Intake, Key, catalogue_hash
from callsieve.features.catalogue import NAMES
from callsieve.features.offline.table import vectors
from callsieve.features.records import CALL_COLUMNS, OUTCOMES, RELEASED_BY
from callsieve.serving.bundle.metadata import Band, Calibration
from callsieve.serving.bundle.signing import write_public_key
from callsieve.serving.rules.registers import Registers, columns_of
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.model.trees import read_forest, save_bundle
from tests.support import small_bundle as small

NUMBER_KEY = Key("e1", bytes(range(32)))
CATEGORICAL = [feature.name for feature in FEATURES if feature.levels]
START = 1_772_500_000.0  # 2026-03-03, within the card's validity
# The last two are an emergency and a public-service number, which are never blocked.
CALLERS = ("13800138000", "+8613900001111", "02887654321", "95588", "17012345678", "+14155550100", "110", "12345")
CALLEES = (*CALLERS[:3], *(f"1360013{n:04d}" for n in range(40)))


def calls(n=300, seed=5):
    """Returns `n` random calls in order of start; a tenth of them are in progress."""
    rng = np.random.default_rng(seed)
    start = START + np.cumsum(rng.integers(1, 4_000_000, n)) / 1000
    drawn = []
    for moment in start.tolist():
        caller = CALLERS[rng.integers(len(CALLERS))]
        callee = CALLEES[rng.integers(len(CALLEES))]
        outcome = OUTCOMES[rng.integers(5)]
        talk = float(rng.integers(1, 400)) if outcome == "answered" else 0.0
        is_over = rng.random() < 0.9
        drawn.append(
            Call(
                start=round(moment, 3), caller=caller, callee=callee,
                ring=float(rng.integers(1, 30)) if is_over else None, talk=talk if is_over else None,
                outcome=outcome if is_over else "unknown", released_by=RELEASED_BY[rng.integers(4)],
                attestation="ABC"[rng.integers(3)], route="domestic",
            )
        )  # fmt: skip
    return drawn


def key_calls(raw_calls):
    """Returns the calls keyed one by one."""
    intake = Intake(NUMBER_KEY)
    return [intake(call) for call in raw_calls]


def replayed(scorer, calls, *, explain=False):
    """Returns the verdict of each keyed call by a new history, which then observes the call."""
    history, verdicts = History(), []
    for call in calls:
        verdicts.append(scorer.explain(history, call) if explain else scorer.score(history, call))
        history.observe(call)
    return verdicts


def key_table(raw_calls):
    """Returns the calls keyed as a table."""
    moment = pa.timestamp("ms", "UTC")
    columns = {name: [getattr(call, name) for call in raw_calls] for name in CALL_COLUMNS}
    types = {"ring": pa.float64(), "talk": pa.float64()}
    table = {name: pa.array(column, types.get(name, pa.string())) for name, column in columns.items() if name not in
             ("start", "recorded")}  # fmt: skip
    for name in ("start", "recorded"):
        whole = [None if second is None else round(second * 1000) for second in columns[name]]
        table[name] = pa.array(whole, pa.int64()).cast(moment)
    return Intake(NUMBER_KEY).table(pa.table(table))


def make_registers(**tables):
    """Returns registers with these rows.

    Rows are valid and known from 1970 unless they say otherwise; columns that they leave out are unknown.
    """
    always = {"valid_from": 0, "known_at": 0}
    return Registers({
        name: {column: [(always | row).get(column) for row in rows] for column in columns_of(name)}
        for name, rows in tables.items()
    })  # fmt: skip


def rows(n, seed=0):
    """Returns random feature rows in the units of each feature, 15 % of the values missing."""
    rng = np.random.default_rng(seed)
    draws = {
        "share": lambda: rng.random(n),
        "seconds": lambda: rng.exponential(200.0, n),
        "yes/no": lambda: rng.integers(0, 2, n),
        "hour": lambda: rng.integers(0, 24, n),
        "day": lambda: rng.integers(0, 7, n),
    }
    columns = []
    for feature in FEATURES:
        column = rng.integers(0, len(feature.levels), n) if feature.levels else draws.get(
            feature.unit, lambda: rng.poisson(5.0, n))()  # fmt: skip
        columns.append(np.where(rng.random(n) < 0.15, np.nan, column))
    return np.column_stack(columns)


@functools.cache
def model_texts():
    """Returns the texts of a binary model and of a model with three content classes."""
    matrix = rows(3000)
    filled = np.nan_to_num(matrix)
    noise = np.random.default_rng(1).normal(size=len(matrix))
    part = {name: filled[:, NAMES.index(name)] for name in NAMES}
    risk = (
        part["out_calls_count_24h"] / 3
        - 3 * part["out_answered_share_7d"]
        + 2 * np.isin(part["call_caller_class"], [1, 4, 10])
        + (part["call_hour"] > 17)
    )
    kind = (part["call_hour"] // 8 + noise.round()).astype(int) % 3
    train = functools.partial(
        small.train_text, names=NAMES, categorical=CATEGORICAL, num_leaves=15, min_data_per_group=20
    )
    return {
        "model": train(matrix, (risk + noise > 1).astype(int), trees=30),
        "content": train(filled, kind, trees=6, objective="multiclass", num_class=3),
    }


@functools.cache
def thresholds():
    """Returns the raw scores that a tenth and a half of `calls()` reach."""
    raw = read_forest(model_texts()["model"]).predict_raw(vectors(key_table(calls()), threads=1))
    return tuple(np.quantile(raw, [0.9, 0.5]).tolist())


def card(**changes):
    """Returns the metadata of those models. The high band is certified for mobile numbers and for protected numbers."""
    sound, loose = small.certificate(), small.certificate(false_calls=90, bound=0.0036, certified=False)
    strata = dict.fromkeys(("mobile", "quiet_mobile", "emergency", "public_service"), sound) | {"fixed": loose}
    high, low = thresholds()
    values = {
        "features": NAMES,
        "categorical": {feature.name: len(feature.levels) for feature in FEATURES if feature.levels},
        "feeds": {},
        "catalogue_hash": catalogue_hash(),
        "calibration": Calibration((-20.0, 0.0, 20.0), (0.0, 0.4, 1.0)),
        "thresholds": (Band("certified", high, sound, strata), Band("watch", low, loose)),
    }
    return small.card(**(values | changes))


def write_bundle(folder, **changes):
    """Writes a signed bundle into `folder`; returns its model id."""
    return save_bundle(card(**changes), model_texts(), rows(8, seed=3).tolist(), folder, small.KEY)


def write_signed(folder, **changes):
    """Writes a signed bundle and its signer's key into a folder; returns the model id."""
    model = write_bundle(folder / "bundle", **changes)
    write_public_key(small.KEY.public_key(), folder / "signer.pub")
    return model


def write_own_signed(folder, text, rows, **changes):
    """Writes a signed bundle of another model, with some golden rows, and its signer's key into a folder."""
    save_bundle(card(classes={}, **changes), {"model": text}, rows.tolist(), folder / "bundle", small.KEY)
    write_public_key(small.KEY.public_key(), folder / "signer.pub")


def load_scorer(folder, policy, registers=None):
    """Returns the scorer of a bundle that `write_bundle` wrote."""
    return Scorer.load(folder, trusted=small.TRUSTED, policy=policy, registers=registers)
