"""An adaptation to one small network learns from no, few, many, wrong and contradicting answers."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from callsieve.features.catalogue import NAMES
from callsieve.features.kernel.windows import DAY_MS
from callsieve.serving import read_policy
from callsieve.serving.bundle.bundle import BundleError
from callsieve.serving.bundle.signing import SIGNER, write_public_key
from callsieve.serving.scorer.scorer import Scorer
from callsieve.training import Settings
from callsieve.training.adapt import adapting, choice, own_trees
from callsieve.training.adapt.adapting import Adaptation, adapt, of_base
from callsieve.training.adapt.answers import read_sheets, with_answers
from callsieve.training.adapt.base import read_base
from callsieve.training.adapt.check_sheet import write_sheet
from callsieve.training.adapt.choice import weights_of
from callsieve.training.adapt.network import score_network
from callsieve.training.data.sources import Source
from callsieve.training.model.folds import CallFolds
from callsieve.training.model.train import write_bundle
from callsieve.training.tracking.mlflow_model import TRUST, _load_pyfunc, save_model
from tests.support import live_states, real_bundle
from tests.support import small_bundle as small
from tests.support.errors import refused
from tests.support.trainings.adapted_network import (
    findings_of,
    guesses,
    make_world,
    true_callers,
    unchecked,
    write_base,
)

NO_ANSWERS = read_sheets([])
FEW_POINTS = 0.06  # of the probable catch


@pytest.fixture(scope="module", autouse=True)
def _few_trees():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(own_trees, "TREES", 40)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    write_base(folder)
    written = read_base(folder / "bundle")
    flags = dict.fromkeys(("complete", "sparse"), written.bundle.thresholds[0])
    return replace(written, bundle=structs.replace(written.bundle, flags=flags))


@pytest.fixture(scope="module")
def network_world():
    return make_world()


@pytest.fixture(scope="module")
def calls(network_world):
    return unchecked(network_world)


@pytest.fixture(scope="module")
def truth(network_world):
    return true_callers(network_world)


@pytest.fixture(scope="module")
def run(base, calls):
    """Adapts the base with answers, which are series by token, of callers that were drawn."""

    def adapted(*answers, drawn=None, threads=2, dataset=calls, target=1e-4):
        findings = pd.concat([dataset.findings, *(findings_of(dataset, answer) for answer in answers)])
        sheets = NO_ANSWERS if drawn is None else replace(NO_ANSWERS, asked=drawn)
        return adapt(
            replace(dataset, findings=findings), Settings(threads=threads, target=target), Adaptation(base, sheets)
        )

    return adapted


@pytest.fixture(scope="module")
def first(run):
    """Without an answer."""
    return run()


@pytest.fixture(scope="module")
def drawn(first):
    """The callers of the first round of checks, with their probabilities."""
    places = first[1].drawn
    return pd.DataFrame({"number": first[1].callers.token[places.caller], "probability": places.probability})


@pytest.fixture(scope="module")
def second(run, truth, drawn):
    """With true answers to the first round."""
    return run(truth[drawn["number"]], drawn=drawn)


@pytest.fixture(scope="module")
def everyone(run, truth):
    """With a true answer about each caller."""
    return run(truth)


def assert_base_stays(base, trained):
    bundle = base.bundle
    assert trained.models["model"] == base.texts["model"] and "content" in trained.models
    assert trained.card.thresholds == bundle.thresholds
    assert trained.card.calibration == bundle.calibration
    assert trained.card.flags == {"complete": bundle.thresholds[0]}


def test_without_answers_the_base_stays_and_asks(first, base, drawn):
    trained, adapted = first
    assert_base_stays(base, trained)
    figures = adapted.figures
    assert figures["learnt"] == "nothing" and "0 numbers checked, expected at least 20" in figures["why"]
    assert figures["before"] == figures["after"] and figures["after"]["bound"] is None
    assert len(drawn) == 175 and (drawn["probability"] < 1).any() and not len(adapted.again)
    assert trained.card.training["base"] == {
        "model": base.bundle.model_id, "signed_by": base.bundle.signed_by, "learnt": "nothing"
    }  # fmt: skip
    covered = figures["covered"]
    parts = [covered[name] for name in covered if name != "all"]
    assert covered["all"] == {key: sum(part[key] for part in parts) for key in ("callers", "calls")}


def test_of_many_calls_those_of_random_callers_are_scored(base, calls, monkeypatch):
    """Without the calls of each day, by which a model is watched."""
    monkeypatch.setattr(CallFolds, "needed", lambda _folds, _calls, choose, *_, **__: choose)
    network = score_network(calls, of_base(Settings(threads=2), base), base, "complete", most=500)
    caller, in_span = network.folds.caller, network.folds.start >= network.folds.plan.train[0]
    made, scored = (np.bincount(caller[rows], minlength=int(caller.max()) + 1) for rows in (in_span, network.rows))
    whole = (scored >= made) & (made >= 10)
    assert whole.sum() >= 10 and (scored < made).any()


def test_a_few_numbers_checked_before_are_no_first_round(run, truth, drawn):
    earlier = truth[drawn["number"].sample(12, random_state=2)]
    adapted = run(earlier)[1]
    to_check = adapted.callers.token[adapted.drawn.caller]
    assert len(to_check) > 100 and not set(to_check) & set(earlier.index) and not len(adapted.again)
    assert len(run(earlier, drawn=drawn)[1].again)  # the sheet was given


def test_some_answers_move_the_thresholds_alone(run, base, truth, drawn):
    answers = truth[drawn["number"][:30]]  # from the top of the sheet
    trained, adapted = run(answers, drawn=drawn)
    assert adapted.figures["learnt"] == "threshold" and "5 numbers known as nuisance" in adapted.figures["why"]
    assert (adapted.figures["asked"], adapted.figures["answered"]) == (175, 30)
    assert trained.models["model"] == base.texts["model"]
    thresholds = [band.threshold for band in trained.card.thresholds]
    assert thresholds != [band.threshold for band in base.bundle.thresholds] and thresholds == sorted(thresholds)[::-1]
    assert run(answers[:19], drawn=drawn)[1].figures["learnt"] == "nothing"


def test_a_check_of_a_caller_counts_as_many_callers_as_it_stands_for(second, truth):
    """The figures of a side by hand: inverse probabilities of innocent callers, over all probably innocent calls."""
    trained, adapted = second
    callers, after = adapted.callers, adapted.figures["after"]
    place = trained.pool.caller
    flagged = np.bincount(place[trained.raw >= after["threshold"]], minlength=len(callers.token))
    assert adapted.figures["answered"] == 175
    by_check = (callers.checked > 0) & (callers.evidence > -3)
    assert adapted.figures["covered"]["known nuisance"]["callers"] >= by_check.sum() > callers.nuisance.sum()
    nuisance = adapted.nuisance
    caught = np.where(nuisance >= 0.5, nuisance, 0)[place]
    assert after["caught"] == pytest.approx((caught * (trained.raw >= after["threshold"])).sum() / caught.sum())
    checked = callers.checked != 0
    assert (truth[callers.token[checked]].to_numpy() == (nuisance[checked] >= 0.5)).mean() > 0.9
    assert after["bound"] >= after["flagged"] >= flagged[checked & (nuisance < 0.5)].sum() / (1 - nuisance)[place].sum()


def test_a_looser_target_lowers_the_thresholds_and_is_in_every_certificate(run, truth, drawn, second):
    looser, _ = run(truth[drawn["number"]], drawn=drawn, target=1e-3)
    proofs = [[proof for band in trained.card.thresholds for proof in (band.certificate, *band.strata.values())]
              for trained, _ in (second, (looser, None))]  # fmt: skip
    assert [{proof.target for proof in of_run} for of_run in proofs] == [{1e-4, 1e-3}, {1e-3, 1e-2}]
    assert looser.card.thresholds[0].threshold < second[0].card.thresholds[0].threshold


def test_many_answers_bring_own_trees(everyone, base, truth, tmp_path):
    trained, adapted = everyone
    assert adapted.figures["learnt"] == "threshold and trees"
    before, after = (adapted.figures[side]["caught"] for side in ("before", "after"))
    assert after > before + FEW_POINTS
    bad = truth[adapted.callers.token].to_numpy()[trained.pool.caller]
    ranks = [pd.Series(raw).rank()[bad].mean() for raw in (adapted.base_raw, trained.raw)]
    assert ranks[1] > ranks[0]  # by the truth, on calls of callers that a member did not learn from
    write_bundle(trained, tmp_path / "bundle", small.KEY)
    scorer = Scorer.load(tmp_path / "bundle", trusted=small.TRUSTED)
    assert scorer.bundle.model.trees > base.bundle.model.trees
    assert scorer.bundle.thresholds[0].threshold == adapted.figures["after"]["threshold"]


def test_cases_of_an_adapted_bundle_are_exported_and_replayed(everyone, command_json, tmp_path):
    write_bundle(everyone[0], tmp_path / "bundle", small.KEY)
    write_public_key(small.KEY.public_key(), tmp_path / SIGNER)
    policy = tmp_path / "policy.toml"
    policy.write_text('version = "test"\nhistory_days = 0\n[bands]\ncertified = "label"\nwatch = "label"\n')
    swap = live_states.loaded(tmp_path / "bundle", policy=read_policy(policy))
    live = live_states.begin(swap, tmp_path / "state")
    verdicts = live_states.play(live, live_states.events(real_bundle.calls()))
    live.verdicts.flush()
    live.close()
    flagged = next(verdict for verdict in reversed(verdicts) if verdict.action == "label")
    store = ("--store", f"sqlite:///{tmp_path}/cases.db", "--state", tmp_path / "state")
    case = command_json("cases", "show", flagged.case, *store)
    assert (case["model"], case["raw"]) == (flagged.model, flagged.raw) and case["vector"]
    assert [reason["feature"] for reason in case["reasons"]] == [reason.feature for reason in flagged.reasons]
    files = ("--bundle", tmp_path / "bundle", "--policy", policy)
    again = command_json("cases", "replay", flagged.case, *files, *store)
    assert again["differences"] == [] and {"model", "raw", "score", "reasons", "action"} <= set(again["equal"])


def test_mlflow_scores_by_an_adapted_bundle_as_the_scorer_does(everyone, tmp_path, monkeypatch):
    write_bundle(everyone[0], tmp_path / "bundle", small.KEY)
    write_public_key(small.KEY.public_key(), tmp_path / SIGNER)
    monkeypatch.setenv(TRUST, str(tmp_path / SIGNER))
    save_model(tmp_path / "bundle", tmp_path / "served", signer=tmp_path / SIGNER)
    rows = real_bundle.rows(50)
    results = _load_pyfunc(str(tmp_path / "served" / "bundle")).predict(pd.DataFrame(rows, columns=NAMES))
    scorer = Scorer.load(tmp_path / "bundle", trusted=small.TRUSTED)
    assert results["raw"].tolist() == [scorer.explain_row(row).raw for row in rows.tolist()]


def test_equal_input_gives_equal_bytes_on_any_number_of_threads(run, truth, everyone, tmp_path):
    key = Ed25519PrivateKey.generate()
    for name, trained in (("two", everyone[0]), ("one", run(truth, threads=1)[0])):
        write_bundle(trained, tmp_path / name, key)
    for path in (tmp_path / "two").iterdir():
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(("whom", "seed"), [("the first round", 0), ("the first round", 4), ("all callers", 1)])
def test_answers_that_are_guesses_leave_the_base_as_it_is(run, base, truth, drawn, whom, seed):
    answers = guesses(truth if whom == "all callers" else truth[drawn["number"]], seed)
    trained, adapted = run(answers, drawn=drawn if whom == "the first round" else None)
    assert adapted.figures["learnt"] == "nothing" and "the answers contradict" in adapted.figures["why"]
    assert_base_stays(base, trained)


def test_answers_that_contradict_earlier_ones_leave_the_base_as_it_is(run, truth, drawn):
    answers = truth[drawn["number"][:100]]
    _, adapted = run(answers, ~answers[:50], drawn=drawn)
    assert (adapted.figures["twice"], adapted.figures["changed"]) == (50, 50)
    assert adapted.figures["learnt"] == "nothing" and "the answers contradict" in adapted.figures["why"]


def test_a_wrong_answer_that_surprises_is_asked_again_and_its_correction_counts(run, truth, drawn, first):
    """The wrong answers are about the nuisance callers with the most calls whose scores tell what they are."""
    right, callers = truth[drawn["number"]], first[1].callers
    stake = pd.Series(callers.calls, callers.token)[(first[1].nuisance > 0.6) & truth[callers.token].to_numpy()]
    stake = stake[stake.index.isin(right.index)].sort_values(ascending=False)
    wrong = right.copy()
    wrong[stake.index[:2]] = False
    _, misled = run(wrong, drawn=drawn)
    again = misled.callers.token[misled.again]
    assert set(stake.index[:2]) < set(again) and len(again) == 25 and not len(misled.drawn.caller)
    _, corrected = run(wrong, right[again], drawn=drawn)
    assert (corrected.figures["changed"], corrected.figures["twice"]) == (2, 25)
    lied = np.isin(callers.token, stake.index[:2])
    assert (corrected.nuisance[lied] > misled.nuisance[lied]).all()


def test_a_trusted_number_is_neither_asked_nor_counted(run, calls, drawn, truth, monkeypatch):
    trusted = set(drawn["number"][:20])
    end = pd.Timestamp("2025-01-01", tz="UTC")
    lists = pd.DataFrame({
        "number": sorted(trusted), "list": "trusted survey", "valid_from": end,
        "valid_to": end + pd.Timedelta(days=999), "known_at": end,
    }).astype(calls.lists.dtypes)  # fmt: skip
    listing = replace(calls, lists=lists)
    trained, adapted = run(dataset=listing)
    assert adapted.figures["covered"]["trusted"]["callers"] == 20
    assert not trusted & set(adapted.callers.token[adapted.drawn.caller])
    judged = adapted.callers.token[trained.pool.caller[trained.pool.certify]]
    assert not trusted & set(judged)
    weighed = []
    monkeypatch.setattr(adapting, "weights_of", lambda *parts: weighed.append(weights_of(*parts)) or weighed[-1])
    answers = truth[drawn["number"]].drop(sorted(trusted))
    callers = run(answers, drawn=drawn, dataset=listing)[1].callers
    assert callers.trusted.sum() == 20 and (weighed[0][0].most[callers.trusted] == 0).all() and weighed[0][0].most.any()
    checked = run(answers, ~truth[sorted(trusted)[:1]], drawn=drawn, dataset=listing)[1].callers
    assert checked.trusted.sum() == 19  # a check says otherwise


def test_the_sheet_names_callers_by_token_and_row_and_is_read_again(first, base, calls, drawn, truth, tmp_path):
    trained, adapted = first
    path = tmp_path / "to_check.csv"
    write_sheet(adapted, trained, path, base.bundle.model)
    sheet = pd.read_csv(path)
    assert not re.search(r"(?<![\d.])1[3-9]\d{9}(?!\d)|(?<!\d)0?28\d{8}(?!\d)", path.read_text())
    assert sheet["number"].tolist() == drawn["number"].tolist() and sheet["verdict"].isna().all()
    assert abs(sheet["nuisance"].corr(pd.Series(sheet.index), method="spearman")) < 0.3  # in random order
    caller = calls.calls["caller"].to_pandas().astype(str)
    rows = pd.Series(caller.to_numpy(), calls.calls["call"].to_numpy())
    assert rows[sheet["row"]].tolist() == sheet["number"].tolist()
    assert sheet["calls"].tolist() == [(caller[_last(calls)] == number).sum() for number in sheet["number"]]
    sheet["verdict"] = np.where(truth[sheet["number"]], " Nuisance", "innocent")
    sheet["verdict"] = sheet["verdict"].where(sheet.index % 5 > 0, "")
    sheet["checked_at"] = np.where(sheet["verdict"] == "", "", "2025-03-20")
    sheet.to_csv(path, index=False)
    answers = read_sheets([path])
    assert dict(answers.asked.values) == pytest.approx(dict(drawn.values), rel=1e-5)
    assert (answers.findings["known_at"] == pd.Timestamp("2025-03-21", tz="UTC")).all()  # a day counts from its end
    answered = answers.findings.set_index("number")["nuisance"]
    assert len(answered) == 140 and (answered == truth[answered.index]).all()
    again = with_answers(calls, answers)
    assert again.findings.dtypes.equals(calls.findings.dtypes) and len(again.findings) == 140


@pytest.mark.parametrize(
    ("numbers", "day", "message"),
    [
        pytest.param(
            slice(0, 3), "2024-12-31", "known at 2024-12-31 00:00, before the first call", id="before the calls"
        ),
        pytest.param(slice(0, 0), "2025-03-20", "none of the numbers in the sheet makes a call here", id="another key"),
    ],
)
def test_a_sheet_that_does_not_fit_the_calls_is_refused(calls, drawn, numbers, day, message):
    tokens = [*drawn["number"][numbers], "e1." + "b" * 32]
    sheet = pd.DataFrame({"number": tokens, "probability": 0.5})
    findings = pd.DataFrame({"number": tokens, "nuisance": True, "known_at": pd.Timestamp(day, tz="UTC")})
    with refused(message):
        with_answers(calls, replace(NO_ANSWERS, asked=sheet, findings=findings))


def test_a_sheet_without_an_innocent_number_leaves_the_base_as_it_is(run, base, drawn):
    """Among others, a number of another sheet is counted."""
    sheet = pd.concat([drawn, pd.DataFrame({"number": ["e1." + "b" * 32], "probability": [0.5]})])
    trained, adapted = run(pd.Series(True, index=drawn["number"][:40]), drawn=sheet)
    assert "no number was answered as innocent" in adapted.figures["why"] and adapted.figures["absent"] == 1
    assert_base_stays(base, trained)


def _last(calls):
    """Returns which calls are after the week that fills the windows."""
    start = calls.calls["start"].to_numpy()
    return start >= start.min() + 7 * DAY_MS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checked_at": "2025-03-20T12:00"}, "row 2: checked_at: expected a time with an offset, such as"),
        ({"checked_at": ""}, "row 2: checked_at: expected a day such as 2026-03-01"),
        ({"checked_at": "20/3/2025"}, "row 2: checked_at: expected a day such as 2026-03-01"),
        ({"checked_at": "2999-01-01"}, "row 2: checked_at: expected a moment that has passed"),
        ({"verdict": "spam"}, "row 2: verdict: expected nuisance or innocent, or nothing, got 'spam'"),
        ({"number": "13800138000"}, "row 2: number: expected the token that was written, got another text"),
        ({"probability": "0"}, "row 2: probability: expected the value that was written"),
        ({"probability": "1.5"}, "row 2: probability: expected the value that was written"),
        ({"probability": "nan"}, "row 2: probability: expected the value that was written"),
        ({"probability": ""}, "row 2: probability: expected the value that was written"),
    ],
)
def test_a_wrong_row_of_a_sheet_is_refused(tmp_path, change, message):
    row = {"number": "e1." + "a" * 32, "probability": "0.5", "look": "1", "verdict": "nuisance"}
    path = tmp_path / "to_check.csv"
    pd.DataFrame([row | {"checked_at": "2025-03-20T12:00:00+08:00"} | change]).to_csv(path, index=False)
    with refused(message.replace("(", r"\(")):
        read_sheets([path])


def test_calls_of_several_networks_or_few_days_are_refused(base, calls):
    few = replace(calls, calls=calls.calls.filter(~_last(calls)))
    with refused("expected at least 9 days, of which 7 fill the windows, got 7"):
        adapt(few, Settings(threads=2), Adaptation(base))
    with refused("one network in one folder, got 2"):
        adapt([Source("", "certify", lambda: calls)] * 2, Settings(threads=2), Adaptation(base))


def test_a_base_is_verified_and_trusts_its_own_signer_only(tmp_path):
    model = write_base(tmp_path)
    assert read_base(tmp_path / "bundle").bundle.model_id == model
    with pytest.raises(BundleError, match="which is not trusted"):
        read_base(tmp_path / "bundle", [small.OTHER_KEY.public_key()])
    (tmp_path / SIGNER).unlink()
    with pytest.raises(BundleError, match="which is not trusted"):
        read_base(tmp_path / "bundle")


@pytest.fixture(scope="module")
def complained_of(base, calls, truth):
    """Scores the network with complaints about all answered calls of nuisance callers and of some others."""

    def network(*others):
        table = calls.calls.select(["caller", "callee", "start", "outcome"]).to_pandas().astype({"caller": str})
        nuisance = table["outcome"].astype(str).eq("answered") & table["caller"].map(truth)
        rows = table[nuisance | table["caller"].isin(others)]
        at = pd.to_datetime(rows["start"], unit="ms", utc=True)
        facts = {"reporter": rows["callee"].astype(str), "number": rows["caller"], "at": at, "known_at": at}
        complaints = pd.DataFrame(facts).assign(category="loans").reindex(columns=calls.complaints.columns)
        dataset = replace(calls, complaints=complaints.astype(calls.complaints.dtypes))
        return score_network(dataset, of_base(Settings(threads=2), base), base, "complete")

    return network


def test_complaints_and_score_say_who_is_nuisance_and_no_crowd_decides(base, complained_of, truth):
    settings, basis = of_base(Settings(threads=2), base), choice.Basis(0.0, base.bands("complete"))
    network = complained_of()
    nuisance = truth[network.callers.token].to_numpy()
    before = choice.complained(network, settings, basis)
    reported = nuisance & (network.callers.reports > 2)
    assert reported.sum() >= 10 and before[reported].mean() > 0.9 and before[~nuisance].mean() < 0.05
    scored = ~nuisance & np.isfinite(network.highest)
    victim = np.flatnonzero(scored & (network.highest < np.median(network.highest[scored])))
    victim = victim[np.argmax(network.callers.answered[victim])]
    after = choice.complained(complained_of(network.callers.token[victim]), settings, basis)
    others = np.arange(len(nuisance)) != victim
    assert after[victim] < 0.5 and ((after > 0.5) != (before > 0.5))[others].mean() < 0.01


def test_complaints_alone_keep_the_threshold_of_the_base_unless_more_innocent_calls_are_flagged(
    base, complained_of, truth, monkeypatch
):
    network, settings = complained_of(), of_base(Settings(threads=2), base)
    basis = choice.Basis(0.0, base.bands("complete"))
    nuisance = truth[network.callers.token].to_numpy().astype(float)
    monkeypatch.setattr(choice, "FEWEST_NUISANCE", 5)
    monkeypatch.setattr(choice, "complained", lambda *_: nuisance)

    def chosen(added):
        stacked = choice.Choice(network.raw + added, (), 0.0)
        monkeypatch.setattr(choice, "with_own_trees", lambda *_: stacked)
        return choice.choose_by_complaints(network, settings, basis)

    bad = nuisance[network.caller] > 0.5
    better, why = chosen(np.where(bad, 9.0, -9.0))
    assert better.thresholds == (basis.threshold(1e-4), basis.threshold(1e-3))
    assert better.caught == 1.0 and "100.0% with own trees" in why
    flagging, _ = chosen(np.where(bad, 9.0, 6.0))
    assert flagging.thresholds[0] > basis.threshold(1e-4) and flagging.caught > 0.5
    assert (flagging.raw[~bad] >= flagging.thresholds[0]).mean() < 0.001
    assert chosen(np.zeros(len(bad)))[0] is None
    monkeypatch.setattr(choice, "FEWEST_NUISANCE", 500)
    assert chosen(np.where(bad, 9.0, -9.0))[0] is None
    monkeypatch.setattr(choice, "FEWEST_NUISANCE", 5)
    basis = choice.Basis(0.0)
    assert "no threshold for such records" in chosen(np.where(bad, 9.0, -9.0))[1]
