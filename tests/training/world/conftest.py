"""The worlds that several tests of the simulator read."""

import pytest

from tests.support.calls.worlds import attacked_world, small_world, town_world


@pytest.fixture(scope="session")
def world():
    return small_world()


@pytest.fixture(scope="session")
def town():
    return town_world()


@pytest.fixture(scope="session")
def village():
    return attacked_world()
