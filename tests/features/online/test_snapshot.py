"""A history that was saved and loaded behaves like the original."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features import History
from callsieve.features.online import snapshot
from tests.support.calls.strategies import EXAMPLE_CALL, as_keyed_call, histories

SMALL = {"calls": 12, "numbers": 4}  # small enough to drop calls and evict numbers
LARGE = {"calls": 100, "numbers": 10}


def counters(history):
    return history.calls, history.numbers, history.dropped, history.evicted, history.refused


@pytest.mark.system
@pytest.mark.parametrize("compiled", [False, True])
@given(
    calls=histories(max_calls=30),
    room=st.sampled_from([SMALL, LARGE]),
    at=st.integers(0, 40),
    features=st.sampled_from([None, ("out_calls_count_7d",), ("trunk_calls_count_24h", "number_age")]),
)
@settings(max_examples=50)
def test_a_loaded_history_continues_like_the_original(tmp_path_factory, calls, room, at, features, compiled):
    path = tmp_path_factory.mktemp("snapshot") / "history"
    options = {} if features is None else {"features": features}
    history = History(**room, **options, compiled=compiled)
    for call in calls[:at]:
        history.vector(as_keyed_call(call))
        history.observe(as_keyed_call(call))
    history.save(str(path))
    loaded = History.load(str(path), compiled=compiled)
    for call in calls[at:]:
        np.testing.assert_array_equal(loaded.vector(as_keyed_call(call)), history.vector(as_keyed_call(call)))
        loaded.observe(as_keyed_call(call))
        history.observe(as_keyed_call(call))
        assert counters(loaded) == counters(history)
    history.save(path)
    loaded.save(again := path.with_name("again"))
    assert again.read_bytes() == path.read_bytes()


@given(calls=histories(max_calls=20))
@settings(max_examples=20)
def test_load_with_a_larger_capacity_and_compiled(tmp_path_factory, calls):
    path = tmp_path_factory.mktemp("snapshot") / "history"
    history = History(**LARGE)
    for call in calls[:-1]:
        history.observe(as_keyed_call(call))
    history.save(path)
    loaded = History.load(path, calls=1000, numbers=99, compiled=True)
    np.testing.assert_array_equal(loaded.vector(as_keyed_call(calls[-1])), history.vector(as_keyed_call(calls[-1])))


@pytest.fixture
def saved(tmp_path):
    history = History(**SMALL)
    for callee in "bcd":
        history.observe(as_keyed_call(EXAMPLE_CALL | {"callee": callee}))
    history.save(tmp_path / "history")
    return tmp_path / "history"


def test_a_modified_or_truncated_file_is_refused(saved):
    whole = saved.read_bytes()
    for place in (0, 5, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            History.load(saved)
        saved.write_bytes(whole[:place])
        with pytest.raises(ValueError, match="checksum"):
            History.load(saved)


def test_a_snapshot_of_another_format_or_capacity_or_that_others_may_write_is_refused(saved, monkeypatch):
    with pytest.raises(ValueError, match="capacity"):
        History.load(saved, numbers=2)
    monkeypatch.setattr(snapshot, "FORMAT", "callsieve history 2")
    with pytest.raises(ValueError, match="expected a snapshot in format"):
        History.load(saved)
    saved.chmod(0o620)
    with pytest.raises(ValueError, match="no other user may write"):
        History.load(saved)


def test_a_failed_write_keeps_the_previous_snapshot(saved):
    whole = saved.read_bytes()
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (100, 100));"
    code = f"{limit} import pathlib, callsieve.features as f; f.History().save(pathlib.Path({str(saved)!r}))"
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode != 0
    assert saved.read_bytes() == whole
    assert list(saved.parent.iterdir()) == [saved]  # the partial file is removed
    (saved.parent / "history.part").write_bytes(b"left by a killed process")
    History(**SMALL).save(saved)
    assert saved.stat().st_mode & 0o777 == 0o600
    assert list(saved.parent.iterdir()) == [saved]


def rewrite(path, change):
    """Rewrites a complete snapshot with other facts or tokens, and a right checksum."""
    facts, tokens, rest = path.read_bytes()[: -snapshot.DIGEST].split(b"\n", 2)
    text = b"\n".join((*change(facts, tokens), rest))
    path.write_bytes(text + hashlib.sha256(text).digest())


def facts_without(name):
    keep = lambda facts: {key: value for key, value in json.loads(facts).items() if key != name}
    return lambda facts, tokens: (json.dumps(keep(facts)).encode(), tokens)


def facts_with(**more):
    return lambda facts, tokens: (json.dumps(json.loads(facts) | more).encode(), tokens)


FACTS = ("layout", "features", "calls", "numbers", "moment", "counters", "sizes")


@pytest.mark.parametrize(
    "change",
    [
        *(pytest.param(facts_without(name), id=f"no {name}") for name in FACTS),
        *(pytest.param(facts_with(**{name: [1]}), id=f"other {name}") for name in FACTS),
        *(
            pytest.param(facts_with(**{name: None}), id=f"null {name}")
            for name in (*FACTS, "format")
            if name != "features"
        ),
        pytest.param(facts_with(sizes={"shared": {"nothing": 3}}), id="no such array"),
        pytest.param(facts_with(calls=1 << 70), id="too much room"),
        pytest.param(lambda _, tokens: (b"[" * 100_000, tokens), id="deep"),
        pytest.param(lambda _, tokens: (b"13800138000", tokens), id="no object"),
        pytest.param(lambda _, tokens: (b"{", tokens), id="no JSON"),
        pytest.param(lambda facts, _: (facts, b"[]"), id="no tokens"),
        pytest.param(lambda facts, _: (facts, b"{}"), id="tokens of no kind"),
        pytest.param(lambda facts, _: (facts, b'{"number": 3}'), id="tokens that are none"),
    ],
)
def test_a_complete_file_with_invalid_facts_is_refused_in_one_line(saved, change):
    rewrite(saved, change)
    with pytest.raises(ValueError) as caught:
        History.load(saved)
    message = str(caught.value)
    assert message.startswith(str(saved)) and "\n" not in message and "1380013" not in message


def test_an_unchanged_rewrite_and_one_with_the_former_reports_load(saved):
    rewrite(saved, lambda facts, tokens: (facts, tokens))
    History.load(saved)
    rewrite(saved, facts_with(reports=[]))
    assert History.load(saved).calls == 3
