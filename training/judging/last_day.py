"""The actions of a policy on the calls of a training, and the verdicts on its last day as a service would give them."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.serving.batch.shard_scoring import verdict_counts
from callsieve.serving.bundle.level import Shift
from callsieve.serving.rules.policy import ACTIONS, read_policy
from callsieve.serving.rules.rule_bits import matching_bits, table_actions, table_band_actions
from callsieve.serving.rules.rule_input import VECTOR_COLUMNS, rule_input
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scores, case_id
from callsieve.training.model.folds import last_day_rows
from callsieve.training.model.train import Trained

from .headline import PolicyActions
from .run_figures import ExampleVerdict, LastDay

EXAMPLES = 3


def policy_actions(trained: Trained) -> PolicyActions:
    """Returns the actions of the shipped policy, without registers, for all calls of the pool."""
    policy = read_policy()
    columns = {column: np.asarray(trained.X[:, column]) for _, column in VECTOR_COLUMNS}
    bits = matching_bits(rule_input(columns, trained.pool.itself.astype(float)), policy.terms)
    by_band = table_band_actions(policy, trained.card.thresholds, trained.raw, trained.stratum)
    by_rules = table_actions(policy, np.zeros_like(by_band), bits)
    return PolicyActions(policy.version, table_actions(policy, by_band, bits), by_rules)


def last_day(scorer: Scorer, trained: Trained) -> LastDay:
    """Returns the last day's verdicts as a service would give them, with a few examples that did not pass."""
    rows = last_day_rows(trained.last.folds.start)
    calls = trained.last.dataset.calls.take(rows)
    shift = Shift(float(trained.shift[-1]))
    scores = scorer.score_table(trained.last.feed.at(rows), shift=shift, threads=trained.settings.threads)
    counted = verdict_counts(scores, calls)
    return {
        "date": str(pc.max(calls["day"]).cast("int32").cast("date32")),
        "calls": len(rows),
        "actions": counted["actions"],
        "callers": counted["callers"],
        "bands": counted["bands"],
        "rules": counted["rules"],
        "examples": examples(scorer, scores, trained, rows),
    }


def examples(scorer: Scorer, scores: Scores, trained: Trained, rows: Array) -> list[ExampleVerdict]:
    """Returns the first call that did not pass, of each of a few callers, with its reasons."""
    flagged = np.flatnonzero(scores.action > 0)
    _, first = np.unique(trained.last.folds.caller[rows][flagged], return_index=True)
    chosen = flagged[np.sort(first)[:EXAMPLES]]
    return [example(scorer, ACTIONS[scores.action[i]], trained, int(rows[i])) for i in chosen]


def example(scorer: Scorer, action: str, trained: Trained, row: int) -> ExampleVerdict:
    """Returns the verdict on one call, with its reasons."""
    last = trained.last
    start = int(last.folds.start[row])
    caller, callee = (last.dataset.calls[name][row].as_py() for name in ("caller", "callee"))
    vector, shift = last.feed.at(np.array([row]))[0].tolist(), Shift(float(trained.shift[-1]))
    verdict = scorer.explain_row(vector, start, shift=shift)
    return {
        "case": case_id(scorer.bundle.model_id, caller, callee, start),
        "action": action,
        "score": verdict.score,
        "band": verdict.band,
        "slice": str(last.folds.judged.slice[row]),
        "content": verdict.content,
        "mode": verdict.mode,
        "rules": [{"en": fact.en, "zh": fact.zh} for fact in verdict.rules],
        "reasons": [{"en": reason.en, "zh": reason.zh} for reason in verdict.reasons],
    }
