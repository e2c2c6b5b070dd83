"""Typed reading: values are as declared; a mistake is one line with file, key, expectation and actual value."""

import json
import math
from datetime import date
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, field

from callsieve.features.files.decode import Record, as_kind, json_as, toml_as
from callsieve.features.files.strict_json import decode, encode
from callsieve.features.files.toml_file import parse_toml
from callsieve.features.reading.layouts import read_layout
from callsieve.serving.cases.case_rules import read_case_rules
from callsieve.serving.custody.retention import read_retention
from callsieve.serving.rules.policy import read_policy
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.model.settings import read_parameters
from callsieve.training.oversight.governance.incident import read_incident
from callsieve.training.oversight.log.gates import read_gates
from callsieve.training.world.basis.scenario import load_scenario


class Inner(Record, frozen=True):
    links: tuple[Literal["block", "trunk"], ...] = ()
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    pair: tuple[float, Literal[1, 2]] | None = None


class Outer(Record, frozen=True):
    version: str
    count: Annotated[int, Meta(ge=1, le=10)] = 1
    appeal: str = ""
    table: dict[str, Inner] = field(default_factory=dict)
    deep: dict[str, dict[str, Inner]] = field(default_factory=dict)
    words: Annotated[tuple[str, ...], Meta(min_length=1)] = ("word",)
    by_name: dict[str, str] = field(default_factory=dict)
    choices: dict[Literal["a", "b"], int] = field(default_factory=dict)
    day: date | None = None
    renamed: int = field(default=1, name="re-named")

    def __post_init__(self):
        super().__post_init__()
        if self.count == 7:
            raise ValueError("count must not be 7 - for once")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"version": 1}, "version: expected `str`, got `int`"),
        ({"version": ""}, "version: expected a printable text of 1 to 4096 characters, got ''"),
        ({"version": "a\n"}, "version: expected a printable text of 1 to 4096 characters, got 'a\\\\n'"),
        ({"version": "a" * 4097}, "version: expected a printable text of 1 to 4096 characters, got 'aaa"),
        ({"other": 1}, "object contains unknown field `other`"),
        ({"a\n`b": 1}, r"'object contains unknown field `a\\n`b`'"),
        ({"choices": {"a": 1, "c": 1}}, "choices: invalid enum value 'c'"),
        ({"choices": {"c" * 400: 1}}, r"choices: \"invalid enum value 'ccc.*\.\.\."),
        ({"re-named": "x"}, "re-named: expected `int`, got `str`"),
        ({"count": 0}, "count: expected `int` >= 1"),
        ({"count": 10**30}, "count: expected `int` <= 10"),
        ({"count": 7}, "count must not be 7 - for once"),
        ({"day": "2026-11-31"}, "day: invalid RFC3339 encoded date"),
        ({"table": {"fine": {}, "x": {"share": math.nan}}}, r"table\[\.\.\.\]\.share: expected `float` "),
        ({"table": {"x": {"pair": [1, 3]}}}, r"table\[\.\.\.\]\.pair\[1\]: invalid enum value 3"),
        ({"deep": {"z": {"w": {"to": 1}}}}, r"deep\[\.\.\.\]\[\.\.\.\]: object contains unknown field `to`"),
        ({"words": ["a", ""]}, "words: expected a printable text"),
        ({"by_name": {"\x07": "a"}}, "by_name: expected a printable text"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_expectation(more, message):
    value = {"version": "1"} | more
    with pytest.raises(ValueError, match=f"^mine.toml: {message}") as caught:
        as_kind(value, Outer, "mine.toml")
    assert str(caught.value).isprintable()


def test_a_missing_key_and_a_wrong_whole_are_named():
    for value, message in (({}, "object missing required field `version`"), ([], "expected `object`, got `array`")):
        with pytest.raises(ValueError, match=f"^mine.toml: {message}$"):
            as_kind(value, Outer, "mine.toml")


def test_files_and_bytes_are_read_as_their_type(tmp_path):
    (tmp_path / "mine.toml").write_text('version = "1"\n[table.x]\nshare = 1\nlinks = ["trunk"]\n')
    expected = Outer("1", table={"x": Inner(("trunk",), 1.0)})
    assert toml_as(Outer, tmp_path / "mine.toml") == expected
    assert json_as(Outer, msgspec.json.encode(expected), "line 1") == expected
    for data, fault in ((b'{"version": "1", "version": "1"}', "must not repeat a key"), (b'{"count": NaN}', "finite")):
        with pytest.raises(ValueError, match=f"^line 1: .*{fault}"):
            json_as(Outer, data, "line 1")


texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda items: st.lists(items) | st.dictionaries(texts, items),
    max_leaves=10,
)


@given(st.dictionaries(texts, json_values))
def test_json_has_the_canonical_form_of_the_standard_library(value):
    expected = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
    assert encode(value) == expected.encode() + b"\n"
    assert decode(encode(value)) == value


def test_a_value_without_a_json_form_is_refused():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    for odd in (math.nan, math.inf, object(), nested, "\ud800"):
        with pytest.raises(ValueError):
            encode({"key": odd})


# TOML: every reader rejects an invalid file in one line


READERS = (
    read_layout, read_case_rules, read_policy, read_retention, read_gates, read_incident, read_label_policy,
    read_parameters, load_scenario,
)  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"x = " + b"[" * 100_000, id="lists"),
        pytest.param(b"x = " + b"{x = " * 100_000, id="tables"),
        pytest.param(b"x" + b".x" * 500 + b" = 1", id="names"),
        pytest.param(b"x = " + b"9" * 10_000, id="huge"),
        pytest.param(b"x = 1\nx = 1", id="twice"),
        pytest.param(b"\xff\xfe", id="bytes"),
        pytest.param(b"x =", id="cut"),
    ],
)
@pytest.mark.parametrize("read", READERS)
def test_invalid_toml_gives_a_one_line_message(tmp_path, read, data):
    path = tmp_path / "mine.toml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="expected a TOML file") as caught:
        read(path)
    message = str(caught.value)
    assert "mine.toml: expected a TOML file, " in message
    assert message.count("\n") == 0 and len(message) < 300


def test_both_line_ends_are_accepted():
    assert parse_toml(b"[a]\r\nb = 1\r\n", "here") == parse_toml(b"[a]\nb = 1\n", "here") == {"a": {"b": 1}}
