"""Figures of an invented run, in the form of a training."""

from __future__ import annotations

import math
from typing import Any

CERTIFICATE = {"fold": "certify", "confidence": 0.95, "target": 1e-4}
CALLERS = {"callers": 612, "calls": 80_124}
UNDETECTED = {
    "detected_share": 0.2, "soon_share": 0.18, "soon_low": 0.15, "soon_high": 0.22, "median": None, "median_floor": 87,
    "p90": None, "p90_floor": 402,
}  # fmt: skip
DETECTED = {
    "detected_share": 0.912, "soon_share": 0.75, "soon_low": 0.71, "soon_high": 0.78, "median": 3.0, "median_floor": 3,
    "p90": 41.0, "p90_floor": 41, "stopped_share": 0.846,
}  # fmt: skip
SHORT_CALLS = "share of answered calls under 10 seconds"
COMMAND = "mlflow ui --backend-store-uri sqlite:///callsieve-demo/mlflow.db"

UNLEARNT = "no number was answered as innocent, so nothing shows where to stop; the base stays as it is"


def proof(calls: int, false: int, bound: float, certified: bool) -> dict[str, Any]:
    return CERTIFICATE | {"benign_calls": calls, "false_calls": false, "bound": bound, "certified": certified}


def rates(call: float, caller: float, callee: float) -> dict[str, Any]:
    detected = {"call": call, "caller": caller, "callee": callee}
    return {name: {"rate": x, "low": x - 0.031, "high": x + 0.027} for name, x in detected.items()}


def way(
    certificate: dict[str, Any], bootstrap: list[float], by_organisation: float, catch: Any, stopped: float = 0.0
) -> dict[str, Any]:
    detection = CALLERS | UNDETECTED | {"detected_share": catch[1], "stopped_share": stopped}
    figures = {"bootstrap": bootstrap, "organisations": 1200, "bound_by_organisation": by_organisation}
    return certificate | figures | {"catch": rates(*catch), "in_hindsight": 0.51, "detection": detection}


def benign(name: str, calls: int, flagged: int, bound: float | None, certified: bool | None) -> dict[str, Any]:
    counts = {"calls": calls, "callers": calls // 40, "flagged": flagged, "rate": 1 - flagged / max(calls, 1)}
    bounds = {"low": None if bound is None else 1 - bound, "high": 1.0, "bound": bound, "certified": certified}
    return {"slice": name, "nuisance": False, **counts, **bounds}


def nuisance(name: str, calls: int, rate: float) -> dict[str, Any]:
    counts = {"calls": calls, "callers": calls // 90, "flagged": int(rate * calls), "rate": rate}
    bounds = {"low": max(rate - 0.06, 0.0), "high": min(rate + 0.05, 1.0), "bound": None, "certified": None}
    return {"slice": name, "nuisance": True, **counts, **bounds}


def example_figures() -> dict[str, Any]:
    fpr = [0.0, *(10 ** (x / 10) for x in range(-55, 1))]
    calls = sorted({int(10 ** (x / 20)) for x in range(61)})
    figures = {
        "model": {
            "id": "cs-7f3a91c2d40e", "trees": {"model": 210, "content": 80}, "features": 85, "calibration": "isotonic",
            "top_features": [
                {"name": name, "en": text, "share": share, "nuisance": 4 * share, "innocent": -share}
                for name, text, share in (
                    ("out_callees_share_24h", "different numbers per call in the last 24 hours", 0.312),
                    ("out_new_callees_share_7d", "share of numbers never called before, last 7 days", 0.171),
                    ("out_talk_under_10s_share_24h", f"{SHORT_CALLS} in the last 24 hours", 0.094),
                    ("number_age", "time since the number was first seen (7 days at most)", 0.061),
                )
            ],
        },
        "data": {
            "calls": 1_204_331, "numbers": 48_210, "days": 35, "nuisance_share": 0.0731, "fingerprint": "9c1f" * 16,
            "folders": 1, "learn_from": "labels", "seed": 1, "source": "simulated world 'small', seed 1",
            "judged_by": "truth",
        },
        "folds": {
            "train": ["2025-03-08T00:00:00+00:00", "2025-03-17T00:00:00+00:00"],
            "choose": ["2025-03-27T00:00:00+00:00", "2025-03-31T00:00:00+00:00"],
            "certify": ["2025-03-31T00:00:00+00:00", "2025-04-05T00:00:00+00:00"],
            "label_cutoff": "2025-03-20T00:00:00+00:00",
        },
        "bands": [
            {
                "name": "certified", "target": 1e-4, "threshold": 4.21,
                "certificate": proof(310_412, 12, 6.27e-5, True),
                "strata": {
                    "mobile": proof(281_104, 10, 6.03e-5, True), "resale": proof(8_120, 0, 3.69e-4, False),
                    "95_service": proof(21_188, 2, 2.97e-4, False),
                },
            },
            {
                "name": "watch", "target": 1e-3, "threshold": 2.9, "certificate": proof(310_412, 201, 7.3e-4, True),
                "strata": {},
            },
        ],
        "headline": {
            "model": way(proof(310_412, 12, 6.27e-5, True), [1.2e-5, 8.1e-5], 7.9e-4, (0.874, 0.912, 0.853))
            | {"detection": CALLERS | DETECTED},
            "policy": way(proof(310_412, 41, 1.71e-4, False), [7.1e-5, 2.1e-4], 1.2e-3, (0.893, 0.921, 0.874), 0.851)
            | {"policy": "6", "in_hindsight": None},
            "rule": way(proof(310_412, 17, 8.2e-5, True), [0.0, 1.4e-4], 8.8e-4, (0.233, 0.301, 0.21), 0.204)
            | {"rule": {"more_than": 31, "higher_for_some": False}},
        },
        "baselines": {
            name: way(proof(310_412, 14, 7.1e-5, True), [0.0, 1.1e-4], 8.1e-4, (call, call, call), 0.9 * call)
            for name, call in (("logistic regression", 0.412), ("number class", 0.031))
        },
        "seen": {"calls": 90_312, "catch": rates(0.931, 0.95, 0.92)},
        "unseen": {"calls": 335_002, "catch": rates(0.874, 0.912, 0.853)},
        "announcing": {"calls": 1_204, "callers": 3, "flagged": 31},
        "slices": [
            benign("ordinary", 251_020, 3, 3.09e-5, True), benign("courier", 31_004, 6, 3.82e-4, False),
            benign("takeaway", 12_408, 2, 5.07e-4, False), benign("customer_service", 9_870, 1, 4.8e-4, False),
            benign("alerts", 5_610, 0, 5.34e-4, False), benign("new_number", 500, 0, 5.97e-3, False),
            benign("organiser", 0, 0, None, None), nuisance("telemarketer", 9_214, 0.91),
            nuisance("robot", 8_120, 0.97), nuisance("fraud_ring", 4_410, 0.79), nuisance("one_ring", 2_210, 0.94),
            nuisance("low_and_slow", 634, 0.18),
        ],
        "buckets": [
            {"bucket": "first call", "calls": 612, "catch": 0.31},
            {"bucket": "calls 2-5", "calls": 2_204, "catch": 0.62},
            {"bucket": "calls 6-20", "calls": 6_121, "catch": 0.83},
            {"bucket": "later", "calls": 15_651, "catch": None},
        ],
        "curve": {
            "model": [[x, min(1.0, 0.99 - 0.03 * max(0.0, -math.log10(x) - 2) ** 2 if x else 0.4)] for x in fpr],
            "rule": [[x, min(1.0, 0.95 / (1 + math.exp(-1.6 * (math.log10(x) + 3.2))) if x else 0.0)] for x in fpr],
        },
        "detection_curve": {
            "calls": calls, "model": [0.93 - 0.62 * n**-0.8 for n in calls],
            "rule": [0.32 - 0.32 * n**-0.25 for n in calls],
        },
        "reliability": {
            "ece": 0.0041, "log_loss": 0.02,
            "bins": [
                {"predicted": p, "observed": o, "calls": 30_000}
                for p, o in (
                    *((2e-5, 0.0), (2e-4, 1.3e-4), (9e-4, 1.4e-3), (4e-3, 3e-3)),
                    *((0.03, 0.041), (0.41, 0.36), (0.985, 0.991)),
                )
            ],
        },
        "precision_at_prior": [{"prior": p, "precision": x} for p, x in ((0.001, 0.933), (0.01, 0.993), (0.2, None))],
        "last_day": {
            "date": "2025-04-04", "calls": 35_210, "actions": {"pass": 32_804, "label": 2_406, "screen": 0, "block": 0},
            "callers": {"pass": 9_120, "label": 131, "screen": 0, "block": 0},
            "examples": [
                {
                    "case": "c-20250404-5be1", "action": "label", "score": 0.993, "band": "certified",
                    "slice": "fraud_ring", "content": "fraud", "mode": "human",
                    "rules": [{"en": "The caller drops its calls after one ring.", "zh": "主叫响一声即挂断。"}],
                    "reasons": [
                        {"en": "different numbers per call in the last hour: 100%",
                         "zh": "过去1小时不同号码占通话的比例：100%"},
                        {"en": f"{SHORT_CALLS} in the last 24 hours: 61%", "zh": "过去24小时接通后不足10秒的比例：61%"},
                    ],
                },
                {
                    "action": "label", "score": None, "band": "", "slice": "courier", "content": None, "mode": None,
                    "rules": [],
                    "reasons": [{"en": "calls under way at this moment: 4", "zh": "此刻进行中的呼叫数：4"}],
                },
            ],
        },
        "outcomes": {
            "nuisance_flagged": 5_102, "nuisance_passed": 1_040, "nuisance_numbers": 212, "innocent_flagged": 6,
            "innocent_passed": 110_004, "innocent_numbers": 3_412,
        },
        "nearest": [
            {"caller": 4711, "slice": "courier", "calls": 310, "flagged": 2, "highest": 0.412},
            {"caller": 12, "slice": "ordinary", "calls": 88, "flagged": 0, "highest": -0.0312},
        ],
        "histogram": {"edges": [-6.0, -3.0, 0.0, 3.0], "nuisance": [40, 1_000, 5_102], "innocent": [109_000, 1_004, 6]},
        "learning_curve": [0.5, 0.3, 0.2, 0.19],
        "made_by": "callsieve train --data calls", "adapted": None, "base": None,
        "next": [COMMAND, "callsieve score --bundle callsieve-demo/bundle --help"],
    }  # fmt: skip
    head, baselines = figures["headline"], figures["baselines"]
    provinces = [
        {"folder": name, "model": head["model"], "policy": head["policy"], "baselines": baselines}
        for name in ("provinces/hunan", "provinces/hubei")
    ]
    poorer = {
        "outgoing only": proof(94_000, 3, 8.2e-5, True) | {"catch": 0.372},
        "answered only, no routes, no ring time": proof(96_000, 13, 2.1e-4, False) | {"catch": 0.518},
    }
    flags = {"complete": proof(96_000, 2, 6.6e-5, True) | {"catch": 0.81, "catch_of_single_calls": 0.64}}
    return figures | {"by_folder": provinces, "feeds": poorer, "flags": flags}


def adapted_figures(checks: int = 175, figures: dict[str, Any] | None = None) -> dict[str, Any]:
    """The example, or another run, as an adaptation of a base that catches less; without checks nothing is learnt."""
    figures = figures or example_figures()
    model = figures["headline"]["model"]
    calm = {"threshold": 3.1, "caught": 0.42, "flagged": 1.2e-4, "bound": 7.4e-4}
    better = {"threshold": 2.2, "caught": 0.81, "flagged": 0.9e-4, "bound": 6.1e-4}
    unknown = {"flagged": None, "bound": None}
    kinds = ("all", "trusted", "known innocent", "known nuisance", "probably innocent", "probably nuisance")
    learnt = "probable catch 42.0% with the base's ranking, 81.0% with own trees"
    adapted = {
        "base": "70764091aeb0", "manifest": "7076" * 16, "signed_by": "cb6b8f35fd39d5aa",
        "learnt": "threshold and trees" if checks else "nothing",
        "why": learnt if checks else UNLEARNT,
        "missing": 0 if checks else 20, "asked": 180, "absent": 0, "answered": checks, "twice": 25 if checks else 0,
        "changed": 2 if checks else 0, "complaints": 341, "left_out": 67,
        "covered": {kind: {"callers": 1_000 // n, "calls": 90_000 // n} for n, kind in enumerate(kinds, 1)},
        "before": calm if checks else calm | unknown, "after": better if checks else calm | unknown,
    }  # fmt: skip
    base = {"headline": model | {"catch": rates(0.41, 0.5, 0.4), "false_calls": 31}, "slices": figures["slices"][1:]}
    base["equal"] = {
        "calls": 6_142, "callers": 212, "innocent": 310_412, "flagged": 12, "base_flagged": 31, "caught": 0.874,
        "base_caught": 0.391,
    }  # fmt: skip
    span, cutoff = figures["folds"]["certify"], figures["folds"]["certify"][1]
    data = figures["data"] | {
        "source": "march.csv",
        "judged_by": "labels",
        "judged_on": "calls after the first 7 days, of callers that evidence decides",
    }
    return figures | {
        "adapted": adapted,
        "base": base,
        "data": data,
        "folds": {"train": span, "choose": span, "certify": span, "label_cutoff": cutoff},
        "learning_curve": [],
        "seen": {"calls": 0, "catch": figures["seen"]["catch"]},
    }
