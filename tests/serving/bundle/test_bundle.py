"""Bundles: round trips are equal, every tampered bundle is refused in one line, and the process survives."""

import json
import math
import os
import re
import shutil
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from callsieve.features.keys.passphrase import VARIABLE
from callsieve.serving.bundle.bundle import BundleError, load
from callsieve.serving.bundle.forest import Forest
from callsieve.serving.bundle.metadata import Band, Calibration, GoldenVectors, metadata_from_json, metadata_to_json
from callsieve.serving.bundle.signing import generate_signing_key, key_id, read_public_key, read_signing_key, sign
from callsieve.training.model.trees import read_forest, save_bundle
from tests.support import small_bundle as small
from tests.support.errors import raising
from tests.support.paths import ROOT

FILES = ("MANIFEST.json", "MANIFEST.sig", "bundle.json", "content.forest", "content.txt", "model.forest", "model.txt")
BUNDLE = {"kind": "callsieve bundle", "format": 4}


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "saved"
    small.write_bundle(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def refusal(folder, trusted=small.TRUSTED, **options):
    with pytest.raises(BundleError) as caught:
        load(folder, trusted, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def change_forest(folder, name, section, place, value):
    """Changes a model like an attacker with the signing key: hashes and signature match."""
    data = bytearray((folder / name).read_bytes())
    small.sections(data)[section][place] = value
    (folder / name).write_bytes(data)
    small.sign_again(folder)


def change_card(folder, change):
    value = json.loads((folder / "bundle.json").read_bytes())
    change(value)
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
    (folder / "bundle.json").write_text(text + "\n")
    small.sign_again(folder)


def write_manifest(folder, manifest):
    data = json.dumps(manifest, sort_keys=True, indent=1).encode() + b"\n"
    (folder / "MANIFEST.json").write_bytes(data)
    (folder / "MANIFEST.sig").write_bytes(sign(data, small.KEY))


# ------------------------------------------------------------------------------------------- round trip


def test_a_path_is_not_a_trusted_key(tmp_path):
    for keys in (["signer.pub"], "signer.pub", (name for name in [tmp_path])):
        with pytest.raises(TypeError, match=r"^trusted: expected keys from read_public_key, got \w+$"):
            load(tmp_path, keys)


def test_a_bundle_survives_a_round_trip(saved):
    bundle = load(saved, small.TRUSTED, minimum_epoch=5, expected_catalogue=small.CATALOGUE)
    card = small.card()
    for name in card.__struct_fields__:
        if name != "golden":
            assert getattr(bundle, name) == getattr(card, name), name
    assert bundle.signed_by == key_id(small.KEY.public_key())
    assert re.fullmatch("[0-9a-f]{12}", bundle.model_id)
    matrix = small.rows(50, seed=8)
    np.testing.assert_array_equal(
        bundle.model.predict_raw(matrix), read_forest(small.binary_model()).predict_raw(matrix)
    )
    np.testing.assert_array_equal(
        bundle.content.predict_raw(matrix), read_forest(small.multiclass_model()).predict_raw(matrix)
    )
    assert bundle.mode is None


def test_golden_vectors_keep_rows_and_scores_bit_for_bit(saved):
    golden = load(saved, small.TRUSTED).golden
    np.testing.assert_array_equal(golden.rows, small.golden_rows())
    assert np.isnan(golden.rows).any()
    expected = read_forest(small.binary_model()).predict_raw(np.array(small.golden_rows()))
    assert [score for (score,) in golden.scores["model"]] == expected.tolist()


def test_equal_input_gives_equal_bytes(saved, tmp_path):
    model_id = small.write_bundle(tmp_path / "again")
    assert sorted(path.name for path in saved.iterdir()) == list(FILES)
    for name in FILES:
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert load(saved, small.TRUSTED).model_id == model_id
    assert small.write_bundle(tmp_path / "other", epoch=6) != model_id


def test_a_bundle_with_one_model_or_a_model_of_two_classes_is_complete(tmp_path):
    save_bundle(small.card(classes={}), {"model": small.binary_model()}, small.golden_rows(), tmp_path / "b", small.KEY)
    assert load(tmp_path / "b", small.TRUSTED).content is None
    matrix = small.rows(2000, seed=2)
    two = small.train_text(
        matrix, (matrix[:, 4] > 0).astype(int), small.FEATURES, small.LEVELS, 4, objective="multiclass", num_class=2
    )
    models, card = {"model": small.binary_model(), "content": two}, small.card(classes={"content": small.CONTENT[:2]})
    save_bundle(card, models, small.golden_rows(), tmp_path / "two", small.KEY)
    assert load(tmp_path / "two", small.TRUSTED).content.classes == 2


def test_a_single_row_score_that_differs_is_refused(folder, monkeypatch):
    honest = Forest.predict_one
    monkeypatch.setattr(Forest, "predict_one", lambda self, row: honest(self, row) + 1e-12)
    assert re.search("^model.forest: golden vector 0 must give", refusal(folder))


def test_a_bundle_is_written_whole_or_not_at_all(saved, tmp_path, monkeypatch):
    with pytest.raises(FileExistsError, match="never overwritten"):
        small.write_bundle(saved)
    monkeypatch.setattr(os, "fsync", raising(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        small.write_bundle(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"epoch": -1}, "epoch"),
        ({"classes": {}}, "needs the models"),
        ({"features": ("a", "b")}, "must have the features"),
        ({"training": {"auc": math.nan}}, "not JSON compliant"),
        ({"training": {"model": object()}}, "cannot be written as JSON"),
        ({"categorical": {"class": 40}}, "only a categorical feature"),
    ],
)
def test_save_refuses_what_load_refuses(tmp_path, changes, rule):
    with pytest.raises(BundleError, match=rule):
        small.write_bundle(tmp_path / "bundle", **changes)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------- tampered files


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0, 0.5, 0.999])
def test_one_changed_byte_is_refused(folder, name, where):
    data = bytearray((folder / name).read_bytes())
    data[int(len(data) * where)] ^= 1
    (folder / name).write_bytes(data)
    assert name in refusal(folder) or name == "MANIFEST.json"


@pytest.mark.parametrize(
    "name", [*FILES, "mode.txt", "mode.forest", "model.pkl", ".hidden", "model.txt~", "two\nlines"]
)
def test_a_missing_or_added_file_is_refused_by_name(folder, name):
    if name in FILES:
        (folder / name).unlink()
        assert re.search(f"{name}.*missing", refusal(folder))
    else:
        (folder / name).write_text("x")
        assert repr(name) in refusal(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_refused_even_to_the_same_bytes(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    message = refusal(folder)
    if name.startswith("MANIFEST"):  # read before the folder is listed, and not followed even then
        assert message.startswith(f"{name}: ")


def test_folders_and_pipes_are_refused(folder):
    (folder / "extra").mkdir()
    assert "'extra'" in refusal(folder)
    (folder / "extra").rmdir()
    (folder / "content.txt").unlink()
    (folder / "content.txt").mkdir()
    assert "content.txt must be a regular file" in refusal(folder)
    (folder / "content.txt").rmdir()
    os.mkfifo(folder / "content.txt")
    assert "content.txt must be a regular file" in refusal(folder)
    (folder / "MANIFEST.sig").unlink()
    os.mkfifo(folder / "MANIFEST.sig")
    assert "MANIFEST.sig: must be a regular file" in refusal(folder)


def test_a_missing_folder_is_refused(tmp_path, saved):
    for place in (tmp_path / "nowhere", tmp_path, saved / "model.txt", "nul\0byte", ""):
        refusal(place)


@pytest.mark.source("L36", by="serving/bundle/bundle.py")
def test_only_trusted_keys_open_a_bundle(folder):
    assert "not trusted" in refusal(folder, ())
    assert "not trusted" in refusal(folder, (small.OTHER_KEY.public_key(),))
    load(folder, (small.OTHER_KEY.public_key(), *small.TRUSTED))
    small.sign_again(folder, small.OTHER_KEY)
    assert "not trusted" in refusal(folder)


@pytest.mark.parametrize("line", [b"", b"ed25519", b"\xff\n", b"ed25519 0123456789abcdef !!!\n", b"x" * 100_000])
def test_an_invalid_signature_line_is_refused(folder, line):
    (folder / "MANIFEST.sig").write_bytes(line)
    assert "MANIFEST.sig" in refusal(folder)


@pytest.mark.parametrize(
    ("manifest", "rule"),
    [
        (BUNDLE | {"kind": "audit log", "files": {}}, "kind: invalid enum value 'audit log'"),
        (BUNDLE | {"format": 5, "files": {}}, "format: invalid enum value 5"),
        (BUNDLE | {"files": {}}, "files must list"),
        (BUNDLE | {"files": {"../model.txt": {"sha256": "0", "size": 1}}}, "files must be among"),
        (BUNDLE | {"files": {"model.txt": {"sha256": "0", "size": 2**40}}}, "size must"),
        (BUNDLE | {"files": {"bundle.json": {"sha256": "0", "size": 2**22 + 1}}}, "size must be at most 4194304"),
        (BUNDLE | {"files": {"bundle.json": {"sha256": "0", "size": 0}}}, "size: expected `int` >= 1"),
        ([], "expected `object`, got `array`"),
    ],
)
def test_a_signed_manifest_of_another_form_is_refused(folder, manifest, rule):
    write_manifest(folder, manifest)
    assert re.search(f"MANIFEST.json: .*{rule}", refusal(folder))


@pytest.mark.parametrize("more", [-1, 1])
def test_a_signed_manifest_of_another_size_is_refused(folder, more):
    """The hash matches, but a file is read only up to the size in the manifest."""
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    manifest["files"]["content.txt"]["size"] += more
    write_manifest(folder, manifest)
    assert re.search("^content.txt: must have", refusal(folder))


@pytest.mark.parametrize("name", ["MANIFEST.json", "MANIFEST.sig"])
def test_reading_stops_at_the_size_limit(folder, name):
    signed = (folder / name).read_bytes()
    (folder / name).write_bytes(signed + b" " * (65_537 - len(signed)))
    assert refusal(folder) == f"{name}: must have at most 65536 bytes"
    (folder / name).write_bytes(signed + b" " * (65_536 - len(signed)))
    assert "at most" not in refusal(folder)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_too_long_is_not_read_to_its_end(folder, name, lazy):
    os.truncate(folder / name, 1 << 28)
    tracemalloc.start()
    try:
        assert refusal(folder, lazy=lazy).startswith(f"{name}: must have")
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


# --------------------------------------------------------------------- hostile content, valid signature


@pytest.mark.source("L37", by="serving/bundle/forest_layout.py")
@pytest.mark.parametrize("name", ["model.forest", "content.forest"])
@pytest.mark.parametrize(
    ("section", "place", "value", "rule"),
    [
        ("node", (0, 2), 32_767, "name children"),
        ("node", (0, 2), -32_768, "name children"),
        ("node", (0, 2), 0, "name children"),
        ("node", (0, 0), 32_767, "must test a column"),
        ("bound", 0, np.nan, "thresholds must ascend"),
        ("leaf", 0, np.inf, "leaf values must lie"),
        ("leaf", slice(None), 7.0, "golden vector"),
    ],
)
def test_a_hostile_model_with_a_valid_signature_is_refused(folder, name, section, place, value, rule):
    change_forest(folder, name, section, place, value)
    assert re.search(f"^{name}: .*{rule}", refusal(folder))
    lazy = [] if name == "model.forest" else [load(folder, small.TRUSTED, lazy=True)]
    for bundle in lazy * 2:
        with pytest.raises(BundleError, match=f"^{name}: "):
            bundle.content.read()


def test_a_bundle_without_packed_trees_names_the_commands_that_write_them(folder):
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    del manifest["files"]["model.forest"]
    write_manifest(folder, manifest)
    assert refusal(folder) == (
        "MANIFEST.json: files must list both model.txt and model.forest, its trees as they are served; train or adapt "
        "again: `callsieve train` and `callsieve adapt` write both"
    )


def test_an_optional_model_is_read_at_its_first_use_from_the_file_that_was_verified(saved, folder, tmp_path):
    bundle, lazy, changed = (load(folder, small.TRUSTED, lazy=lazy) for lazy in (False, True, True))
    assert callable(lazy.content._source) and not callable(lazy.model._source)
    folder.rename(tmp_path / "old")  # a new bundle takes its place
    shutil.copytree(saved, folder)
    (folder / "content.forest").write_bytes(b"another")
    rows = small.rows(5)
    assert (lazy.content.predict_raw(rows) == bundle.content.predict_raw(rows)).all()
    assert not callable(lazy.content._source)
    (tmp_path / "old" / "content.forest").write_bytes(b"changed in place")
    with pytest.raises(BundleError, match=r"^content.forest: must have the size and SHA-256"):
        changed.content.read()
    with pytest.raises(BundleError, match=r"^content.forest: must have the size and SHA-256"):
        load(folder, small.TRUSTED, lazy=True)  # before anything serves


def test_a_signature_has_one_form(folder):
    """Base64 ignores some bits of the last letter. A signature with other bits there decodes equally and is refused."""
    kind, name, text = (folder / "MANIFEST.sig").read_bytes().split()
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = letters.index(text[-3])
    (folder / "MANIFEST.sig").write_bytes(
        b" ".join((kind, name, text[:-3] + letters[last ^ 1 : (last ^ 1) + 1] + b"==")) + b"\n"
    )
    assert "canonical base64" in refusal(folder)


def test_an_older_epoch_and_another_catalogue_are_refused(folder):
    load(folder, small.TRUSTED, minimum_epoch=5)
    assert "epoch must be at least 6, got 5" in refusal(folder, minimum_epoch=6)
    for other in ("cd", "01"):
        assert f"catalogue_hash must be {other * 2}" in refusal(folder, expected_catalogue=other * 32)


def test_on_check_reports_exactly_the_passed_checks(folder):
    with_catalogue, without = [], []
    load(folder, small.TRUSTED, minimum_epoch=4, expected_catalogue=small.CATALOGUE, on_check=with_catalogue.append)
    load(folder, small.TRUSTED, on_check=without.append)
    assert [line.partition(":")[0] for line in with_catalogue] == [
        "signature", "files", "metadata", "structure", "structure", "golden vectors", "golden vectors", "epoch",
        "catalogue",
    ]  # fmt: skip
    assert with_catalogue[-2:] == [
        "epoch: 5, at least 4", "catalogue: the model's 5 features have the same definitions as in its training"
    ]  # fmt: skip
    assert [*without[:-1], "epoch: 5, at least 4"] == with_catalogue[:-1]


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(card):
        for key in path:
            card = card[key]
        card[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (put("format", 3), "format must be 4"),
        (put("format", True), "format must be 4"),
        (put("extra", 1), "unknown field `extra`"),
        (lambda card: card.pop("epoch"), "expected the keys epoch"),
        (put("features", []), "features: expected `array` of length >= 1"),
        (put("features", 0, "two words"), "must be one printable word"),
        (put("features", 0, "answered_24h"), "names must differ"),
        (put("categorical", "nothing", 4), "must be one of the features"),
        (put("categorical", "route", 0), r"categorical\[\.\.\.\]: expected `int` >= 1"),
        (put("catalogue_hash", "xyz"), "catalogue_hash must be 8 to 128 hex digits"),
        (put("calibration", "x", 1, -4.0), "x must ascend"),
        (put("calibration", "y", 1, 0.7), "y must not descend"),
        (put("calibration", "y", 3, 1.5), "y must not descend"),
        (put("calibration", "x", [-5.0, -4.0, 1.0]), "of one length"),
        (put("thresholds", 1, "name", "certified"), "names must differ"),
        (put("thresholds", 1, "threshold", 9.0), "from the highest to the lowest"),
        (put("thresholds", 1, "raised", {"fixed": 9.0}), "from the highest to the lowest"),
        (put("thresholds", 0, "raised", {"fixed": -9.0}), "raised: fixed must be at least the threshold 1.5"),
        (put("thresholds", 0, "certificate", "certified", False), "certified must be true exactly"),
        (put("thresholds", 0, "certificate", "false_calls", 1), "at least the exact bound"),
        (put("thresholds", 0, "certificate", "false_calls", 30_001), "at most benign_calls"),
        (put("thresholds", 0, "certificate", "bound", 5e-5), "at least the exact bound"),
        (put("feeds", "one operator", []), "feeds: must name one or more of answered only, .*, got 'one operator'"),
        (put("feed", "one operator"), "feed: must name one or more of answered only, .*, got 'one operator'"),
        (put("feed", "answered only"), "feeds: must name one or more of answered only, .*, got 'answered only'"),
        (put("feeds", "complete", []), "feeds: must name one or more of answered only, .*, got 'complete'"),
        (put("feeds", "no routes, answered only", []), "feeds: must name one or more of .* in this order, got 'no r"),
        (put("feeds", "unknown", []), "feeds: must name one or more of answered only, .*, got 'unknown'"),
        (put("feeds", "answered only", []), "'answered only' must have the bands certified, watch"),
        (lambda card: card["feeds"]["answered only"].pop(), "must have the bands certified, watch in this order"),
        (lambda card: card["feeds"]["answered only"].reverse(), "feed 'answered only': must run from the highest"),
        (put("feeds", "answered only", 0, "name", "other"), "must have the bands certified, watch in this order"),
        (lambda card: card.pop("feeds"), "expected the keys feeds"),
        (put("classes", "content", ["a", "b"]), "golden: scores of content must be 2 for each of 17 rows"),
        (put("classes", "other", ["a", "b"]), "a model must be one of"),
        (put("classes", "content", ["a", "b", "a"]), "classes: content: names must differ"),
        (put("classes", "mode", ["a", "b"]), "golden: scores must have the keys model, content, mode"),
        (put("training", "big", 2**60), "training must be a whole number"),
        (put("golden", "rows", 0, [0.0]), "golden: rows must have 5 values, got 1"),
        (put("golden", "scores", "model", 0, ["inf"]), "floats in hexadecimal"),
        (put("golden", "scores", "model", 0, ["1.5"]), "floats in hexadecimal"),
        (put("golden", "scores", "model", 0, ["0x1.8p+99999"]), "floats in hexadecimal"),
        (put("golden", "scores", "model", 0, ["0x1.8000000000000p+0"]), "golden vector 0 must give"),
        (put("valid_until", "2026-03-01T00:00:00Z"), "valid_until must come after"),
        (put("valid_until", "2026-04-01"), "must be a moment"),
        (put("valid_until", "2026-02-30T00:00:00Z"), "must be a moment"),
        (put("thresholds", 0, "threshold", 2), "must have the form in which"),
    ],
)
def test_invalid_metadata_with_a_valid_signature_is_refused(folder, change, rule):
    change_card(folder, change)
    assert re.search(rule, refusal(folder))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"null", b"\xff\xfe", b'{"epoch": 1, "epoch": 2}', b'{"epoch": NaN}', b'{"epoch": 1e999}'),
        *(b'{"epoch": ' + b"9" * 5000 + b"}", b"[" * 200_000, b'{"\\ud800": 1}'),
    ],
)
def test_json_in_another_form_is_refused(folder, data):
    whole = (folder / "bundle.json").read_bytes()
    (folder / "bundle.json").write_bytes(data)
    if data:
        small.sign_again(folder)
    assert "bundle.json" in refusal(folder)
    (folder / "bundle.json").write_bytes(whole.replace(b"\n ", b"\n  ", 1))
    small.sign_again(folder)
    assert "must have the form in which" in refusal(folder)


def test_deeply_nested_values_are_refused():
    nested = []
    for _ in range(20):
        nested = [nested]
    with pytest.raises(ValueError, match="nested more than 12 deep"):
        metadata_from_json(
            metadata_to_json(small.card(training={"deep": nested}, golden=GoldenVectors(((0.0,) * 5,), {})))
        )


@pytest.mark.system
def test_mutants_are_refused_or_score_like_their_arrays(saved):
    """Runs the fuzzer briefly, in a process of its own so that a crash is detected."""
    options = ["--mutants", "700", "--seed", "1", "--bundle", str(saved)]
    command = [sys.executable, "-m", "tests.tools.fuzz_bundle", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, cwd=ROOT)
    assert run.returncode == 0, run.stderr[-2000:]
    counts = json.loads(run.stdout.splitlines()[-1])
    assert counts["model.forest: refused"] > 130
    assert counts["model.forest: refused by golden vectors"] + counts["model.forest: loaded, scores equal"] > 20


# ------------------------------------------------------------------------------- calibration, certificate


def test_probability_equals_probabilities_bit_for_bit():
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.normal(size=30)), np.sort(rng.random(30))
    calibration = Calibration(tuple(x.tolist()), tuple(y.tolist()))
    raw = np.concatenate([rng.normal(size=2000) * 2, x, np.nextafter(x, -9), np.nextafter(x, 9), [-1e300, 1e300]])
    many = calibration.probabilities(raw)
    assert many.tolist() == [calibration.probability(value) for value in raw.tolist()]
    np.testing.assert_allclose(many, np.interp(raw, x, y), rtol=0, atol=1e-12)
    assert calibration.probabilities(x).tolist() == y.tolist()


@pytest.mark.parametrize(("benign", "false"), [(30_000, 0), (100_000, 4), (1_000_000, 83), (300_000, 20), (50, 50)])
def test_the_exact_bound_passes_and_a_smaller_one_does_not(benign, false):
    from scipy.stats import beta

    exact = float(beta.ppf(0.95, false + 1, benign - false)) if false < benign else 1.0
    golden = GoldenVectors(((0.0,) * 5,), {"model": ((0.0,),), "content": ((0.0, 0.0, 0.0),)})

    def read(bound):
        certificate = small.certificate(benign_calls=benign, false_calls=false, bound=bound, target=1.0)
        band = Band("watch", 0.0, msgspec.structs.replace(certificate, certified=True))
        return metadata_from_json(metadata_to_json(small.card(thresholds=(band,), feeds={}, golden=golden)))

    assert read(exact).thresholds[0].certificate.bound == exact
    with pytest.raises(ValueError, match="at least the exact bound"):
        read(exact * 0.99)


# --------------------------------------------------------------------------------------------------- keys


def test_keys_are_never_replaced_and_only_their_owner_reads_them(tmp_path):
    private, public = tmp_path / "signing.pem", tmp_path / "public.pem"
    name = generate_signing_key(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert key_id(read_signing_key(private).public_key()) == key_id(read_public_key(public)) == name
    data = public.read_bytes()
    expected = serialization.load_pem_public_key(data)  # our parser falls back to this one for other forms
    public.write_bytes(data.replace(b"\n", b"\r\n"))
    assert key_id(read_public_key(public)) == key_id(expected) == name
    with pytest.raises(FileExistsError):
        generate_signing_key(private, public)
    private.chmod(0o644)
    with pytest.raises(ValueError, match="has mode 0644: others may use it; change it to 0600"):
        read_signing_key(private)


def test_a_signing_key_with_a_passphrase_is_not_read_without_it(monkeypatch, tmp_path):
    private = tmp_path / "signing.pem"
    monkeypatch.setenv(VARIABLE, "three horses")
    name = generate_signing_key(private, tmp_path / "public.pem")
    assert b"ENCRYPTED" in private.read_bytes() and key_id(read_signing_key(private).public_key()) == name
    for wrong, text in (("", "the key is encrypted; set CALLSIEVE_KEY_PASSPHRASE"), ("x", "is not its passphrase")):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ValueError, match=text):
            read_signing_key(private)


def test_a_key_pair_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "public.pem").touch()
    with pytest.raises(FileExistsError):
        generate_signing_key(tmp_path / "signing.pem", tmp_path / "public.pem")
    assert not (tmp_path / "signing.pem").exists()


def test_an_invalid_key_and_a_key_of_another_kind_are_refused(tmp_path):
    key, path = generate_private_key(SECP256R1()), tmp_path / "key.pem"
    path.touch(0o600)
    for data in (b"", b"\xff\0", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        path.write_bytes(data)
        for read in (read_signing_key, read_public_key):
            with pytest.raises(ValueError, match=r"key\.pem: expected an"):
                read(path)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(ValueError, match="expected an Ed25519 private key, got EC"):
        read_signing_key(path)
    path.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(ValueError, match="expected an Ed25519 public key, got EC"):
        read_public_key(path)
    path.write_bytes(b" " * 5000)
    with pytest.raises(ValueError, match=r"key\.pem: must have at most 4096 bytes; expected an Ed25519 public key"):
        read_public_key(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"key\.pem: must be a regular file; expected an Ed25519 public key"):
        read_public_key(path)
