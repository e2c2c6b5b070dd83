"""LICENSES.md lists the dependencies of pyproject.toml with the pinned version and the licence of their metadata."""

import re
import tomllib
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = {"base": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
# How packages without an SPDX expression name the licence that we write as one.
WORDS = {
    "Apache-2.0": r"Apache(-2\.0| Software License)",
    "BSD-3-Clause": "BSD",
    "MIT": "MIT",
    "PSF-2.0": "Python Software Foundation",
}


def listed():
    extra, rows = "", []
    for line in (ROOT / "LICENSES.md").read_text().splitlines():
        if line.startswith("## "):
            extra = line[3:]
        elif line.startswith("| ") and not line.startswith("| package"):
            rows.append((extra, *(cell.strip() for cell in line.strip("|").split("|"))))
    return rows


ROWS = listed()


def test_exactly_the_direct_dependencies_are_listed():
    names = {(extra, Requirement(text).name) for extra, more in REQUIREMENTS.items() for text in more}
    ours = {(extra, name) for extra, name, *_ in ROWS}
    assert ours == {(extra, name) for extra, name in names if name != PROJECT["name"]}
    assert len(ROWS) == len(ours)


@pytest.mark.parametrize(("extra", "name", "pin", "licence", "released", "why"), ROWS, ids=lambda value: value[:20])
def test_a_row_has_the_pinned_version_and_the_licence_of_the_package(extra, name, pin, licence, released, why):
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert {canonicalize_name(package): version for package, version in pins.items()}[name] == pin
    requirement = next(entry for entry in map(Requirement, REQUIREMENTS[extra]) if entry.name == name)
    assert pin in requirement.specifier
    assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", released)
    assert why
    package = distribution(name)
    assert package.version == pin
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        assert licence == expression
        return
    classifiers = [text for text in metadata.get_all("Classifier", ()) if text.startswith("License ::")]
    assert re.search(WORDS[licence], "\n".join((metadata.get("License", ""), *classifiers)))
    if licence.startswith("BSD"):
        licences = [path for path in package.files or () if re.fullmatch(r"LICENSE(\.\w+)?", path.name)]
        (text,) = (path.read_text() for path in licences if ".dist-info" in path.parts[0])
        assert ("either the name" in text) == (licence == "BSD-3-Clause")


def test_every_licence_pattern_is_needed():
    """The list of patterns has no entry without a package."""
    loose = {row[3] for row in ROWS if not distribution(row[1]).metadata.get("License-Expression")}
    assert loose == set(WORDS)
