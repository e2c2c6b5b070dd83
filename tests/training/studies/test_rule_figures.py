"""Figures of the rules against the truth, separate from the model, and the effect of another policy."""

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
from callsieve.serving.rules.policy import ACTIONS, Policy
from callsieve.serving.rules.registers import Registers
from callsieve.serving.rules.rule_bits import BITS
from callsieve.serving.rules.rules import KNOWN, RULES
from callsieve.training.cli import terminal_tables
from callsieve.training.studies.policy_diff import changes
from callsieve.training.studies.rule_figures import CallTruth, _words, model_apart, of_rule, regions_of, share
from tests.support import lite_bundle
from tests.support.imports import MODULES, everywhere, file_of, imported, name_of
from tests.support.paths import ROOT
from tests.support.simulated import mark_simulated

# Modules that make and judge a model.
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
def calls(world):
    """Calls after the first 7 days with their truth, without duplicates."""
    calls, truth = world.calls.to_pandas(), world.truth.to_pandas()
    table = calls.assign(**{name: truth[name] for name in ("nuisance", "slice", "duplicate")})
    assert (calls["call"] == truth["call"]).all()
    return table[(table["start"] >= table["start"].min() + 7 * 86_400_000) & ~table["duplicate"]]


@given(st.integers(0, 300), st.integers(0, 300))
def test_shares_have_exact_intervals(part, more):
    figures, whole = share(part, part + more), part + more
    if whole:
        low, high = binomtest(part, whole).proportion_ci(0.95, method="exact")
        assert (figures["low"], figures["high"]) == pytest.approx((low, high), abs=1e-9)
        assert figures["rate"] == part / whole


@pytest.mark.system
@pytest.mark.source("L19", by="training/studies/rule_figures.py")
def test_rules_are_counted_against_the_truth(command_json, world_folder, calls, capsys):
    figures, hits = command_json("study", "rules", "--data", world_folder), 0
    recalled = 0
    assert (figures["calls"], figures["nuisance"]) == (len(calls), int(calls["nuisance"].sum()))
    assert set(figures["rules"]) == {rule.name for rule in RULES}
    abroad = (calls["route"] == "international") & ~calls["caller_class"].isin(["foreign", "irregular", "withheld"])
    for name, hit in (
        ("authentication_failed", calls["attestation"] == "failed"),
        ("domestic_from_abroad", abroad),
        ("shown_number_differs", calls["presented_differs"] == 1),
        ("irregular_number", calls["caller_class"].isin(["irregular", "106", "800"])),
    ):
        rule, hit_calls = figures["rules"][name], calls[hit]
        assert rule["calls"] == len(hit_calls), name
        hits += len(hit_calls)
        assert rule["precision"]["part"] == int(hit_calls["nuisance"].sum())
        caught = int(hit_calls["nuisance"].sum())
        assert (rule["recall"]["part"], rule["recall"]["whole"]) == (caught, int(calls["nuisance"].sum()))
        assert rule["recall"]["rate"] == pytest.approx(caught / calls["nuisance"].sum())
        recalled += caught
        assert rule["caller_precision"]["whole"] == hit_calls["caller"].nunique()
        innocent = hit_calls[~hit_calls["nuisance"]]["slice"].value_counts().loc[lambda counts: counts > 0]
        assert {name: entry["part"] for name, entry in rule["benign_slices"].items()} == innocent.to_dict()
    assert hits > 100 and recalled > 0
    for rule in figures["rules"].values():
        assert rule["recall"]["part"] == rule["precision"]["part"]
    assert sum(figures["rules"][name]["recall"]["part"] for name in ("ring_once", "call_bombing")) > 0
    for guard in KNOWN:  # in a world of so few people, one-ring callers ring everybody again and again
        rule = figures["rules"][guard]
        assert rule["calls"] > 0.05 * len(calls) and rule["recall"]["rate"] < 0.04
        assert rule["attacks"].get("one_ring", {"rate": 0.0})["rate"] < 0.02
    terminal_tables.rule_figures(figures)
    text = " ".join(capsys.readouterr().out.split())
    for name, rule in figures["rules"].items():
        assert f"{name.replace('_', ' ')} │ {rule['calls']:,}" in text.replace("┃", "│"), name


@pytest.mark.system
@pytest.mark.source("L11", by="training/studies/rule_figures.py")
def test_a_listed_region_is_audited_by_its_callers(command_json, world, calls, world_folder, tmp_path, capsys):
    """Compares the audit with a plain count of innocent callers, with and without a stricter rule."""
    assert command_json("study", "rules", "--data", world_folder)["regions"]["listed area"]["with_rule"]["part"] == 0
    strict = tmp_path / "strict.toml"
    strict.write_text('version = "strict"\n[bands]\n[rules]\nrisk_region = "screen"\nring_once = "label"\n')
    figures = command_json("study", "rules", "--data", world_folder, "--policy", strict)
    terminal_tables.rule_figures(figures)
    regions, text = figures["regions"], capsys.readouterr().out
    assert re.search(rf"listed area +│ +{regions['listed area']['callers']} ", text)
    assert re.search(rf"all others +│ +{regions['']['callers']} ", text)
    listed = set(world.registers["risk_regions"].to_pandas()["number"])
    in_region = calls["caller"].isin(listed)
    innocent = calls[in_region & ~calls["nuisance"]]
    audit = regions["listed area"]
    assert audit["callers"] == innocent["caller"].nunique() > 0
    assert (audit["with_rule"]["part"], audit["with_rule"]["whole"]) == (len(innocent), len(innocent))
    assert audit["without_rule"]["part"] < len(innocent) and audit["by_model"]["part"] == 0
    assert regions[""]["with_rule"] == regions[""]["without_rule"]
    assert regions[""]["with_rule"]["whole"] == len(calls[~in_region & ~calls["nuisance"]])
    # The rule has no effect after the day on which the listing ends.
    folder = tmp_path / "dated"
    folder.mkdir()
    for path in world_folder.glob("*"):
        if path.name != "register_risk_regions.parquet":
            (folder / path.name).symlink_to(path)
    table = pq.read_table(world_folder / "register_risk_regions.parquet").to_pandas()
    middle = calls["start"].median()
    table["valid_to"] = pd.Timestamp(int(middle), unit="ms", tz="UTC")
    table.to_parquet(folder / "register_risk_regions.parquet")
    after_end = command_json("study", "rules", "--data", folder, "--policy", strict)["regions"]["listed area"]
    assert after_end["with_rule"]["part"] == int((innocent["start"] < int(middle)).sum()) < len(innocent)


@pytest.mark.source("P4", by="training/studies/rule_figures.py")
def test_calls_not_declared_for_evaluation_are_refused(command_error, world_folder, tmp_path):
    for path in world_folder.glob("*.parquet"):
        (tmp_path / path.name).symlink_to(path)
    declare(tmp_path, "switch", "contract", ["scoring"], "2999-12-31")
    assert "declared for scoring, not for evaluation" in command_error("study", "rules", "--data", tmp_path)


def test_figures_of_the_model_and_of_the_rules_are_separate(
    command_json, world_folder, training_run, run_key, tmp_path, capsys
):
    (tmp_path / "eager.toml").write_text(EAGER)
    looks = ("--audit", tmp_path / "audit", "--signing-key", run_key)
    bundle = ("--bundle", training_run[0] / "bundle", *looks)
    plain, eager = (command_json("study", "rules", "--data", world_folder, *bundle, *options) for options in
                    ((), ("--policy", tmp_path / "eager.toml")))  # fmt: skip
    card = json.loads((training_run[0] / "bundle" / "bundle.json").read_text())
    for figures in (plain, eager):
        model = figures["model"]
        assert model["certificate"] == card["thresholds"][0]["certificate"]
        for kind, calls in (("nuisance", figures["nuisance"]), ("benign", figures["calls"] - figures["nuisance"])):
            assert sum(model[kind].values()) == calls
        assert model["catch"]["part"] == model["nuisance"]["model_alone"] + model["nuisance"]["both"]
        assert model["catch_without_rule_hits"]["part"] == model["nuisance"]["model_alone"]
    # The policy of the rules does not change the figures of the model.
    for name in ("catch", "false", "certificate"):
        assert plain["model"][name] == eager["model"][name]
    assert plain["model"]["nuisance"] != eager["model"]["nuisance"]
    terminal_tables.rule_figures(eager)
    text = capsys.readouterr().out
    model = eager["model"]
    for kind in ("nuisance", "benign"):
        cells = [f"{model[kind][cell]:,}" for cell in ("model_alone", "rules_alone", "both", "neither")]
        assert re.search(rf"{kind} +│ +" + " +│ +".join(cells), text)
    assert f"the model's catch rate: {model['catch']['rate']:.1%} (" in text
    assert f"the model's false positives: {model['false']['part']:,} of {model['false']['whole']:,}, at most " in text


def test_unlisted_callers_have_no_region():
    calls = pa.table({"caller": ["a", "b"]})
    assert regions_of(calls, None).tolist() == regions_of(calls, Registers({})).tolist() == ["", ""]


def test_modules_that_make_and_judge_a_model_import_no_rule():
    """Certificates cannot count a rule's hit: their modules and the imports of these modules import no rule."""
    for name in OF_THE_MODEL:
        queue, seen = [ROOT / "training" / f"{name}.py"], set()
        while queue:
            path = queue.pop()
            imports = set(imported(path, everywhere(path))) & MODULES
            assert not imports & OF_RULES, f"{name}: {name_of(path)} imports {imports & OF_RULES}"
            new = {module for module in imports if module.startswith("callsieve.training.")} - seen
            seen |= new
            queue += [file_of(module) for module in new if "world" not in module]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.sampled_from("ab")), min_size=1))
def test_figures_of_a_rule_agree_with_a_plain_count(drawn):
    hit, nuisance, caught, caller = (np.array(column) for column in zip(*drawn, strict=True))
    none = np.full(len(drawn), "")
    calls = CallTruth(nuisance, np.where(nuisance, "bad", "good"), none, none, (caller == "a").astype(int))
    figures = of_rule(hit, calls)
    assert figures["precision"]["part"] == sum(h and n for h, n, _, _ in drawn)
    assert figures["caller_precision"]["part"] == len(
        {c for h, _, _, c in drawn if h} & {c for _, n, _, c in drawn if n}
    )
    policy = Policy("1", {}, {"ring_once": "label", "no_consent": "pass"})
    bits = np.where(hit, BITS["ring_once"], BITS["no_consent"] | BITS["protected_caller"])
    cells = model_apart(caught, bits, calls, policy)
    assert cells["nuisance"]["both"] == sum(h and n and c for h, n, c, _ in drawn)
    assert cells["benign"]["neither"] == sum(not (h or n or c) for h, n, c, _ in drawn)
    # The catch and the false positives of the model are also counted without calls that a rule decides.
    for name, guilty in (("catch", True), ("false", False)):
        own = [(h, c) for h, n, c, _ in drawn if n is guilty]
        for which, rows in (("", own), ("_without_rule_hits", [(h, c) for h, c in own if not h])):
            assert (cells[name + which]["part"], cells[name + which]["whole"]) == (sum(c for _, c in rows), len(rows))


def test_the_policy_diff_counts_changed_actions_by_slice(
    command_json, world_folder, training_run, run_key, tmp_path, capsys
):
    (tmp_path / "eager.toml").write_text(EAGER)
    (tmp_path / "none.toml").write_text('version = "none"\n[bands]\n')
    path = tmp_path / "calls.parquet"
    calls = pq.read_table(world_folder / "calls.parquet")
    pq.write_table(calls.take(list(range(0, calls.num_rows, 5))), path)
    mark_simulated(tmp_path)
    common = ("--calls", path, "--layout", "keyed", "--bundle", training_run[0] / "bundle", "--registers", world_folder)
    verdicts = {}
    for name in ("none", "eager"):
        out = tmp_path / f"{name}.parquet"
        command_json("score", *common, "--policy", tmp_path / f"{name}.toml", "--out", out)
        verdicts[name] = pq.read_table(out).to_pandas()
    figures = command_json("study", "policies", tmp_path / "none.toml", tmp_path / "eager.toml", *common, "--truth",
                 world_folder / "truth.parquet", "--audit", tmp_path / "audit", "--signing-key",
                 run_key)  # fmt: skip
    assert (figures["old"], figures["new"]) == ("none", "eager")
    both = pd.DataFrame({"from": verdicts["none"]["action"].astype(str), "to": verdicts["eager"]["action"].astype(str)})
    calls = pq.read_table(path).sort_by("start").to_pandas()
    truth = pq.read_table(world_folder / "truth.parquet").to_pandas().drop_duplicates("call").set_index("call")
    both["number_class"] = calls["caller_class"].astype(str)
    nuisance = truth["nuisance"].reindex(calls["call"]).to_numpy(dtype=bool)
    slices = truth["slice"].reindex(calls["call"]).astype(str).to_numpy()
    both["truth"] = np.where(nuisance, "nuisance: ", "benign: ") + slices
    moved = both[both["from"] != both["to"]]
    assert figures["changed"] == len(moved) > 100
    for part, rows in (("", figures["actions"]), *figures["slices"].items()):
        names = [*([part] if part else []), "from", "to"]
        counts = {key: int(count) for key, count in moved.groupby(names).size().items()}
        assert {tuple(row[name] for name in names): row["calls"] for row in rows} == counts
    assert {row["to"] for row in figures["actions"]} >= {"label", "block"}
    terminal_tables.policy_diff(figures)
    assert f"none -> eager: {len(moved):,} of {len(both):,} calls change their action" in capsys.readouterr().out
    reverse = command_json("study", "policies", tmp_path / "eager.toml", tmp_path / "none.toml", *common)
    assert {(row["to"], row["from"], row["calls"]) for row in reverse["actions"]} == {
        (row["from"], row["to"], row["calls"]) for row in figures["actions"]
    }
    assert reverse["rules"] == figures["rules"]
    shipped = command_json("study", "policies", "default", "plan-2018", *common)
    assert (shipped["old"], shipped["new"]) == ("9", "plan-2018.4")
    stronger = {(row["from"], row["to"]) for row in shipped["actions"]}
    assert ("label", "block") in stronger and all(ACTIONS.index(old) < ACTIONS.index(new) for old, new in stronger)
    assert shipped["rules"]["authentication_failed"] > 0


def test_equal_policies_give_one_line(capsys):
    verdicts = SimpleNamespace(action=np.array([0, 2, 3]), rule_bits=np.array([0, 1, 1]))
    answer = changes(verdicts, verdicts, np.array(["a", "b", "c"]), {})
    assert answer == {"changed": 0, "actions": [], "slices": {}, "rules": {}}
    terminal_tables.policy_diff({"old": "1", "new": "2", "calls": 3} | answer)
    assert capsys.readouterr().out == "policy 1 -> 2: 0 of 3 calls change their action\n"


def test_a_file_without_valid_calls_is_refused(run_command, tmp_path):
    lite_bundle.write_bundle(tmp_path)
    Key("e1", bytes(range(32))).write(tmp_path / "number.key")
    (tmp_path / "none.toml").write_text('version = "none"\n[bands]\n')
    mark_simulated(tmp_path)
    (tmp_path / "calls.txt").write_text("start,caller,callee\nsoon,13800138000,13800138001\n")
    policies = (tmp_path / "none.toml", tmp_path / "none.toml")
    arguments = ("--calls", tmp_path / "calls.txt", "--key", tmp_path / "number.key", "--bundle", tmp_path / "bundle")
    code, _, error = run_command("study", "policies", *policies, *arguments)
    assert code == 1 and "calls.txt: all 1 rows were quarantined: 1 bad_time" in error


def test_the_tables_show_model_and_rules_separately(capsys):
    cells = {"model_alone": 3, "rules_alone": 2, "both": 1, "neither": 1234}
    model = {"id": "m", "band": "watch", "nuisance": cells, "benign": cells, "catch": share(1, 2), "false": share(0, 9),
             "catch_without_rule_hits": share(0, 0), "false_without_rule_hits": share(1, 4),
             "fold": None, "touches": None, "registered": False}  # fmt: skip
    regions = {"": {"callers": 1, "nuisance": share(0, 0), "with_rule": share(1, 1), "without_rule": share(0, 1),
                    "by_model": share(0, 0)}}  # fmt: skip
    rules = {"ring_once": {"calls": 5, "precision": share(1, 5), "caller_precision": share(0, 0), "recall": share(1, 2),
                           "benign_slices": {"courier": share(1, 4)}}}  # fmt: skip
    terminal_tables.rule_figures(
        {"calls": 9, "nuisance": 3, "registers": 0, "rules": rules, "regions": regions, "model": model}
    )
    text = " ".join(capsys.readouterr().out.split())
    assert "│ ring once │ courier │ 0.25 │" in text and "innocent calls by listed region" not in text
    assert "benign │ 3 │ 2 │ 1 │ 1,234" in text
    assert "catch rate: 50.0% (1.3% to 98.7%); of nuisance calls that no rule decides: not measured" in text
    assert "innocent calls that no rule decides: 1 of 4, at most 80.5880%" in text
    assert _words(pa.table({"x": [1, 2]}), "slice").tolist() == ["", ""]
    assert regions_of(pa.table({"x": [1, 2]}), None).tolist() == ["", ""]
