"""Token lists: signed lists of nuisance numbers that a handset can store, as short keyed tokens with an expiry.

    key = read_key("sharing.key", "sharing")
    write_token_list(Path("nuisance.tokens"), numbers, key, signer, epoch=7, valid_until="2026-04-01T00:00:00Z")
    token_list = TokenList.open(Path("nuisance.tokens"), key, trusted=[public], minimum_epoch=7)
    token_list.lists("+8613800138000")

A file has one line of JSON, one line with its Ed25519 signature (`signing.sign`), and then the tokens in ascending
order. A token is the first `width` bytes of HMAC-SHA-256(sharing key, "number" NUL canonical number). A look-up is a
binary search in the bytes of the file. With N tokens, an unlisted number matches with probability N / 256**width. The
width is the smallest that keeps this false positive rate below the requested one: 5 bytes a number up to a million
numbers at one in a million. A binary fuse filter needs about 3 bytes, but two filters cannot be compared for
yesterday's changes.

The holder of the sharing key can try all phone numbers, and a key in every handset is public. So list only numbers that
may be public, and use a key for lists alone, never the key of stored tokens.
"""

from __future__ import annotations

import json
import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from callsieve.features.files.atomic import write_atomic
from callsieve.features.files.decode import Record, json_as
from callsieve.features.intake.numbers import Number, parse
from callsieve.features.keys.tokens import Key, from_letters
from callsieve.serving.bundle.signing import sign, verify_signature
from callsieve.serving.rules.rules import PROTECTED

RATE = 1e-6
MAX_BYTES = 1 << 30
MAX_WIDTH = 16  # bytes of a whole token
MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_MAX_LINE_BYTES = 4096
_DIGIT = re.compile("[0-9]")


class TokenListError(ValueError):
    """The token list must not be used. The message is one line that says why."""


class Header(Record, frozen=True):
    """The first line of a list.

    Attributes:
        key: name of the sharing key.
        epoch: grows with each list.
        made, valid_until: UTC moments; from the second one on no number is listed.
        tokens: number of tokens.
        width: bytes of a token.
        false_positive_rate: probability that an unlisted number matches.
        sha256: hash of the tokens.
    """

    kind: Literal["callsieve token list"]
    format: Literal[1]
    key: str
    epoch: Annotated[int, Meta(ge=0, le=2**53)]
    made: str
    valid_until: str
    tokens: Annotated[int, Meta(ge=0, le=MAX_BYTES)]
    width: Annotated[int, Meta(ge=1, le=MAX_WIDTH)]
    false_positive_rate: float
    sha256: str


@dataclass(frozen=True, slots=True)
class TokenList:
    """A verified token list: the sharing key, the first line, the id of the key that signed it, and the tokens."""

    key: Key
    header: Header
    signed_by: str
    data: bytes

    @property
    def false_positive_rate(self) -> float:
        """Probability that an unlisted number matches."""
        return _false_positive_rate(self.header.tokens, self.header.width)

    @classmethod
    def open(cls, path: Path, key: Key, trusted: Iterable[Ed25519PublicKey], *, minimum_epoch: int = 0) -> TokenList:
        """Reads a list that one of the trusted keys signed."""
        try:
            return cls._read(path, key, trusted, minimum_epoch)
        except OSError as error:
            raise TokenListError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise TokenListError(f"{path}: {error}") from None

    @classmethod
    def _read(cls, path: Path, key: Key, trusted: Iterable[Ed25519PublicKey], minimum_epoch: int) -> TokenList:
        with path.open("rb") as file:
            line, signature = file.readline(_MAX_LINE_BYTES), file.readline(_MAX_LINE_BYTES)
            signed_by = verify_signature(line, signature, trusted)
            header = _read_header(line)
            data = file.read(MAX_BYTES)
        if len(data) != header.width * header.tokens or sha256(data).hexdigest() != header.sha256:
            raise ValueError("the tokens are not those that were signed")
        if header.key != key.epoch:
            raise ValueError(f"made with the sharing key {header.key}, got {key.epoch}")
        if header.epoch < minimum_epoch:
            raise ValueError(f"epoch must be at least {minimum_epoch}, got {header.epoch}")
        return cls(key, header, signed_by, data)

    def lists(self, number: str, now: float | None = None) -> bool:
        """Returns whether a phone number in any notation is listed; False after `valid_until`. `now` is in Unix
        seconds.
        """
        if (time.time() if now is None else now) >= datetime.fromisoformat(self.header.valid_until).timestamp():
            return False
        token = number_token(self.key, parse(number, datetime.now(UTC).date()), self.header.width)
        if token is None:
            return False
        index = bisect_left(range(self.header.tokens), token, key=self._token_at)
        return index < self.header.tokens and self._token_at(index) == token

    def _token_at(self, index: int) -> bytes:
        return self.data[index * self.header.width : (index + 1) * self.header.width]


def write_token_list(
    path: Path,
    numbers: Iterable[str],
    key: Key,
    signer: Ed25519PrivateKey,
    *,
    epoch: int,
    valid_until: str,
    rate: float = RATE,
) -> dict[str, Any]:
    """Writes a token list, whole or not at all. Equal input gives equal tokens.

    Args:
        valid_until: a UTC moment such as "2026-04-01T00:00:00Z".

    Returns:
        epoch, valid_until, tokens, width, false_positive_rate, bytes, repeated, protected, unreadable.
    """
    if path.exists():
        raise FileExistsError(f"{path}: exists already; a list is never overwritten")
    if not 0 < rate < 1:
        raise ValueError(f"rate must lie between 0 and 1, got {rate}")
    today, counts = datetime.now(UTC), Counter(repeated=0, protected=0, unreadable=0)
    whole_tokens: set[bytes] = set()
    for text in numbers:
        number = parse(text, today.date())
        token = number_token(key, number, MAX_WIDTH)
        if token is None or number.kind in PROTECTED:
            counts["unreadable" if token is None else "protected"] += 1
            continue
        counts["repeated"] += token in whole_tokens
        whole_tokens.add(token)
    widths = range(1, MAX_WIDTH)
    width = next((w for w in widths if _false_positive_rate(len(whole_tokens), w) <= rate), MAX_WIDTH)
    tokens = sorted({token[:width] for token in whole_tokens})
    data = b"".join(tokens)
    header = Header(
        kind="callsieve token list",
        format=1,
        key=key.epoch,
        epoch=epoch,
        made=today.strftime(MOMENT),
        valid_until=valid_until,
        tokens=len(tokens),
        width=width,
        false_positive_rate=_false_positive_rate(len(tokens), width),
        sha256=sha256(data).hexdigest(),
    )
    line = json.dumps(msgspec.to_builtins(header), separators=(",", ":")).encode() + b"\n"
    _read_header(line)
    write_atomic(path, line + sign(line, signer) + data)
    names = ("epoch", "valid_until", "tokens", "width", "false_positive_rate")
    return {name: getattr(header, name) for name in names} | {"bytes": path.stat().st_size} | dict(counts)


def number_token(key: Key, number: Number, width: int) -> bytes | None:
    """Returns the first `width` bytes of a number's token; None if the text is not a number."""
    if not _DIGIT.search(number.canonical):
        return None
    return from_letters(key.token("number", number.canonical).rpartition(".")[2])[:width]


def _false_positive_rate(tokens: int, width: int) -> float:
    return min(tokens / float(256**width), 1.0)


def _read_header(line: bytes) -> Header:
    header = json_as(Header, line, "list")
    for name, moment in (("made", header.made), ("valid_until", header.valid_until)):
        if datetime.strptime(moment, MOMENT).strftime(MOMENT) != moment:
            raise ValueError(f"{name} must be a moment such as 2026-04-01T00:00:00Z")
    return header
