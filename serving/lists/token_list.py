"""A list of nuisance numbers that a handset can hold: keyed tokens cut short, sorted, signed, and with an end.

    key = read_key("sharing.key", "sharing")
    make(Path("nuisance.tokens"), numbers, key, signer, epoch=7, valid_until="2026-04-01T00:00:00Z")
    held = TokenList.open(Path("nuisance.tokens"), key, trusted=[public], minimum_epoch=7)
    held.lists("+8613800138000")

A file has a line of JSON, a line with its Ed25519 signature (`signing.sign`), and then the tokens, each the first
`width` bytes of HMAC-SHA-256(sharing key, "number" NUL canonical number), ascending: a lookup is a binary search in the
file as it lies. Of N tokens, a number that is none of them is found with probability N / 256**width; the width is the
least that keeps this below what is wanted: 5 bytes a number up to a million at one in a million. (A binary fuse filter
needs some 3 bytes for that, and cannot be searched for what changed since yesterday.)

Who holds the sharing key can try all numbers there are, and a key in every handset is held by everybody: list what may
be known, under a key that is used for nothing else, never under that of stored tokens.
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
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from callsieve.features.files.folders import write_whole
from callsieve.features.files.strict_json import as_fields, as_text, as_whole, decode
from callsieve.features.intake.numbers import Number, parse
from callsieve.features.keys.tokens import Key, bytes_of
from callsieve.serving.bundle.signing import sign, verify_signature
from callsieve.serving.rules.rules import PROTECTED

KIND, FORMAT = "callsieve token list", 1
RATE = 1e-6
MAX_BYTES = 1 << 30
MAX_WIDTH = 16  # bytes of a whole token
_HEAD = 4096  # bytes of each of the first two lines
_FIELDS = ("kind", "format", "key", "epoch", "made", "valid_until", "tokens", "width", "false_positive_rate", "sha256")
MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_DIGIT = re.compile("[0-9]")


class TokenListError(ValueError):
    """A list that must not be used: one line that says why."""


@dataclass(frozen=True, slots=True)
class TokenList:
    """A verified list. After `valid_until` it lists nothing.

    `false_positive_rate` is the probability that a number which is not on the list is found there.
    """

    key: Key
    epoch: int
    valid_until: str
    tokens: int
    width: int
    false_positive_rate: float
    signed_by: str
    data: bytes

    @classmethod
    def open(cls, path: Path, key: Key, trusted: Iterable[Ed25519PublicKey], *, minimum_epoch: int = 0) -> TokenList:
        """Read a list that one of the trusted keys signed.

        Args:
            minimum_epoch: earlier lists are refused, so that nobody can put back one that was withdrawn.

        Raises:
            Unfit: and nothing else, whatever the file holds.
        """
        try:
            return cls._read(path, key, trusted, minimum_epoch)
        except OSError as error:
            raise TokenListError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise TokenListError(f"{path}: {error}") from None

    @classmethod
    def _read(cls, path: Path, key: Key, trusted: Iterable[Ed25519PublicKey], minimum_epoch: int) -> TokenList:
        with path.open("rb") as file:
            head, signature = file.readline(_HEAD), file.readline(_HEAD)
            signed_by = verify_signature(head, signature, trusted)
            said = _said(head)
            data = file.read(MAX_BYTES)
        width, tokens = said["width"], said["tokens"]
        if len(data) != width * tokens or sha256(data).hexdigest() != said["sha256"]:
            raise ValueError("the tokens are not those that were signed")
        if said["key"] != key.epoch:
            raise ValueError(f"made with the sharing key {said['key']}, got {key.epoch}")
        if said["epoch"] < minimum_epoch:
            raise ValueError(f"epoch must be at least {minimum_epoch}, got {said['epoch']}")
        rate = rate_of(tokens, width)
        return cls(key, said["epoch"], said["valid_until"], tokens, width, rate, signed_by, data)

    def lists(self, number: str, now: float | None = None) -> bool:
        """Whether a number as written is listed; never, once the list is past its time. `now`: Unix seconds."""
        if (time.time() if now is None else now) >= datetime.fromisoformat(self.valid_until).timestamp():
            return False
        token = number_token(self.key, parse(number, datetime.now(UTC).date()), self.width)
        if token is None:
            return False
        place = bisect_left(range(self.tokens), token, key=self._at)
        return place < self.tokens and self._at(place) == token

    def _at(self, place: int) -> bytes:
        return self.data[place * self.width : (place + 1) * self.width]


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
    """Write a list of numbers as written, whole or not at all. Equal input gives equal tokens.

    Args:
        numbers: emergency and public-service numbers among them, and what is no number, are left out and counted.
        valid_until: a UTC moment such as "2026-04-01T00:00:00Z".
        rate: false positives at most, of numbers that are not listed.

    Returns: tokens, width, bytes, false_positive_rate, repeated, protected, unreadable.

    Raises:
        ValueError: for a moment or rate that is none, or an epoch below 0.
        FileExistsError: if the file exists.
    """
    if path.exists():
        raise FileExistsError(f"{path}: exists already; nothing is overwritten")
    if not 0 < rate < 1:
        raise ValueError(f"rate must lie between 0 and 1, got {rate}")
    today, left = datetime.now(UTC), Counter(repeated=0, protected=0, unreadable=0)
    whole: set[bytes] = set()
    for written in numbers:
        number = parse(written, today.date())
        token = number_token(key, number, MAX_WIDTH)
        if token is None or number.kind in PROTECTED:
            left["unreadable" if token is None else "protected"] += 1
            continue
        left["repeated"] += token in whole
        whole.add(token)
    width = next((w for w in range(1, MAX_WIDTH) if rate_of(len(whole), w) <= rate), MAX_WIDTH)
    tokens = sorted({token[:width] for token in whole})
    data = b"".join(tokens)
    said = dict(zip(_FIELDS, (
        KIND, FORMAT, key.epoch, epoch, today.strftime(MOMENT), valid_until, len(tokens), width,
        rate_of(len(tokens), width), sha256(data).hexdigest(),
    ), strict=True))  # fmt: skip
    head = json.dumps(said, separators=(",", ":")).encode() + b"\n"
    _said(head)
    write_whole(path, head + sign(head, signer) + data)
    shown = {name: said[name] for name in ("epoch", "valid_until", "tokens", "width", "false_positive_rate")}
    return shown | {"bytes": path.stat().st_size} | dict(left)


def rate_of(tokens: int, width: int) -> float:
    """The probability that one of N tokens of so many bytes is that of another number."""
    return min(tokens / float(256**width), 1.0)


def number_token(key: Key, number: Number, width: int) -> bytes | None:
    """The first bytes of a number's token; None if it is no number."""
    if not _DIGIT.search(number.canonical):
        return None
    return bytes_of(key.token("number", number.canonical).rpartition(".")[2])[:width]


def _said(head: bytes) -> dict[str, Any]:
    """What the first line says, checked field by field."""
    said = as_fields(decode(head), "list", _FIELDS)
    if said["kind"] != KIND or said["format"] != FORMAT:
        raise ValueError(f"expected a {KIND} of format {FORMAT}")
    for name in ("key", "sha256"):
        as_text(said[name], name)
    as_whole(said["epoch"], "epoch", 0, 2**53)
    as_whole(said["tokens"], "tokens", 0, MAX_BYTES)
    as_whole(said["width"], "width", 1, MAX_WIDTH)
    for name in ("made", "valid_until"):
        if datetime.strptime(as_text(said[name], name), MOMENT).strftime(MOMENT) != said[name]:
            raise ValueError(f"{name} must be a moment such as 2026-04-01T00:00:00Z")
    return said
