"""A list holds what was put on it, for as long as it was meant to; others are found as often as it says."""

import hmac
import json
import math
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.signing import sign
from callsieve.serving.lists.token_list import TokenList, TokenListError, write_token_list
from tests.support import small_bundle as small

SHARED = Key("share1", bytes(range(40)))
OTHER = Key("share1", bytes(range(1, 41)))
UNTIL = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ")


def mobiles(count, first=0):
    return [f"138{first + n:08d}" for n in range(count)]


def made(path, numbers, **changed):
    given = {"epoch": 3, "valid_until": UNTIL} | changed
    return write_token_list(path, numbers, SHARED, small.KEY, **given)


def opened(path, key=SHARED, **more):
    return TokenList.open(path, key, small.TRUSTED, **more)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    path = tmp_path_factory.mktemp("list") / "nuisance.tokens"
    made(path, mobiles(2000))
    return path


def test_it_lists_what_was_put_on_it_in_any_writing(listed):
    held = opened(listed)
    assert all(held.lists(number) for number in mobiles(2000))
    assert held.lists("+86 138 0000 1999")
    assert held.lists("0086-138-0000-1999")
    assert not any(held.lists(number) for number in ("", "anonymous", "+14155550142", "138", "x" * 10_000))


@pytest.mark.parametrize(("rate", "width"), [(0.5, 2), (0.01, 2), (1e-3, 3), (1e-6, 4)])
def test_others_are_found_as_often_as_it_says(tmp_path, rate, width):
    count, others = 600, mobiles(60_000, first=1_000_000)
    told = made(tmp_path / "list", mobiles(count), rate=rate)
    assert told["width"] == width
    assert count - 10 < told["tokens"] <= count  # two may be cut to one
    assert told["false_positive_rate"] == told["tokens"] / 256**width <= rate
    held = opened(tmp_path / "list")
    found, mean = sum(map(held.lists, others)), len(others) * held.false_positive_rate
    assert abs(found - mean) <= 5 * math.sqrt(mean) + 1


def test_a_token_is_a_cut_hmac_and_no_number_is_in_the_file(tmp_path):
    told = made(tmp_path / "list", ["+8613812345679"], rate=1e-12)
    data = (tmp_path / "list").read_bytes()
    whole = hmac.new(SHARED.secret, b"number\0+8613812345679", sha256).digest()
    assert data.endswith(b"\n" + whole[: told["width"]])
    assert b"13812345679" not in data
    assert told["bytes"] == len(data)


@pytest.mark.source("L20", by="serving/lists/token_list.py")
def test_a_million_numbers_fit_in_five_megabytes(tmp_path):
    """Made of a tenth of them: the size of each is what counts."""
    told = made(tmp_path / "list", mobiles(100_000), rate=1e-7)
    assert told["tokens"] == 100_000
    assert told["width"] == 5
    assert told["bytes"] < 500_000 + 1_000


def test_it_lists_nothing_after_its_time(listed):
    held, until = opened(listed), datetime.fromisoformat(UNTIL).timestamp()
    (number,) = mobiles(1)
    assert held.lists(number, until - 1)
    assert not held.lists(number, until)
    assert not held.lists(number, time.time() + 30 * 86_400)


def test_what_is_left_out_is_counted(tmp_path):
    numbers = ["13812345679", "+86 138 1234 5679", "110", "12345", "", "anonymous", "number"]
    told = made(tmp_path / "list", numbers)
    assert {name: told[name] for name in ("tokens", "repeated", "protected", "unreadable")} == {
        "tokens": 1, "repeated": 1, "protected": 2, "unreadable": 3,
    }  # fmt: skip
    assert not opened(tmp_path / "list").lists("110")


def test_an_empty_list_lists_nothing(tmp_path):
    made(tmp_path / "list", [])
    held = opened(tmp_path / "list")
    assert (held.tokens, held.false_positive_rate) == (0, 0.0)
    assert not held.lists("13812345679")


def test_withdrawn_lists_and_other_keys_are_refused(listed, tmp_path):
    assert opened(listed, minimum_epoch=3).epoch == 3
    with pytest.raises(TokenListError, match="epoch must be at least 4, got 3"):
        opened(listed, minimum_epoch=4)
    with pytest.raises(TokenListError, match="not trusted"):
        TokenList.open(listed, SHARED, [small.OTHER_KEY.public_key()])
    with pytest.raises(TokenListError, match="sharing key share1, got share2"):
        opened(listed, Key("share2", SHARED.secret))
    with pytest.raises(TokenListError, match="No such file"):
        opened(tmp_path / "none")
    # A key of the same name and another secret lists others: nothing in the file gives the secret away.
    assert not opened(listed, OTHER).lists("13800000000")


@settings(max_examples=150)
@given(data=st.data())
def test_no_changed_byte_gets_through(listed, data):
    whole = bytearray(listed.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    _refused(listed, bytes(whole))


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[:0], lambda d: d[:100]])
def test_no_other_length_gets_through(listed, change):
    _refused(listed, change(listed.read_bytes()))


def _refused(listed, data):
    changed = listed.with_name("changed")
    changed.write_bytes(data)
    with pytest.raises(TokenListError) as told:
        opened(changed)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("width", 0), ("width", 17), ("tokens", -1), ("tokens", 1 << 40), ("epoch", -1), ("epoch", 1.5)),
        *(("format", 2), ("valid_until", "soon"), ("valid_until", "2026-13-01T00:00:00Z"), ("key", "")),
        ("made", "2026-4-01T00:00:00Z"),
        ("kind", "callsieve bundle"),
    ],
)
def test_a_signed_head_is_read_strictly(listed, name, value):
    """Whoever holds the key can still not make a reader stumble."""
    head, _, rest = listed.read_bytes().partition(b"\n")
    said = json.dumps(json.loads(head) | {name: value}).encode() + b"\n"
    _refused(listed, said + sign(said, small.KEY) + rest.partition(b"\n")[2])


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 1.0}, {"valid_until": "tomorrow"}, {"epoch": -1}])
def test_nothing_is_written_for_wrong_wishes(tmp_path, wrong):
    with pytest.raises(ValueError):
        made(tmp_path / "list", mobiles(3), **wrong)
    assert not list(tmp_path.iterdir())
    (tmp_path / "list").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        made(tmp_path / "list", mobiles(3))
    assert (tmp_path / "list").read_bytes() == b"mine"
