"""Verification of bundles reports all passed checks in order, or the check that failed."""

import json
import shutil
import subprocess
import sys

import pytest

from callsieve.serving.bundle.attestation import write_attestation
from callsieve.serving.bundle.bundle import BundleError
from callsieve.serving.bundle.signing import key_id, write_public_key
from callsieve.serving.bundle.verify import verify
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
    text = (place / "broken" / "model.txt").read_text()
    (place / "broken" / "model.txt").write_text(small.repair_sizes(text.replace("left_child=", "left_child=9", 1)))
    small.sign_again(place / "broken")
    return place


def check_names(lines):
    return [line.partition(":")[0] for line in lines]


def test_every_check_is_reported_in_order(place):
    lines = []
    facts = verify(place / "bundle", on_check=lines.append)
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
    line = verify(bundle, place / "signer.pub")["checks"][-1]
    assert line.endswith("bundle.provenance.json states how these 5 files were made, signed by the same key")
    write_attestation(bundle, {}, small.OTHER_KEY)
    with pytest.raises(BundleError, match=r"^bundle\.provenance\.json: has no valid signature of the bundle's signer"):
        verify(bundle, place / "signer.pub")


def test_a_refusal_comes_after_the_passed_checks(place):
    lines = []
    with pytest.raises(BundleError, match=r"^model\.txt: .*left_child"):
        verify(place / "broken", on_check=lines.append)
    assert check_names(lines) == CHECKS[:3]


def test_the_key_must_be_the_signers(place, tmp_path):
    assert verify(place / "bundle", place / "signer.pub")["signed_by"]
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
    assert check_names(checks) == CHECKS
    assert last.endswith("passed all checks")


@pytest.mark.system
def test_the_command_refuses_in_one_line(place):
    done = run(place / "broken")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("callsieve: model.txt: ")
    assert check_names(done.stdout.splitlines()) == CHECKS[:3]
    assert run(place / "broken", "--json").stdout == ""


def test_the_command_does_not_import_lightgbm(place):
    code = """
import sys
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
    assert check_names(json.loads(facts)["checks"]) == CHECKS
    loaded = modules.split()
    assert "callsieve.serving.bundle.verify" in loaded
    assert not {"lightgbm", "scipy", "pandas", "sklearn", "numba", "pyarrow", "mlflow"} & set(loaded)
