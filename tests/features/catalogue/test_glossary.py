"""The glossary has no number of its own: all come from the constants of the kernel, and it covers what features say."""

import ast
import re
from pathlib import Path

from callsieve.features.catalogue import FEATURES, glossary
from callsieve.features.catalogue.glossary import GLOSSARY


def test_all_numbers_come_from_the_code():
    tree = ast.parse(Path(glossary.__file__).read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert not [text for text in texts if re.search("[0-9]", text)]


def test_every_category_has_its_codes():
    for feature in FEATURES:
        if feature.levels:
            codes = dict(pair.split(" = ") for pair in GLOSSARY[f"codes of {feature.name}"].split(", "))
            assert codes == {str(code): word for code, word in enumerate(feature.levels)}


def test_the_page_has_every_term():
    assert all(f"* **{term}**: {meaning}" in glossary.__doc__ for term, meaning in GLOSSARY.items())
    for words in (
        "1h (hour), 24h (24 hours), 7d (7 days)",
        "before 8 or from 21",
        "at most 10 numbers away",
        "4 s",
        "2047 s",
    ):
        assert words in glossary.__doc__
