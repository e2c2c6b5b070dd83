"""The demonstration scores first, and its adapted model knows nothing of the callers and days that judge it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.files.progress import silent
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training.adapt.asking import Drawn
from callsieve.training.model.folds import assign_folds
from callsieve.training.model.settings import Settings
from callsieve.training.studies import demo


def test_checks_and_complaints_leave_out_the_callers_and_the_days_that_judge(tmp_path, monkeypatch):
    dataset = demo.simulated_dataset(tmp_path, "tiny", 11, silent)
    settings, seen = Settings(seed=11), []
    folds = assign_folds(dataset, settings)
    # On the days that judge, all callers turn to nuisance: a check must not know that.
    truth = dataset.truth["nuisance"].to_numpy(zero_copy_only=False) | (folds.start >= folds.plan.certify[0])
    column = dataset.truth.column_names.index("nuisance")
    dataset = replace(dataset, truth=dataset.truth.set_column(column, "nuisance", pa.array(truth)))
    token = dataset.calls["caller"].cast(pa.string()).to_pandas()
    tokens = token.unique()

    class Network:
        def with_evidence(self, known, _):
            seen.append(known)
            return self

    everybody = Drawn(np.arange(len(tokens)), np.ones(len(tokens)))
    adapted = SimpleNamespace(callers=SimpleNamespace(token=tokens), drawn=everybody, again=np.zeros(0, dtype=int))
    monkeypatch.setattr(demo, "score_network", lambda *_: Network())
    monkeypatch.setattr(demo, "adapt_network", lambda *_: (None, adapted))
    monkeypatch.setattr(demo, "write_bundle", lambda *_: None)
    monkeypatch.setattr(demo.Scorer, "load", lambda *_, **__: None)
    demo.adapted_bundle(dataset, settings, tmp_path / "adapted")

    last, begin = seen[-1], folds.plan.certify[0]
    start = dataset.calls["start"].to_numpy()
    judging = set(token[(folds.fold == 1) & (start >= begin)])
    truth = pd.Series(dataset.truth["nuisance"].to_numpy(zero_copy_only=False)[start < begin], token[start < begin])
    share = truth.groupby(level=0).mean()
    answers = last.findings.drop_duplicates("number").set_index("number")["nuisance"]
    assert len(seen) == 3 and not len(seen[0].findings)
    assert len(judging) > 50 and not judging & (set(last.findings["number"]) | set(last.complaints["number"]))
    assert len(last.complaints) and (last.complaints["known_at"] < pd.Timestamp(begin, unit="ms", tz="UTC")).all()
    assert last.calls["start"].to_numpy().max() < begin and last.truth is None
    early = answers[answers.index.isin(share.index)]
    assert early.any() and (early == (share[early.index] >= demo.NUISANCE_FROM)).all()


def test_figures_of_the_shipped_model_come_before_the_training(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(demo, "record_training", lambda *_, **__: order.append("training"))
    demo.run_demo(tmp_path, size="tiny", seed=11, threads=1, full=False, first=order.append, progress=silent)
    shipped, trained = order
    assert trained == "training"
    assert shipped["model"]["id"] == Scorer.load().bundle.model_id and shipped["data"]["calls"] > 70_000
    assert shipped["headline"]["model"]["benign_calls"] > 0.5 * shipped["data"]["calls"]
