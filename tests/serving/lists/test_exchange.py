"""Lists of several issuers: what is listed at each moment, by an oracle; damaged and other lists are refused."""

import dataclasses
import hmac
import itertools
import json
import math
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsieve.features.files.dates import DAY, HOUR
from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.signing import sign
from callsieve.serving.lists.exchange import SUFFIX, WHOLE, Entry, chain_of, publish, read_list, table_of
from callsieve.serving.scorer.listed import Listed, shared_token
from tests.support import lists
from tests.support import small_bundle as small
from tests.support.errors import refused
from tests.support.lists import SHARED, token_of

BEGIN = 20_000 * DAY
ISSUER = dataclasses.replace(lists.ISSUER, error_bound=1e-5)


def mobiles(count, first=0):
    return [f"138{first + n:08d}" for n in range(count)]


def entries(numbers, at=BEGIN):
    return lists.entries(numbers, at)


def read(path, key=SHARED, trusted=small.TRUSTED):
    return read_list(path.read_bytes(), key, trusted)


def table(*folders):
    return table_of(chain_of([read(file) for file in folder.glob("*" + SUFFIX)]) for folder in folders)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    publish(folder, ISSUER, entries(mobiles(2000)), now=BEGIN, valid_days=2)
    return folder


def test_listed_numbers_match_in_any_notation_and_others_do_not(folder):
    listed = Listed(SHARED)
    listed.table = table(folder)
    at = BEGIN + 1
    assert all(listed.at(listed.token(number), at) for number in mobiles(2000))
    for text in ("+86 138 0000 1999", "0086-138-0000-1999"):
        assert listed.at(listed.token(text), at).issuers() == ("carrier-a",)
    others = ("", "anonymous", "+14155550142", "138", "x" * 1000, "e1." + "a" * 32, None, *mobiles(5000, 10_000))
    assert not any(listed.at(listed.token(text), at) for text in others)
    assert {listed.token(text) for text in ("", None, "anonymous", "e1." + "a" * 32)} == {0}


@pytest.mark.source("L20", by="serving/lists/exchange.py")
def test_a_million_numbers_fit_in_five_megabytes(folder):
    """The test has 2,000 of them, under one header."""
    data = (folder / WHOLE).read_bytes()
    head, _, rest = data.partition(b"\n")
    assert len(rest.partition(b"\n")[2]) == 5 * 2000 and len(data) < 5 * 2000 + 1000
    whole = hmac.new(SHARED.secret, b"sharing\0number\0+8613800000007", sha256).digest()
    assert whole[:5] in rest and b"13800000007" not in data
    assert {"issuer", "groups", "valid_until"} < json.loads(head).keys()


steps = st.lists(
    st.tuples(
        st.sampled_from([HOUR, 5 * HOUR, 50 * HOUR]),  # since the list before; the longest outlives a list
        st.dictionaries(
            st.sampled_from("abc"), st.sampled_from([0, HOUR, DAY, 7 * DAY - HOUR, 7 * DAY])
        ),  # flagged ago
        st.sets(st.sampled_from("abc"), max_size=1),  # cleared
    ),
    min_size=1,
    max_size=6,
)


def listed_at(history, number, at):
    """When the number was last flagged, in whole hours, if it is listed at a moment; None if it is not."""
    last = None
    for moment, flagged, cleared in history:
        if number in cleared and moment <= at:
            last = None
        elif number in flagged and flagged[number] + 7 * DAY > moment and moment < at:
            last = max(last or 0, flagged[number])
    made = max((moment for moment, *_ in history if moment <= at), default=0)
    return last if last is not None and at < made + 2 * DAY and at < last + 7 * DAY else None


@given(steps)
def test_a_number_is_listed_after_publication_until_expiry_or_withdrawal(tmp_path_factory, drawn):
    folder, at, history = tmp_path_factory.mktemp("drawn"), BEGIN, []
    for wait, ago, cleared in drawn:
        at += wait
        flagged = {number: at - before for number, before in ago.items()}
        history.append((at, flagged, cleared))
        new = [
            Entry(token_of(mobiles(3)["abc".index(number)]), "illegal", last, last) for number, last in flagged.items()
        ]
        removed = {token_of(mobiles(3)["abc".index(number)]) for number in cleared}
        publish(folder, ISSUER, new, removed, now=at, valid_days=2)
        (folder / f"whole{len(history)}").write_bytes((folder / WHOLE).read_bytes())
    moments = sorted(
        {moment + more for moment, *_ in history for more in (-1, 0, 1, HOUR, 2 * DAY - 1, 2 * DAY, 7 * DAY)}
    )
    tables = {BEGIN: table(folder)}
    deltas = [read(file) for file in sorted(folder.glob("0*" + SUFFIX))]
    for place, (moment, *_) in enumerate(history, 1):  # from the whole list of that moment on
        chain = chain_of([read(folder / f"whole{place}"), *deltas[place:]])
        tables[moment] = table_of([chain])
    for number, later in itertools.product("abc", moments):
        expected = listed_at(history, number, later)
        for since, entries_since in tables.items():
            if since < later:
                groups = entries_since.groups_of(shared_token(SHARED, mobiles(3)["abc".index(number)]), later)
                assert [group.last for group in groups][-1:] == ([] if expected is None else [expected])


def test_a_number_that_another_list_has_is_not_renewed_and_a_withdrawal_wins(tmp_path):
    (number,) = mobiles(1)
    publish(tmp_path, ISSUER, entries([number]), now=BEGIN, valid_days=9)
    for hour in range(1, 5):  # the same calls again
        publish(tmp_path, ISSUER, entries([number]), now=BEGIN + hour * HOUR, valid_days=9)
    listed = table(tmp_path)
    assert len(listed) == 1 and not listed.groups_of(shared_token(SHARED, number), BEGIN + 7 * DAY)
    again = [Entry(token_of(number), "illegal", BEGIN, BEGIN + 5 * HOUR)]
    head, _ = publish(tmp_path, ISSUER, again, [token_of(number)], now=BEGIN + 5 * HOUR, valid_days=9)
    assert (head.groups, head.withdrawn) == ((), 1)
    assert not table(tmp_path).groups_of(shared_token(SHARED, number), BEGIN + 5 * HOUR)
    assert read(tmp_path / WHOLE).header.groups == ()


def test_two_issuers_list_a_number_and_one_withdraws_it(tmp_path):
    other = dataclasses.replace(ISSUER, name="carrier-b", error_bound=None)
    (number,) = mobiles(1)
    for issuer in (ISSUER, other):
        publish(tmp_path / issuer.name, issuer, entries([number]), now=BEGIN, valid_days=2)
    publish(tmp_path / other.name, other, [], [token_of(number)], now=BEGIN + HOUR, valid_days=2)
    listed = table(tmp_path / "carrier-a", tmp_path / "carrier-b")
    token = shared_token(SHARED, number)
    assert {group.issuer for group in listed.groups_of(token, BEGIN + 1)} == {"carrier-a", "carrier-b"}
    assert [group.issuer for group in listed.groups_of(token, BEGIN + HOUR)] == ["carrier-a"]


def test_a_list_that_was_left_out_is_noticed(tmp_path):
    for hour in range(3):
        publish(tmp_path, ISSUER, entries(mobiles(1), BEGIN + hour * HOUR), now=BEGIN + hour * HOUR, valid_days=2)
    first, second, third, whole = (
        read(tmp_path / f"{name}{SUFFIX}") for name in ("000001", "000002", "000003", "whole")
    )
    assert chain_of([third, first, second]) == [first, second, third]
    assert chain_of([whole, third]) == [whole]
    assert chain_of([whole, first, second]) == [whole]
    for broken in ([first, third], [second, third]):
        with refused("expected whole.list and each list after it"):
            chain_of(broken)


def test_a_publisher_that_was_killed_loses_nothing_and_lists_nothing_twice(tmp_path):
    """The second list is written, and the whole list is still that of the first."""
    first, second, third = mobiles(3)
    publish(tmp_path, ISSUER, entries([first]), now=BEGIN, valid_days=9)
    before = (tmp_path / WHOLE).read_bytes()
    publish(tmp_path, ISSUER, entries([second]), now=BEGIN + HOUR, valid_days=9)
    (tmp_path / WHOLE).write_bytes(before)
    new, everything = publish(tmp_path, ISSUER, entries([second, third]), now=BEGIN + 2 * HOUR, valid_days=9)
    assert (new.epoch, [group.tokens for group in new.groups]) == (3, [1])
    assert sum(group.tokens for group in everything.groups) == 3
    listed = table(tmp_path)
    assert len(listed) == 3
    assert all(listed.groups_of(shared_token(SHARED, number), BEGIN + 3 * HOUR) for number in mobiles(3))


def test_an_issuer_keeps_its_lists_for_a_month(tmp_path):
    for day in (0, 20, 40):
        publish(tmp_path, ISSUER, entries(mobiles(1), BEGIN + day * DAY), now=BEGIN + day * DAY, valid_days=9)
    publish(tmp_path, ISSUER, [], now=BEGIN + 41 * DAY, valid_days=9)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["000002.list", "000003.list", "000004.list", WHOLE]
    assert chain_of([read(file) for file in tmp_path.iterdir()])[-1].header.epoch == 4
    publish(tmp_path, ISSUER, [], now=BEGIN + 42 * DAY, valid_days=9)
    assert read(tmp_path / WHOLE).header.epoch == 5


@given(st.data())
def test_every_changed_byte_is_refused(folder, data):
    whole = bytearray((folder / WHOLE).read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    refused_in_one_line(bytes(whole))


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[:0], lambda d: d[:100]])
def test_every_other_length_is_refused(folder, change):
    refused_in_one_line(change((folder / WHOLE).read_bytes()))


def refused_in_one_line(data):
    with pytest.raises(ValueError) as caught:
        read_list(data, SHARED, small.TRUSTED)
    assert "\n" not in str(caught.value)


def test_lists_of_other_keys_are_refused(folder):
    with pytest.raises(ValueError, match="not trusted"):
        read(folder / WHOLE, trusted=[small.OTHER_KEY.public_key()])
    with refused("sharing key share1, got share2"):
        read(folder / WHOLE, Key("share2", SHARED.secret, purpose="sharing"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        *(({"format": 1}, "format"), ({"epoch": 0}, "epoch"), ({"since": 1}, "since"), ({"issuer": ""}, "issuer")),
        *(({"made": BEGIN - 1}, "after the list was made"), ({"error_bound": 2.0}, "error_bound")),
        *(({"withdrawn": 1}, "not those that were signed"), ({"more": 1}, "more")),
        *(({"groups": [{"expires": BEGIN + 91 * DAY}]}, "90 days"), ({"groups": [{"first": BEGIN + 1}]}, "order")),
        ({"groups": [{"behaviour": "rude"}]}, "behaviour"),
    ],
)
def test_a_signed_header_is_checked_strictly(folder, change, why):
    """A valid signature does not make an invalid header acceptable."""
    head, _, rest = (folder / WHOLE).read_bytes().partition(b"\n")
    values = json.loads(head)
    change = {name: [values["groups"][0] | value[0]] if name == "groups" else value for name, value in change.items()}
    header = json.dumps(values | change).encode() + b"\n"
    with refused(why):
        read_list(header + sign(header, small.KEY) + rest.partition(b"\n")[2], SHARED, small.TRUSTED)


def test_unlisted_numbers_match_as_rarely_as_five_bytes_allow():
    tokens = [shared_token(SHARED, number) for number in mobiles(20_000)]
    assert len(set(tokens)) == 20_000
    counts = [0] * 256
    for token in tokens:
        counts[token >> 32] += 1
    assert max(counts) < 20_000 / 256 + 6 * math.sqrt(20_000 / 256)
