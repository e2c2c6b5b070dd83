"""Lists of numbers that issuers exchange: signed files of short keyed tokens, in which withdrawals win.

    publish(Path("lists"), issuer, [Entry(token, "illegal", first, last)], withdrawn=[token], valid_days=2)
    chain = chain_of([read_list(data, key, [public]) for data in files])
    table = table_of([chain])

A file has one line of JSON, one line with its Ed25519 signature (`signing.sign`), and then tokens: those of each group
in ascending order, and those that are withdrawn. A token is the first five bytes of HMAC-SHA-256(sharing key, "number"
NUL canonical number), so a million entries take five megabytes, and an unlisted number matches one of them with
probability 1e-6. All entries of a group have the same class, hours and expiry.

An issuer numbers its lists. `000007.list` has what is new since the list before, and `whole.list` has everything that
is still in force. A reader takes an unbroken chain of them (`chain_of`), so a list that was left out shows. The files
`prefix/00.list` to `prefix/ff.list` have the entries whose token begins with this byte, so a reader of one of them
reveals a byte of a token: of the numbers in use in China, millions have the same.

The holder of the sharing key can try all phone numbers, and a key in every handset is public. So list only numbers that
may be public, and use a key for lists alone, never the key of stored tokens.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from callsieve.features.files.atomic import locked_folder, write_atomic
from callsieve.features.files.dates import DAY, HOUR
from callsieve.features.files.decode import Record, json_as
from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.signing import sign, verify_signature
from callsieve.serving.rules.rules import BEHAVIOURS
from callsieve.serving.scorer.flags import LIFE
from callsieve.serving.scorer.listed import TOKEN_BYTES, Group, ListTable

WHOLE = "whole.list"
SUFFIX = ".list"
PREFIX = "prefix"  # the folder of lists by prefix
PREFIXES = 256
MAX_BYTES = 1 << 30
MAX_LIFE = 90 * DAY  # of an entry
KEEP = 30 * DAY  # for which an issuer's folder keeps lists, for calls of the past
_MAX_LINE_BYTES = 1 << 24

MAX_MOMENT = 2**53
Moment = Annotated[int, Meta(ge=0, le=MAX_MOMENT)]  # Unix ms
Count = Annotated[int, Meta(ge=0, le=MAX_BYTES)]


class GroupHeader(Record, frozen=True):
    """Facts about some numbers of a list; the moments are those of `scorer.listed.Group`."""

    behaviour: Literal[tuple(BEHAVIOURS)]  # type: ignore[valid-type]
    first: Moment
    last: Moment
    published: Moment
    expires: Moment
    tokens: Count

    def __post_init__(self) -> None:
        """Refuses moments in another order, and an entry that never ends."""
        super().__post_init__()
        if not self.first <= self.last <= self.published <= self.expires <= self.last + MAX_LIFE:
            raise ValueError("expected first, last, published and expires in this order, and at most 90 days")


class Header(Record, frozen=True):
    """The first line of a list.

    Attributes:
        key: name of the sharing key.
        epoch: number of the list.
        since: number of the list before, whose entries it adds to; 0 for a list with all entries.
        made, valid_until: the list is used between these moments.
        model: id of the model that flagged the numbers; "" without one.
        error_bound: certified upper bound of the share of innocent calls that it flags; None without a certificate.
        prefix: first byte of all tokens, as two hexadecimal digits; "" for a list of all numbers.
        withdrawn: number of tokens that are withdrawn.
        sha256: hash of all tokens.
    """

    kind: Literal["callsieve list"]
    format: Literal[2]
    issuer: str
    key: str
    epoch: Annotated[int, Meta(ge=1, le=2**53)]
    since: Annotated[int, Meta(ge=0, le=2**53)]
    made: Moment
    valid_until: Moment
    groups: tuple[GroupHeader, ...]
    withdrawn: Count
    sha256: str
    model: str = ""
    error_bound: Annotated[float, Meta(ge=0, le=1)] | None = None
    prefix: Annotated[str, Meta(pattern="^([0-9a-f]{2})?$")] = ""

    def __post_init__(self) -> None:
        """Refuses a list that follows a later one, and entries that were published after it."""
        super().__post_init__()
        if self.since >= self.epoch:
            raise ValueError(f"since: expected a number below the epoch {self.epoch}, got {self.since}")
        if any(group.published > self.made for group in self.groups):
            raise ValueError("groups: published after the list was made")


@dataclass(frozen=True, slots=True)
class SignedList:
    """A verified list: its first line, the tokens of each group, and those that are withdrawn."""

    header: Header
    tokens: tuple[bytes, ...]
    withdrawn: bytes

    def groups(self) -> list[tuple[Group, bytes]]:
        """Returns the groups with their tokens; those of a list by prefix expire with the list."""
        head = self.header
        latest = head.valid_until if head.prefix else MAX_MOMENT
        return [
            (
                Group(
                    head.issuer,
                    of.behaviour,
                    of.first,
                    of.last,
                    of.published,
                    min(of.expires, latest),
                    head.error_bound,
                ),
                tokens,
            )
            for of, tokens in zip(head.groups, self.tokens, strict=True)
        ]


class Entry(NamedTuple):
    """A number to list: its token, the class of its calls, and when the first and the last were flagged (Unix ms)."""

    token: bytes
    behaviour: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Issuer:
    """The name and the keys of an issuer, the model that flags its numbers, and the certified bound of its error."""

    name: str
    key: Key
    signer: Ed25519PrivateKey
    model: str = ""
    error_bound: float | None = None


def read_list(data: bytes, key: Key, trusted: Iterable[Ed25519PublicKey]) -> SignedList:
    """Returns the list in the bytes of a file. Raises ValueError in one line if it must not be used."""
    line, end, rest = data.partition(b"\n")
    signature, second_end, body = rest.partition(b"\n")
    if max(len(line), len(signature)) > _MAX_LINE_BYTES or len(data) > MAX_BYTES:
        raise ValueError("longer than a list may be")
    verify_signature(line + end, signature + second_end, trusted)
    header = json_as(Header, line, "list")
    sizes = [TOKEN_BYTES * count for count in (*(group.tokens for group in header.groups), header.withdrawn)]
    if len(body) != sum(sizes) or sha256(body).hexdigest() != header.sha256:
        raise ValueError("the tokens are not those that were signed")
    if header.prefix and set(body[::TOKEN_BYTES]) - set(bytes.fromhex(header.prefix)):
        raise ValueError(f"tokens without the prefix {header.prefix}")
    if header.key != key.epoch:
        raise ValueError(f"made with the sharing key {header.key}, got {key.epoch}")
    *tokens, withdrawn = (body[begin:end] for begin, end in pairwise(accumulate(sizes, initial=0)))
    return SignedList(header, tuple(tokens), withdrawn)


def chain_of(lists: Collection[SignedList]) -> list[SignedList]:
    """Returns the longest unbroken chain of an issuer's lists up to the latest one. Raises ValueError without one."""
    latest = max((item.header.epoch for item in lists), default=0)
    following = {item.header.since: item for item in lists if item.header.since}
    for base in sorted((item for item in lists if not item.header.since), key=lambda item: item.header.epoch):
        chain = [base]
        while (item := following.get(chain[-1].header.epoch)) is not None:
            chain.append(item)
        if chain[-1].header.epoch == latest:
            return chain
    raise ValueError(f"expected {WHOLE} and each list after it" if lists else "no list")


def table_of(chains: Iterable[Sequence[SignedList]]) -> ListTable:
    """Returns the table of the chains of several issuers."""
    lists = [item for chain in chains for item in chain]
    withdrawn, validity = defaultdict(list), defaultdict(list)
    for item in lists:
        withdrawn[item.header.issuer].append((item.header.made, item.withdrawn))
        if not item.header.prefix:
            validity[item.header.issuer].append((item.header.made, item.header.valid_until))
    return ListTable((group for item in lists for group in item.groups()), withdrawn, validity)


def publish(
    folder: Path,
    issuer: Issuer,
    entries: Iterable[Entry],
    withdrawn: Collection[bytes] = (),
    *,
    complete: bool = False,
    by_prefix: bool = False,
    now: int,
    valid_days: float,
) -> tuple[Header, Header]:
    """Writes the next list of an issuer to a folder, and the list of all its entries; returns their first lines.

    A number is listed again only if a call after the last one was flagged. A withdrawn number is not listed, whatever
    its calls. Hours of the first and the last call are rounded down, so that few groups are needed.

    Args:
        withdrawn: tokens of numbers that are cleared; those that are listed are withdrawn.
        complete: whether listed numbers without an entry are withdrawn, too.
        by_prefix: whether to write the lists by prefix, too.
        now: Unix ms.
        valid_days: days until a reader stops to use a list without a later one.
    """
    with locked_folder(folder):
        new, everything, entries_now = _published(
            folder, issuer, list(entries), withdrawn, complete, now, now + round(valid_days * DAY)
        )
        if by_prefix:
            (folder / PREFIX).mkdir(exist_ok=True)
            parts: list[dict[bytes, Group]] = [{} for _ in range(PREFIXES)]
            for token, group in entries_now.items():
                parts[token[0]][token] = group
            for byte, part in enumerate(parts):
                moments, file = (new.made, new.valid_until), folder / PREFIX / f"{byte:02x}{SUFFIX}"
                _write(file, issuer, (new.epoch, 0), moments, part, (), prefix=f"{byte:02x}")
    return new, everything


def _published(
    folder: Path,
    issuer: Issuer,
    entries: Sequence[Entry],
    withdrawn: Collection[bytes],
    complete: bool,
    now: int,
    until: int,
) -> tuple[Header, Header, dict[bytes, Group]]:
    trusted = [issuer.signer.public_key()]
    files = {file: read_list(file.read_bytes(), issuer.key, trusted) for file in sorted(folder.glob("*" + SUFFIX))}
    chain = chain_of(list(files.values())) if files else []
    listed = current_entries(chain, now)
    removed = (listed.keys() - {entry.token for entry in entries} if complete else set()) | set(withdrawn)
    removed &= listed.keys()
    added: dict[bytes, Group] = {}
    for token, behaviour, flagged_first, flagged_last in entries:
        first, last = flagged_first - flagged_first % DAY, flagged_last - flagged_last % HOUR
        before = added.get(token) or listed.get(token)
        if token not in withdrawn and last + LIFE > now and (before is None or last > before.last):
            since = first if before is None else min(first, before.first)
            added[token] = Group(issuer.name, behaviour, since, last, now, last + LIFE, issuer.error_bound)
    epoch = chain[-1].header.epoch if chain else 0
    whole = {token: group for token, group in (listed | added).items() if token not in removed}
    new = _write(folder / name_of(epoch + 1), issuer, (epoch + 1, epoch), (now, until), added, removed)
    everything = _write(folder / WHOLE, issuer, (epoch + 1, 0), (now, until), whole, ())
    for file, item in files.items():
        if file.name != WHOLE and item.header.made < now - KEEP:
            file.unlink()
    return new, everything, whole


def name_of(epoch: int) -> str:
    """Returns the name of the file of the list with this number."""
    return f"{epoch:06}{SUFFIX}"


def current_entries(chain: Sequence[SignedList], now: int) -> dict[bytes, Group]:
    """Returns the latest entry of each number that a chain lists at a moment, by its token."""
    listed: dict[bytes, Group] = {}
    for item in chain:
        for token in _tokens_in(item.withdrawn):
            listed.pop(token, None)
        for group, tokens in item.groups():
            listed.update((token, group) for token in _tokens_in(tokens) if group.expires > now)
    return listed


def _write(
    path: Path,
    issuer: Issuer,
    epochs: tuple[int, int],
    moments: tuple[int, int],
    entries: dict[bytes, Group],
    withdrawn: Iterable[bytes],
    prefix: str = "",
) -> Header:
    by_group: dict[Group, list[bytes]] = defaultdict(list)
    for token in sorted(entries):
        by_group[entries[token]].append(token)
    removed = sorted(withdrawn)
    body = b"".join(token for tokens in (*by_group.values(), removed) for token in tokens)
    header = Header(
        kind="callsieve list",
        format=2,
        issuer=issuer.name,
        key=issuer.key.epoch,
        epoch=epochs[0],
        since=epochs[1],
        made=moments[0],
        valid_until=moments[1],
        groups=tuple(GroupHeader(*group[1:-1], len(tokens)) for group, tokens in by_group.items()),
        withdrawn=len(removed),
        sha256=sha256(body).hexdigest(),
        model=issuer.model,
        error_bound=issuer.error_bound,
        prefix=prefix,
    )
    line = json.dumps(msgspec.to_builtins(header), separators=(",", ":")).encode() + b"\n"
    json_as(Header, line, "list")
    write_atomic(path, line + sign(line, issuer.signer) + body)
    return header


def _tokens_in(tokens: bytes) -> Iterable[bytes]:
    return (tokens[place : place + TOKEN_BYTES] for place in range(0, len(tokens), TOKEN_BYTES))
