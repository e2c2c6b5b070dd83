"""What rules are worth against the truth, apart from the model; and what another policy would do to the same calls."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from callsieve.features.keys.tokens import Key
from callsieve.serving.custody.purposes import declare
from callsieve.serving.rules.policy import Policy
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS
from callsieve.serving.rules.rules import RULES
from callsieve.training.cli.tables import checks
from callsieve.training.studies.policy_diff import changes
from callsieve.training.studies.rule_figures import CallTruth, _words, model_apart, of_rule, regions_of, share
from tests.support import lite_bundle
from tests.support.imports import MODULES, everywhere, file_of, imported, name_of
from tests.support.paths import ROOT

# What makes and judges a model.
OF_THE_MODEL = (
    *(f"data/{name}" for name in ("labels", "label_policy", "dataset", "credibility")),
    *(f"model/{name}" for name in ("matrix", "split", "fit", "certify")),
    *(f"judging/{name}" for name in ("metrics", "judge")),
)
OF_RULES = {
    f"callsieve.serving.rules.{name}"
    for name in ("rules", "rule_bits", "registers", "register_lookup", "rule_input", "preferences")
}
EAGER = """version = "eager"
appeal = "office"
[bands]
certified = "label"
watch = "label"
[rules]
shown_number_differs = "block"
contract_frequency = "screen"
outside_trunk_ranges = "label"
"""


@pytest.fixture(scope="module")
def judged(world):
    """Calls after the first 7 days, each once, with their truth."""
    calls, truth = world.calls.to_pandas(), world.truth.to_pandas()
    table = calls.assign(**{name: truth[name] for name in ("nuisance", "slice", "duplicate")})
    assert (calls["call"] == truth["call"]).all()
    return table[(table["start"] >= table["start"].min() + 7 * 86_400_000) & ~table["duplicate"]]


@given(st.integers(0, 300), st.integers(0, 300))
def test_intervals_are_exact(part, more):
    found, whole = share(part, part + more), part + more
    if whole:
        low, high = binomtest(part, whole).proportion_ci(0.95, method="exact")
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-9)
        assert found["rate"] == part / whole


@pytest.mark.source("L19", by="training/studies/rule_figures.py")
def test_rules_are_counted_against_the_truth(command_json, world_folder, judged, capsys):
    found, hits = command_json("study", "rules", "--data", world_folder), 0
    assert (found["calls"], found["nuisance"]) == (len(judged), int(judged["nuisance"].sum()))
    assert set(found["rules"]) == {rule.name for rule in RULES}
    abroad = (judged["route"] == "international") & ~judged["caller_class"].isin(["foreign", "irregular", "withheld"])
    for name, hit in (
        ("authentication_failed", judged["attestation"] == "failed"),
        ("domestic_from_abroad", abroad),
        ("shown_number_differs", judged["presented_differs"] == 1),
    ):
        rule, seen = found["rules"][name], judged[hit]
        assert rule["calls"] == len(seen), name
        hits += len(seen)
        assert rule["precision"]["part"] == int(seen["nuisance"].sum())
        assert rule["recall"]["whole"] == int(judged["nuisance"].sum())
        assert rule["caller_precision"]["whole"] == seen["caller"].nunique()
        innocent = seen[~seen["nuisance"]]["slice"].value_counts()
        assert {name: each["part"] for name, each in rule["benign_slices"].items()} == innocent[innocent > 0].to_dict()
    assert hits > 100
    checks.rule_figures(found)
    said = " ".join(capsys.readouterr().out.split())
    for name, rule in found["rules"].items():
        assert f"{name.replace('_', ' ')} │ {rule['calls']:,}" in said.replace("┃", "│"), name


@pytest.mark.source("L11", by="training/studies/rule_figures.py")
def test_a_listed_region_is_audited_by_its_innocent_callers(
    command_json, world, judged, world_folder, tmp_path, capsys
):
    """A plain count: who of the region is innocent, and whose calls a stricter rule would not pass, and when."""
    assert command_json("study", "rules", "--data", world_folder)["regions"]["listed area"]["with_rule"]["part"] == 0
    strict = tmp_path / "strict.toml"
    strict.write_text('version = "strict"\n[bands]\n[rules]\nrisk_region = "screen"\nring_once = "label"\n')
    shown = command_json("study", "rules", "--data", world_folder, "--policy", strict)
    checks.rule_figures(shown)
    found, said = shown["regions"], capsys.readouterr().out
    assert re.search(rf"listed area +│ +{found['listed area']['callers']} ", said)
    assert re.search(rf"all others +│ +{found['']['callers']} ", said)
    listed = set(world.registers["risk_regions"].to_pandas()["number"])
    here = judged["caller"].isin(listed)
    mine = judged[here & ~judged["nuisance"]]
    told_of = found["listed area"]
    assert told_of["callers"] == mine["caller"].nunique() > 0
    assert (told_of["with_rule"]["part"], told_of["with_rule"]["whole"]) == (len(mine), len(mine))
    assert told_of["without_rule"]["part"] < len(mine) and told_of["by_model"]["part"] == 0
    assert found[""]["with_rule"] == found[""]["without_rule"]
    assert found[""]["with_rule"]["whole"] == len(judged[~here & ~judged["nuisance"]])
    # Dated: from the day on which the region is listed no more, nothing of it is left.
    folder = tmp_path / "dated"
    folder.mkdir()
    for each in world_folder.glob("*"):
        if each.name != "register_risk_regions.parquet":
            (folder / each.name).symlink_to(each)
    table = pq.read_table(world_folder / "register_risk_regions.parquet").to_pandas()
    middle = judged["start"].median()
    table["valid_to"] = pd.Timestamp(int(middle), unit="ms", tz="UTC")
    table.to_parquet(folder / "register_risk_regions.parquet")
    ended = command_json("study", "rules", "--data", folder, "--policy", strict)["regions"]["listed area"]
    assert ended["with_rule"]["part"] == int((mine["start"] < int(middle)).sum()) < len(mine)


@pytest.mark.source("P4", by="training/studies/rule_figures.py")
def test_calls_that_are_not_for_evaluation_are_not_judged(run_command, world_folder, tmp_path):
    for each in world_folder.glob("*.parquet"):
        (tmp_path / each.name).symlink_to(each)
    code, _, said = run_command("study", "rules", "--data", tmp_path)
    assert code == 1 and "expected dataset.json" in said
    declare(tmp_path, "switch", "contract", ["training"], "2999-12-31")
    code, _, said = run_command("study", "rules", "--data", tmp_path)
    assert code == 1 and "declared for training, not for evaluation" in said


def test_the_model_and_the_rules_are_told_apart(command_json, world_folder, training_run, tmp_path, capsys):
    (tmp_path / "eager.toml").write_text(EAGER)
    looks = ("--audit", tmp_path / "audit", "--signing-key", training_run[0] / "signing.key")
    bundle = ("--bundle", training_run[0] / "bundle", *looks)
    plain, eager = (command_json("study", "rules", "--data", world_folder, *bundle, *more) for more in
                    ((), ("--policy", tmp_path / "eager.toml")))  # fmt: skip
    card = json.loads((training_run[0] / "bundle" / "bundle.json").read_text())
    for found in (plain, eager):
        model = found["model"]
        assert model["certificate"] == card["thresholds"][0]["certificate"]
        for kind, calls in (("nuisance", found["nuisance"]), ("benign", found["calls"] - found["nuisance"])):
            assert sum(model[kind].values()) == calls
        assert model["catch"]["part"] == model["nuisance"]["model_alone"] + model["nuisance"]["both"]
        assert model["catch_without_rule_hits"]["part"] == model["nuisance"]["model_alone"]
    # Whatever a policy makes of rules, the model's catch is what it is.
    for name in ("catch", "false", "certificate"):
        assert plain["model"][name] == eager["model"][name]
    assert plain["model"]["nuisance"] != eager["model"]["nuisance"]
    checks.rule_figures(eager)
    said = capsys.readouterr().out
    model = eager["model"]
    for kind in ("nuisance", "benign"):
        cells = [f"{model[kind][cell]:,}" for cell in ("model_alone", "rules_alone", "both", "neither")]
        assert re.search(rf"{kind} +│ +" + " +│ +".join(cells), said)
    assert f"the model's catch rate: {model['catch']['rate']:.1%} (" in said
    assert f"the model's false positives: {model['false']['part']:,} of {model['false']['whole']:,}, at most " in said


def test_calls_that_nobody_listed_are_of_no_region():
    calls = pa.table({"caller": ["a", "b"]})
    assert regions_of(calls, None).tolist() == regions_of(calls, Registers({})).tolist() == ["", ""]


def test_what_makes_and_judges_a_model_knows_no_rule():
    """Certificates cannot count a rule's hit: their modules do not know of rules, nor does what they import."""
    for name in OF_THE_MODEL:
        waiting, seen = [ROOT / "training" / f"{name}.py"], set()
        while waiting:
            path = waiting.pop()
            asked = set(imported(path, everywhere(path))) & MODULES
            assert not asked & OF_RULES, f"{name}: {name_of(path)} imports {asked & OF_RULES}"
            new = {each for each in asked if each.startswith("callsieve.training.")} - seen
            seen |= new
            waiting += [file_of(each) for each in new if "world" not in each]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.sampled_from("ab")), min_size=1))
def test_figures_of_a_rule_by_a_plain_count(drawn):
    hit, nuisance, caught, caller = (np.array(each) for each in zip(*drawn, strict=True))
    none = np.full(len(drawn), "")
    known = CallTruth(nuisance, np.where(nuisance, "bad", "good"), none, none, (caller == "a").astype(int))
    found = of_rule(hit, known)
    assert found["precision"]["part"] == sum(h and n for h, n, _, _ in drawn)
    assert found["caller_precision"]["part"] == len({c for h, _, _, c in drawn if h} & {c for _, n, _, c in drawn if n})
    policy = Policy("1", {}, {"ring_once": "label", "no_consent": "pass"})
    cells = model_apart(
        caught, np.where(hit, BITS["ring_once"], BITS["no_consent"] | BITS["protected_caller"]), known, policy
    )
    assert cells["nuisance"]["both"] == sum(h and n and c for h, n, c, _ in drawn)
    assert cells["benign"]["neither"] == sum(not (h or n or c) for h, n, c, _ in drawn)
    # Of what the model is said to catch, and to catch falsely, calls that a rule decides can be left out.
    for name, guilty in (("catch", True), ("false", False)):
        ours = [(h, c) for h, n, c, _ in drawn if n is guilty]
        for which, rows in (("", ours), ("_without_rule_hits", [(h, c) for h, c in ours if not h])):
            assert (cells[name + which]["part"], cells[name + which]["whole"]) == (sum(c for _, c in rows), len(rows))


def test_policy_diff_tells_what_changes_for_whom(command_json, world_folder, training_run, tmp_path, capsys):
    (tmp_path / "eager.toml").write_text(EAGER)
    (tmp_path / "none.toml").write_text('version = "none"\n[bands]\n')
    some = tmp_path / "calls.parquet"
    some.with_name("world.json").touch()
    calls = pq.read_table(world_folder / "calls.parquet")
    pq.write_table(calls.take(list(range(0, calls.num_rows, 5))), some)
    common = ("--calls", some, "--layout", "keyed", "--bundle", training_run[0] / "bundle", "--registers", world_folder)
    decided = {}
    for name in ("none", "eager"):
        out = tmp_path / f"{name}.parquet"
        command_json("score", *common, "--policy", tmp_path / f"{name}.toml", "--out", out)
        decided[name] = pq.read_table(out).to_pandas()
    found = command_json("study", "policies", tmp_path / "none.toml", tmp_path / "eager.toml", *common, "--truth",
                 world_folder / "truth.parquet", "--audit", tmp_path / "audit", "--signing-key",
                 training_run[0] / "signing.key")  # fmt: skip
    assert (found["old"], found["new"]) == ("none", "eager")
    both = pd.DataFrame({"from": decided["none"]["action"].astype(str), "to": decided["eager"]["action"].astype(str)})
    calls = pq.read_table(some).sort_by("start").to_pandas()
    truth = pq.read_table(world_folder / "truth.parquet").to_pandas().drop_duplicates("call").set_index("call")
    both["number_class"] = calls["caller_class"].astype(str)
    nuisance = truth["nuisance"].reindex(calls["call"]).to_numpy(dtype=bool)
    both["truth"] = (
        np.where(nuisance, "nuisance: ", "benign: ") + truth["slice"].reindex(calls["call"]).astype(str).to_numpy()
    )
    moved = both[both["from"] != both["to"]]
    assert found["changed"] == len(moved) > 100
    for part, rows in (("", found["actions"]), *found["slices"].items()):
        names = [*([part] if part else []), "from", "to"]
        assert {tuple(row[name] for name in names): row["calls"] for row in rows} == {
            key: int(count) for key, count in moved.groupby(names).size().items()
        }
    assert {row["to"] for row in found["actions"]} >= {"label", "block"}
    checks.policy_diff(found)
    assert f"none -> eager: {len(moved):,} of {len(both):,} calls change their action" in capsys.readouterr().out
    back = command_json("study", "policies", tmp_path / "eager.toml", tmp_path / "none.toml", *common)
    assert {(row["to"], row["from"], row["calls"]) for row in back["actions"]} == {
        (row["from"], row["to"], row["calls"]) for row in found["actions"]
    }
    assert back["rules"] == found["rules"]


def test_policies_that_do_the_same_are_told_in_one_line(capsys):
    same = SimpleNamespace(action=np.array([0, 2, 3]), rule_bits=np.array([0, 1, 1]))
    found = changes(same, same, np.array(["a", "b", "c"]), {})
    assert found == {"changed": 0, "actions": [], "slices": {}, "rules": {}}
    checks.policy_diff({"old": "1", "new": "2", "calls": 3} | found)
    assert capsys.readouterr().out == "policy 1 -> 2: 0 of 3 calls change their action\n"


def test_calls_of_which_none_is_left_are_not_decided_on(run_command, tmp_path):
    lite_bundle.write_bundle(tmp_path)
    Key("e1", bytes(range(32))).write(tmp_path / "number.key")
    (tmp_path / "none.toml").write_text('version = "none"\n[bands]\n')
    (tmp_path / "world.json").touch()
    (tmp_path / "calls.txt").write_text("start,caller,callee\nsoon,13800138000,13800138001\n")
    policies = (tmp_path / "none.toml", tmp_path / "none.toml")
    given = ("--calls", tmp_path / "calls.txt", "--key", tmp_path / "number.key", "--bundle", tmp_path / "bundle")
    code, _, said = run_command("study", "policies", *policies, *given)
    assert code == 1 and "no call to decide on; 1 rows were quarantined" in said


def test_model_and_rules_apart_are_told_to_a_person(capsys):
    cells = {"model_alone": 3, "rules_alone": 2, "both": 1, "neither": 1234}
    model = {"id": "m", "band": "watch", "nuisance": cells, "benign": cells, "catch": share(1, 2), "false": share(0, 9),
             "catch_without_rule_hits": share(0, 0), "false_without_rule_hits": share(1, 4),
             "fold": None, "touches": None}  # fmt: skip
    regions = {"": {"callers": 1, "nuisance": share(0, 0), "with_rule": share(1, 1), "without_rule": share(0, 1),
                    "by_model": share(0, 0)}}  # fmt: skip
    rules = {"ring_once": {"calls": 5, "precision": share(1, 5), "caller_precision": share(0, 0), "recall": share(1, 2),
                           "benign_slices": {"courier": share(1, 4)}}}  # fmt: skip
    checks.rule_figures({"calls": 9, "nuisance": 3, "registers": 0, "rules": rules, "regions": regions, "model": model})
    said = " ".join(capsys.readouterr().out.split())
    assert "courier, 25.0% of it" in said and "innocent calls by listed region" not in said
    assert "benign │ 3 │ 2 │ 1 │ 1,234" in said
    assert "the model's catch rate: 50.0% (1.3%-98.7%); of nuisance calls that no rule decides: -" in said
    assert "innocent calls that no rule decides: 1 of 4, at most 80.5880%" in said
    assert _words(pa.table({"x": [1, 2]}), "slice").tolist() == ["", ""]
    assert regions_of(pa.table({"x": [1, 2]}), None).tolist() == ["", ""]
