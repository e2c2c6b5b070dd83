"""Token lists: listed numbers match until the expiry, and other numbers at the stated false positive rate."""

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


def write(path, numbers, **changes):
    options = {"epoch": 3, "valid_until": UNTIL} | changes
    return write_token_list(path, numbers, SHARED, small.KEY, **options)


def open_list(path, key=SHARED, **options):
    return TokenList.open(path, key, small.TRUSTED, **options)


@pytest.fixture(scope="module")
def list_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("list") / "nuisance.tokens"
    write(path, mobiles(2000))
    return path


def test_listed_numbers_match_in_any_notation(list_path):
    token_list = open_list(list_path)
    assert all(token_list.lists(number) for number in mobiles(2000))
    assert token_list.lists("+86 138 0000 1999")
    assert token_list.lists("0086-138-0000-1999")
    assert not any(token_list.lists(number) for number in ("", "anonymous", "+14155550142", "138", "x" * 10_000))


@pytest.mark.system
@pytest.mark.parametrize(("rate", "width"), [(0.5, 2), (0.01, 2), (1e-3, 3), (1e-6, 4)])
def test_unlisted_numbers_match_at_the_stated_rate(tmp_path, rate, width):
    count, others = 600, mobiles(60_000, first=1_000_000)
    facts = write(tmp_path / "list", mobiles(count), rate=rate)
    assert facts["width"] == width
    assert count - 10 < facts["tokens"] <= count  # two tokens may be truncated to the same bytes
    assert facts["false_positive_rate"] == facts["tokens"] / 256**width <= rate
    token_list = open_list(tmp_path / "list")
    matches, mean = sum(map(token_list.lists, others)), len(others) * token_list.false_positive_rate
    assert abs(matches - mean) <= 5 * math.sqrt(mean) + 1


def test_a_token_is_a_truncated_hmac_and_the_file_has_no_number(tmp_path):
    facts = write(tmp_path / "list", ["+8613812345679"], rate=1e-12)
    data = (tmp_path / "list").read_bytes()
    whole = hmac.new(SHARED.secret, b"number\0+8613812345679", sha256).digest()
    assert data.endswith(b"\n" + whole[: facts["width"]])
    assert b"13812345679" not in data
    assert facts["bytes"] == len(data)


@pytest.mark.source("L20", by="serving/lists/token_list.py")
def test_a_million_numbers_fit_in_five_megabytes(tmp_path):
    """The test writes a tenth of them and checks the bytes for each number."""
    facts = write(tmp_path / "list", mobiles(100_000), rate=1e-7)
    assert facts["tokens"] == 100_000
    assert facts["width"] == 5
    assert facts["bytes"] < 500_000 + 1_000


def test_an_expired_list_and_an_empty_list_list_nothing(list_path, tmp_path):
    token_list, until = open_list(list_path), datetime.fromisoformat(UNTIL).timestamp()
    (number,) = mobiles(1)
    assert token_list.lists(number, until - 1)
    assert not token_list.lists(number, until)
    assert not token_list.lists(number, time.time() + 30 * 86_400)
    write(tmp_path / "list", [])
    empty = open_list(tmp_path / "list")
    assert (empty.header.tokens, empty.false_positive_rate) == (0, 0.0)
    assert not empty.lists("13812345679")


def test_omitted_numbers_are_counted(tmp_path):
    numbers = ["13812345679", "+86 138 1234 5679", "110", "12345", "", "anonymous", "number"]
    facts = write(tmp_path / "list", numbers)
    assert {name: facts[name] for name in ("tokens", "repeated", "protected", "unreadable")} == {
        "tokens": 1, "repeated": 1, "protected": 2, "unreadable": 3,
    }  # fmt: skip
    assert not open_list(tmp_path / "list").lists("110")


def test_withdrawn_lists_and_other_keys_are_refused(list_path, tmp_path):
    assert open_list(list_path, minimum_epoch=3).header.epoch == 3
    with pytest.raises(TokenListError, match="epoch must be at least 4, got 3"):
        open_list(list_path, minimum_epoch=4)
    with pytest.raises(TokenListError, match="not trusted"):
        TokenList.open(list_path, SHARED, [small.OTHER_KEY.public_key()])
    with pytest.raises(TokenListError, match="sharing key share1, got share2"):
        open_list(list_path, Key("share2", SHARED.secret))
    with pytest.raises(TokenListError, match="No such file"):
        open_list(tmp_path / "none")
    # A key with the same name and another secret opens the list, but matches other numbers.
    assert not open_list(list_path, OTHER).lists("13800000000")


@settings(max_examples=150)
@given(data=st.data())
def test_every_changed_byte_is_refused(list_path, data):
    whole = bytearray(list_path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    _refused(list_path, bytes(whole))


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[:0], lambda d: d[:100]])
def test_every_other_length_is_refused(list_path, change):
    _refused(list_path, change(list_path.read_bytes()))


def _refused(list_path, data):
    changed = list_path.with_name("changed")
    changed.write_bytes(data)
    with pytest.raises(TokenListError) as caught:
        open_list(changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("width", 0), ("width", 17), ("tokens", -1), ("tokens", 1 << 40), ("epoch", -1), ("epoch", 1.5)),
        *(("format", 2), ("valid_until", "soon"), ("valid_until", "2026-13-01T00:00:00Z"), ("key", "")),
        ("made", "2026-4-01T00:00:00Z"),
        ("kind", "callsieve bundle"),
    ],
)
def test_a_signed_header_is_checked_strictly(list_path, name, value):
    """A valid signature does not make an invalid header acceptable."""
    head, _, rest = list_path.read_bytes().partition(b"\n")
    header = json.dumps(json.loads(head) | {name: value}).encode() + b"\n"
    _refused(list_path, header + sign(header, small.KEY) + rest.partition(b"\n")[2])


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 1.0}, {"valid_until": "tomorrow"}, {"epoch": -1}])
def test_invalid_arguments_write_nothing(tmp_path, wrong):
    with pytest.raises(ValueError):
        write(tmp_path / "list", mobiles(3), **wrong)
    assert not list(tmp_path.iterdir())
    (tmp_path / "list").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write(tmp_path / "list", mobiles(3))
    assert (tmp_path / "list").read_bytes() == b"mine"
