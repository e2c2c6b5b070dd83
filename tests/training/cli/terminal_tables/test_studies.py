"""Tables of studies show every figure, and mark figures that were not measured."""

from pathlib import Path

import pytest

from callsieve.training.cli.terminal_tables import studies

RATE = {"call": {"rate": 0.375, "low": 0.25, "high": 0.5}}
MEANS = {"mean": 0.375, "low": 0.25, "high": 0.5}
NOTHING = {"mean": None, "low": None, "high": None}


@pytest.fixture
def printed(capsys):
    return lambda: " ".join(capsys.readouterr().out.split())


def test_rolling_shows_the_spread_over_origins(printed):
    figures = {"mean": 0.25, "sd": None, "least": 0.125, "most": 0.5}
    studies.rolling({"origins": [1, 2, 3], "spread": {"catch": figures}})
    assert "main figures of 3 trainings" in (text := printed())
    assert "│ catch │ 0.25 │ unknown │ 0.125 │ 0.5 │" in text


def test_a_search_shows_its_parameters_and_figures(printed):
    losses = {"shipped": {"log-loss": 0.125}, "figures": {"log-loss": 0.0625}}
    studies.searched({"trials": 7, "parameters": {"num_leaves": 31}} | losses, Path("search"))
    assert "7 trials on the training set" in (text := printed())
    assert "│ log-loss │ 0.125 │ 0.0625 │" in text and "num_leaves" in text
    assert "callsieve train --parameters search/parameters.toml" in text


def test_decay_shows_the_area_under_time(printed):
    figures = {"false_calls": 3, "benign_calls": 12_345, "unseen": RATE, "at_target": RATE, "all": RATE}
    areas = {"once": 0.5, "anew": None}
    periods = [{"days_after_training": (7, 14), "once": figures, "anew": figures | {"false_calls": 4}}]
    whole = {"train_days": 35, "periods": periods, "area_under_time": areas, "area_at_target": areas}
    studies.decay(whole, Path("decay"))
    text = printed()
    assert "caught, mean over time, at 1 in 10,000: trained once 50.0%, retrained not measured" in text
    assert "trained on 35 days" in text and "decay/decay.svg" in text
