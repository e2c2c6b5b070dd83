"""The benchmark on made-up tables of the Sichuan form: all models use the same rows, and flaws have figures."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score

from callsieve.serving.custody.purposes import declare
from tests.bench.bench_sichuan import EIGHT_MONTHS, MARCH, TABLES, alone, benchmark, flaws, over_splits
from tests.bench.harness import interval
from tests.tools.claims import CLAIMS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(3)
    place = tmp_path_factory.mktemp("sichuan")
    label = (rng.random(600) < 0.3).astype(int)
    common = {"row": np.arange(600), "label": label}
    calls = rng.poisson(40 + 30 * label) * (rng.random(600) > 0.6 * label)
    pd.DataFrame(
        common | {"voc_cnt": calls, "call_interval_max": rng.integers(0, 86_400, 600), "peers": rng.normal(label)}
    ).to_parquet(place / MARCH)
    pd.DataFrame(
        common | {"month_ids": 8 - rng.poisson(1 + 2 * label).clip(0, 7), "sms_rate": rng.random(600),
                "calltype_rate": rng.normal(label), "phone2opposite_mean": rng.normal(label)}
    ).to_parquet(place / EIGHT_MONTHS)  # fmt: skip
    declare(place, "sample of the test", "published", ["evaluation"], "2999-12-31")
    return place


def test_the_benchmark_has_all_models_and_flaws_of_both_tables(folder):
    figures = benchmark(folder, seeds=[0, 1], threads=1)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    march = pd.read_parquet(folder / MARCH)
    assert figures["tables"][MARCH]["rows"] == (march["voc_cnt"] >= 5).sum()
    assert set(figures["tables"]) == set(TABLES)
    for table in figures["tables"].values():
        assert len(table["models"]) == 3
        ours = table["models"]["callsieve"]["auc"]["mean"]
        for name, ahead in table["auc_ahead_of"].items():
            assert ahead["mean"] == pytest.approx(ours - table["models"][name]["auc"]["mean"])
    idle = figures["flaws"][0]["figures"]
    assert idle == [(march.loc[march["label"] == kind, "voc_cnt"] == 0).mean() for kind in (1, 0)]
    assert idle[0] > 0.4 > idle[1]
    (claim,) = (claim for claim in CLAIMS if claim.name == "Sichuan tables")
    stated = claim.figures(figures)
    for label, name in zip(("eight months", "calls of March"), TABLES, strict=True):
        aucs = [model["auc"] for model in figures["tables"][name]["models"].values()]
        values = [value for key, value in stated.items() if key.startswith(f"AUC, {label}, ")]
        assert values == [f"{auc['mean']:.3f} ± {auc['sd']:.3f}" for auc in aucs]
    assert stated["numbers without a call in March"].startswith(f"{100 * idle[0]:.0f} % of fraud, ")
    with pytest.raises(ValueError, match="expected the file sichuan_eight_months"):
        benchmark(folder / "nowhere")


def test_the_auc_of_a_column_does_not_depend_on_its_direction():
    rng = np.random.default_rng(1)
    label = pd.Series(rng.integers(0, 2, 300))
    column = pd.Series(rng.normal(size=300) - label)
    assert alone(column, label) == alone(-column, label) == pytest.approx(roc_auc_score(label, -column))


def test_differences_are_paired_by_split():
    runs = [{"callsieve": dict.fromkeys(("auc", "macro_f1", "macro_recall", "g_mean"), value),
             "other": dict.fromkeys(("auc", "macro_f1", "macro_recall", "g_mean"), value - gap)}
            for value, gap in ((0.9, 0.01), (0.8, 0.02), (0.85, 0.0))]  # fmt: skip
    figures = over_splits(runs)
    assert figures["models"]["callsieve"]["auc"] == {"mean": pytest.approx(0.85), "sd": pytest.approx(0.05)}
    expected = ttest_1samp([0.01, 0.02, 0.0], 0).confidence_interval(0.95)
    ahead = figures["auc_ahead_of"]["other"]
    assert (ahead["low"], ahead["high"]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert interval([0.1]) == {"mean": 0.1, "low": None, "high": None}


def test_every_flaw_has_figures_and_a_consequence(folder):
    for flaw in flaws(pd.read_parquet(folder / EIGHT_MONTHS), pd.read_parquet(folder / MARCH)):
        assert flaw["flaw"] and flaw["shown_by"] and flaw["so"]
        assert all(np.isfinite(value) for value in flaw["figures"])
