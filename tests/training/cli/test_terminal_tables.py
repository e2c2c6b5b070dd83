"""Tables in the terminal show the figures of trainings, scored calls, monitored days and studies."""

from pathlib import Path

import pytest
from rich.console import Console

from callsieve.serving.cli import console
from callsieve.serving.cli.score_commands import show_scored
from callsieve.training.cli import terminal_tables
from tests.training.reports.run_figures import adapted_figures


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr(console.OUT, "width", 200)


def test_a_run_shows_its_headline_and_the_next_commands(training_run, capsys):
    folder, figures = training_run
    terminal_tables.training(figures, folder)
    out = capsys.readouterr().out
    head, last = figures["headline"]["model"], figures["last_day"]
    assert f"{head['false_calls']} of {head['benign_calls']:,}" in out
    assert f"verdicts on {last['date']}" in out
    cells = {tuple(cell.strip() for cell in line.split("│")[1:3]) for line in out.splitlines()}
    assert {(action, f"{calls:,}") for action, calls in last["actions"].items()} <= cells
    assert str(folder / "report.html") in out and figures["model"]["id"] in out
    assert all(command in out for command in figures["next"])


@pytest.mark.parametrize("checks", [175, 0])
def test_an_adaptation_shows_both_models_and_the_sheet_to_fill_in(training_run, capsys, checks, tmp_path):
    figures = adapted_figures(checks, training_run[1])
    (tmp_path / "to_check.html").touch()
    terminal_tables.training(figures, tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    cells = ["1.2 in 10,000", "0.9 in 10,000"] if checks else ["too few checks to judge: 20 more are needed"] * 2
    assert f"│ innocent calls flagged, estimate from checks │ {' │ '.join(cells)} │" in out
    assert "base 70764091aeb0 ┃ adapted" in out
    assert "│ known nuisance │ 250 │ 22,500 │" in out and f"│ callers checked │ {checks} │" in out
    assert f"learnt {figures['adapted']['learnt']}: {figures['adapted']['why']}" in out
    assert f"fill in {tmp_path / 'to_check.csv'} and give it back with --answers" in out
    assert "of numbers that first called after the first 7 days" in out


def test_an_evaluation_shows_that_seen_groups_are_unknown(training_run, capsys):
    _, figures = training_run
    feed = {"name": "no routes", "bands": False}
    terminal_tables.evaluation(
        figures | {"unseen": None, "seen_basis": "no record", "fold": None, "touches": None, "feed": feed}
    )
    out = capsys.readouterr().out
    assert "no threshold for the feed of these records, no routes" in out
    assert "groups seen and unseen in training: no record" in out
    assert "this use of the calls was not recorded" in out


def test_scored_calls_show_rows_that_have_no_score(capsys):
    figures = {
        "calls": 1200, "model": "m1", "actions": {"pass": 1199, "label": 1}, "callers": {"pass": 90, "label": 1},
        "rules": {"ring_once": 7}, "quarantined": {"not_a_number": 1234}, "stale": True, "valid_until": "2026-04-01",
        "filling": 1100, "no_threshold": {"unknown": 1050}, "feed": "no routes", "other_feed": 1040,
        "unlike_network": 1100, "score_level": "score level 1.0, learnt from 5.0 to 8.0",
        "odd_records": ["a sign"],
    }  # fmt: skip
    show_scored(figures)
    out = capsys.readouterr().out
    assert "verdicts of model m1 on 1,200 calls" in out and "ring once" in out
    assert "quarantined: 1,234 rows, not_a_number" in out
    assert "warning: a sign" in out
    assert "the model is past its valid-until date, 2026-04-01" in out
    assert "1,100 calls were not scored: less than 7 days of history" in out
    assert "1,050 calls were not scored: the model has no threshold for the number class 'unknown'" in out
    assert "feed of the records: no routes" in out
    assert "1,040 calls were not scored: the model has no threshold for this feed" in out
    assert "1,100 calls were not scored: the model's thresholds were chosen on other networks (score level 1.0, " in out
    nothing = {"rules": {}, "quarantined": {}, "stale": False, "filling": 0, "no_threshold": {}, "other_feed": 0}
    nothing |= {"odd_records": [], "unlike_network": 0, "score_level": ""}
    show_scored(figures | nothing)
    assert len(capsys.readouterr().out.splitlines()) < len(out.splitlines()) - 6  # empty parts are left out


def test_a_narrow_screen_wraps_figures(capsys, monkeypatch):
    monkeypatch.setattr(console, "OUT", Console(width=30, force_terminal=True, no_color=True, soft_wrap=True))
    console.show_table("t", ("name", "first", "second"), [("a long name", "12,345,678", "1 of 9,876,543")])
    body = capsys.readouterr().out.splitlines()[3:]
    assert {"".join(line.split("│")[i].strip() for line in body if "│" in line).replace(" ", "") for i in (2, 3)} == {
        "12,345,678", "1of9,876,543"}  # fmt: skip


def test_a_monitored_day_shows_alarms_and_its_kind(capsys):
    shift = {
        "name": "calls", "part": "all", "then": 10.0, "now": 90.0, "measure": "amount",
        "psi": 0.9, "ks": None, "z": 12.0, "alarm": True,
    }  # fmt: skip
    figures = {
        "day": "2026-03-01", "kind": "weekday", "resembles": "weekend", "calls": 9, "shifts": [shift],
        "certificate": {
            "at_risk": ["too many"], "of_these_flagged": 0, "calls_of_callers_found_benign": 5,
            "flagged_too_often": False,
        },
        "days_before": 3, "days_wanted": 28, "feed": "no routes", "reference_feed": "complete",
    }  # fmt: skip
    terminal_tables.monitored(figures)
    out = capsys.readouterr().out
    assert "calls: 1 ALARM\n" in out and "│ 12 │" in " ".join(out.split())
    assert "the calls of the day resemble a weekend: a holiday?" in out and "certificate at risk: too many" in out
    assert "3 days of history before the day" in out
    assert "ALARM: the feed of the day is 'no routes', that of the training 'complete'" in out
    terminal_tables.monitored(figures | {"kind": "weekend", "resembles": "weekday", "shifts": [shift, shift]})
    out = capsys.readouterr().out
    assert "calls: 2 ALARMS\n" in out
    assert "the calls of the day resemble a weekday: a working weekend?" in out
    flagged = figures["certificate"] | {"at_risk": ["of 9 calls 5 were flagged"], "flagged_too_often": True}
    terminal_tables.monitored(figures | {"shifts": [shift | {"alarm": False}], "certificate": flagged})
    out = capsys.readouterr().out
    assert "ALARM: more innocent calls are flagged than the certificate allows" in out and "no alarm" not in out
    assert "certificate at risk: of 9 calls 5 were flagged" in out
    quiet = figures | {"shifts": [shift | {"alarm": False}], "certificate": figures["certificate"] | {"at_risk": []}}
    terminal_tables.monitored(quiet | {"days_before": 28, "feed": "complete"})
    out = capsys.readouterr().out
    assert "no drift; largest differences" in out and "0 of 5 calls of callers found innocent were flagged" in out


def test_an_empty_table_is_one_line(capsys):
    console.show_table("accesses", ("who", "what"), [])
    assert capsys.readouterr().out == "accesses: none\n"


def test_a_long_command_without_a_terminal_states_once_what_it_takes(capsys, monkeypatch):
    for patience, lines in ((-1.0, "train: 25% done, about 1 min more\n"), (1e9, "")):
        monkeypatch.setattr(console, "PATIENCE", patience)
        with console.progress("train") as show:
            for part in (0.0, 0.25, 0.5):
                show("fit", part)
        assert capsys.readouterr().err == lines


# Studies


RATE = {"call": {"rate": 0.375, "low": 0.25, "high": 0.5}}
MEANS = {"mean": 0.375, "low": 0.25, "high": 0.5}
NOTHING = {"mean": None, "low": None, "high": None}


@pytest.fixture
def printed(capsys):
    return lambda: " ".join(capsys.readouterr().out.split())


def test_rolling_shows_the_spread_over_origins(printed):
    figures = {"mean": 0.25, "sd": None, "least": 0.125, "most": 0.5}
    terminal_tables.rolling({"origins": [1, 2, 3], "spread": {"catch": figures}})
    assert "main figures of 3 trainings" in (text := printed())
    assert "│ catch │ 0.25 │ – │ 0.125 │ 0.5 │" in text


def test_decay_shows_the_area_under_time(printed):
    figures = {"false_calls": 3, "benign_calls": 12_345, "unseen": RATE, "at_target": RATE, "all": RATE}
    areas = {"once": 0.5, "anew": None}
    periods = [{"days_after_training": (7, 14), "once": figures, "anew": figures | {"false_calls": 4}}]
    whole = {"train_days": 35, "periods": periods, "area_under_time": areas, "area_at_target": areas}
    terminal_tables.decay(whole, Path("decay"))
    text = printed()
    assert "caught, mean over time, at 1 in 10,000: trained once 50.0%, retrained not measured" in text
    assert "trained on 35 days" in text and "decay/decay.svg" in text
