"""LICENSES.md lists the dependencies of pyproject.toml, as pinned, under the licence that each of them says it has."""

import re
import tomllib
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ASKED = {"base": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
# How packages without an SPDX expression name the licence that we write as one.
WORDS = {
    "Apache-2.0": r"Apache(-2\.0| Software License)",
    "BSD-2-Clause": "BSD",
    "BSD-3-Clause": "BSD",
    "MIT": "MIT",
    "MIT-0": "MIT-0",
    "PSF-2.0": "Python Software Foundation",
}


def listed():
    extra, found = "", []
    for line in (ROOT / "LICENSES.md").read_text().splitlines():
        if line.startswith("## "):
            extra = line[3:]
        elif line.startswith("| ") and not line.startswith("| package"):
            found.append((extra, *(cell.strip() for cell in line.strip("|").split("|"))))
    return found


ROWS = listed()


def test_exactly_what_the_project_asks_for_is_listed():
    names = {(extra, Requirement(one).name) for extra, more in ASKED.items() for one in more}
    ours = {(extra, name) for extra, name, *_ in ROWS}
    assert ours == {(extra, name) for extra, name in names if name != PROJECT["name"]}
    assert len(ROWS) == len(ours)


@pytest.mark.parametrize(("extra", "name", "pin", "licence", "released", "why"), ROWS, ids=lambda value: value[:20])
def test_a_row_says_what_is_pinned_and_what_the_package_says(extra, name, pin, licence, released, why):
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert {canonicalize_name(one): version for one, version in pins.items()}[name] == pin
    asked = next(Requirement(one) for one in ASKED[extra] if Requirement(one).name == name)
    assert pin in asked.specifier
    assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", released)
    assert why
    package = distribution(name)
    assert package.version == pin
    said = package.metadata
    if expression := said.get("License-Expression"):
        assert licence == expression
        return
    classifiers = [one for one in said.get_all("Classifier", ()) if one.startswith("License ::")]
    assert re.search(WORDS[licence], "\n".join((said.get("License", ""), *classifiers)))
    if licence.startswith("BSD"):
        licences = [one for one in package.files or () if re.fullmatch(r"LICENSE(\.\w+)?", one.name)]
        (text,) = (one.read_text() for one in licences if ".dist-info" in one.parts[0])
        assert ("either the name" in text) == (licence == "BSD-3-Clause")


def test_every_licence_word_is_needed():
    """So that the list of words does not outlive the packages."""
    loose = {row[3] for row in ROWS if not distribution(row[1]).metadata.get("License-Expression")}
    assert loose == set(WORDS)
