"""Verification of bundles reports all passed checks in order, or the check that failed."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from callsieve.serving.bundle.attestation import write_attestation
from callsieve.serving.bundle.bundle import BundleError, load
from callsieve.serving.bundle.signing import key_id, write_public_key
from callsieve.serving.bundle.verify import verify
from callsieve.training.model.trees import compare_with_texts, save_bundle
from tests.support import real_bundle
from tests.support import small_bundle as small

CHECKS = ["signature", "files", "metadata", "structure", "structure", "golden vectors", "golden vectors"]
CHECKS += ["epoch", "catalogue", "validity", "provenance"]
COMMAND = [sys.executable, "-m", "callsieve.training", "model", "verify", "--bundle"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("bundles")
    real_bundle.write_signed(place)
    write_public_key(small.OTHER_KEY.public_key(), place / "other.pub")
    shutil.copytree(place / "bundle", place / "broken")
    data = bytearray((place / "broken" / "model.forest").read_bytes())
    small.sections(data)["node"][0, 2] = 32_767
    (place / "broken" / "model.forest").write_bytes(data)
    small.sign_again(place / "broken")
    return place


def check_names(lines):
    return [line.partition(":")[0] for line in lines]


def test_every_check_is_reported_in_order(place):
    lines = []
    _, facts = verify(place / "bundle", on_check=lines.append)
    assert lines == facts["checks"]
    assert check_names(lines) == CHECKS
    assert facts["signed_by"] == key_id(small.KEY.public_key())
    assert facts["signed_by"] in lines[0]
    assert facts["epoch"] == 5
    assert facts["bands"] == {"certified": True, "watch": False}
    assert facts["stale"] is ("expired" in lines[-2])
    assert lines[-1].startswith("provenance: none; no bundle.provenance.json")
    json.dumps(facts)


def test_a_statement_beside_the_bundle_is_verified(place, tmp_path):
    bundle = shutil.copytree(place / "bundle", tmp_path / "bundle")
    write_attestation(bundle, {}, small.KEY)
    line = verify(bundle, place / "signer.pub")[1]["checks"][-1]
    assert line.endswith("bundle.provenance.json states how these 7 files were made, signed by the same key")
    write_attestation(bundle, {}, small.OTHER_KEY)
    with pytest.raises(BundleError, match=r"^bundle\.provenance\.json: has no valid signature of the bundle's signer"):
        verify(bundle, place / "signer.pub")


def test_a_refusal_comes_after_the_passed_checks(place):
    lines = []
    with pytest.raises(BundleError, match=r"^model\.forest: .*children"):
        verify(place / "broken", on_check=lines.append)
    assert check_names(lines) == CHECKS[:3]


def test_the_key_must_be_the_signers(place, tmp_path):
    assert verify(place / "bundle", place / "signer.pub")[1]["signed_by"]
    with pytest.raises(BundleError, match="not trusted"):
        verify(place / "bundle", place / "other.pub")
    shutil.copytree(place / "bundle", tmp_path / "bundle")
    with pytest.raises(ValueError, match=r"signer\.pub: no public key; expected --trust FILE"):
        verify(tmp_path / "bundle")
    with pytest.raises(ValueError, match=r"none: not found$"):
        verify(tmp_path / "none")


def run(*words):
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=False)


def test_the_command_prints_all_checks_in_order(place):
    done = run(place / "bundle")
    assert (done.returncode, done.stderr) == (0, "")
    *checks, last = done.stdout.splitlines()
    assert check_names(checks) == [*CHECKS, "texts"]
    assert last.endswith("passed all checks")


@pytest.mark.system
def test_the_command_refuses_in_one_line(place):
    done = run(place / "broken")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("callsieve: model.forest: ")
    assert check_names(done.stdout.splitlines()) == CHECKS[:3]
    assert run(place / "broken", "--json").stdout == ""


def test_the_command_needs_no_package_of_the_training(place):
    code = """
import sys
sys.modules["lightgbm"] = None
sys.argv = ["callsieve", "model", "verify", "--bundle", sys.argv[1], "--json"]
from callsieve.training.cli.command_table import main
try:
    main()
except SystemExit as done:
    assert not done.code
print("loaded:", *sys.modules)
"""
    command = [sys.executable, "-c", code, str(place / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts, _, modules = done.stdout.rpartition("loaded:")
    checks = json.loads(facts)["checks"]
    assert check_names(checks) == [*CHECKS, "texts"] and "not compared" in checks[-1]
    loaded = modules.split()
    assert "callsieve.serving.bundle.verify" in loaded
    assert not {"numpy", "scipy", "pandas", "sklearn", "numba", "pyarrow", "mlflow"} & set(loaded)


@pytest.mark.parametrize(
    ("pattern", "new", "rule"),
    [
        (r"(?m)^leaf_value=\S+", "leaf_value=0.5", "must have the features and trees of"),
        (r"(?m)^left_child=(\S+) (\S+)", r"left_child=\2 \1", "must have the features and trees of"),
        ("feature_names=[a-z]", "feature_names=x", "must have the features and trees of"),
        (r"(?m)^left_child=-?\d+", "left_child=4000000000", "content.txt: "),
        ("(?m)^threshold=[^\n]*\n", "", "content.txt: "),
        ("(?s).*", "no model", "content.txt: "),
    ],
)
def test_a_text_of_other_trees_is_refused(place, tmp_path, pattern, new, rule):
    folder = shutil.copytree(place / "bundle", tmp_path / "bundle")
    text = re.sub(pattern, new, (folder / "content.txt").read_text(), count=1)
    (folder / "content.txt").write_text(text)
    small.sign_again(folder)
    bundle, _ = verify(folder, place / "signer.pub")
    with pytest.raises(BundleError, match=rule):
        compare_with_texts(folder, bundle)


def test_lightgbm_must_score_the_text_as_the_trees_are_scored(tmp_path):
    """LightGBM reads an unknown kind of missing values as none; the packed trees have it as NaN."""
    text = re.sub(r"(?m)^decision_type=.*$", lambda line: re.sub(r"\b10\b", "14", line[0]), small.binary_model())
    save_bundle(small.card(classes={}), {"model": text}, small.golden_rows(), tmp_path / "bundle", small.KEY)
    with pytest.raises(BundleError, match=r"^model\.txt: LightGBM must score it as model\.forest is scored"):
        compare_with_texts(tmp_path / "bundle", load(tmp_path / "bundle", small.TRUSTED))
