"""The list of changes that no test notices is of the files as they are, and gives a reason for each."""

import random
from collections import Counter
from pathlib import Path

import pytest

import mutate

ROOT = Path(__file__).parents[1]
KNOWN = mutate.known()


def test_each_has_a_reason_and_stands_once():
    lines = [line for line in mutate.KNOWN.read_text().splitlines() if line.startswith("- ")]
    assert len(lines) == len(KNOWN) > 0
    assert all(KNOWN.values())
    assert {file for file, _ in KNOWN} <= mutate.TARGETS.keys()


@pytest.mark.parametrize("file", mutate.TARGETS)
def test_the_changed_lines_are_still_there(file):
    there = Counter(" ".join(line.split()) for line in (ROOT / file).read_text().splitlines())
    gone = [
        change for name, change in KNOWN if name == file and not there[change[2:].split("  + ")[0].split("  - ")[0]]
    ]
    assert gone == []


def test_a_change_is_one_that_means_something():
    pytest.importorskip("cosmic_ray")
    source = "def f(x: int | None, y=1):\n    return x + y\n"
    made = [changed for _, changed in mutate.mutants(source, random.Random(0))]
    assert "def f(x: int | None, y=1):\n    return x - y\n" in made
    assert any(one.startswith("def f(x: int | None, y= 2)") for one in made)
    assert not [one for one in made if "int | None" not in one]
    assert len(made) == len(set(made))
