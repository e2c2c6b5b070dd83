"""The shipped bundle: it opens without a path, is in force, and stands in EVIDENCE.md."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from callsieve.features import History
from callsieve.features.files.atomic import sha256
from callsieve.serving import BundleError, Scorer, read_policy
from callsieve.serving.bundle.attestation import verify_attestation
from callsieve.serving.bundle.shipped import SHIPPED_BUNDLE, SHIPPED_IN_WORDS, SHIPPED_SIGNER
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.rules.policy import ACTIONS
from tests.support import small_bundle as small
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def shipped():
    return Scorer.load()


def test_it_is_the_model_whose_figures_evidence_states(shipped):
    (row,) = re.findall(r"^\| shipped model \|.*", (ROOT / "EVIDENCE.md").read_text(), re.MULTILINE)
    assert f"model: {shipped.bundle.model_id}" in row


def test_its_documents_are_those_that_its_provenance_names(shipped):
    statement = verify_attestation(SHIPPED_BUNDLE, read_public_key(SHIPPED_SIGNER))
    folder = SHIPPED_BUNDLE.parent
    stated = {entry["name"]: entry["digest"]["sha256"] for entry in statement.predicate["runDetails"]["byproducts"]}
    files = {f"documents/{path.name}": sha256(path) for path in (folder / "documents").iterdir()}
    assert stated == files and {"documents/model_card.md", "documents/datasheet.md"} <= stated.keys()
    assert shipped.bundle.model_id in (folder / "documents/model_card.md").read_text()


def test_it_is_in_force_for_the_life_of_a_release(shipped):
    begin, end = (datetime.fromisoformat(moment) for moment in (shipped.bundle.valid_from, shipped.bundle.valid_until))
    assert begin <= datetime.now(UTC) and end - begin >= timedelta(days=365)


def test_under_the_shipped_policy_it_labels_and_never_blocks():
    assert "labels and never blocks" in SHIPPED_IN_WORDS
    actions = {*read_policy().bands.values(), *read_policy().rules.values()}
    assert max(ACTIONS.index(action) for action in actions) == ACTIONS.index("label")


def test_its_features_are_those_of_a_plain_history(shipped):
    assert History(shipped.features).features == History().features


def test_keys_can_be_named_and_must_be_for_another_bundle():
    with pytest.raises(BundleError, match="not trusted"):
        Scorer.load(trusted=small.TRUSTED)
    with pytest.raises(TypeError, match="expected the public keys"):
        Scorer.load(SHIPPED_BUNDLE)
