"""A signed bundle over the real catalogue, written once for all tests that only read it."""

import pytest

from tests.support import real_bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    real_bundle.write_bundle(folder)
    return folder
