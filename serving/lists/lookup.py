"""Looking up a number without saying which: the list in buckets, each asked for by the first bits of a token.

    facts = publish(held, Path("buckets"), signer, least=10)  # of a `TokenList`; any web server serves the folder
    asked = Lookup.open(index, read_key("sharing.key", "sharing"), trusted=[public])
    name = asked.name("+8613800138000")  # what is fetched: the same for half a million numbers
    asked.lists("+8613800138000", fetched)

No bucket holds fewer than `least` listed numbers, so that whoever serves learns of a question only that it was for one
of them or for none. `index` is a line of JSON with the hash of every bucket and a line with its signature, as the list
has, and ends when the list does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from callsieve.features.files.folders import write_whole
from callsieve.features.files.strict_json import as_fields, as_list, as_text, as_whole, decode
from callsieve.features.intake.numbers import parse
from callsieve.features.keys.tokens import Key
from callsieve.serving.bundle.signing import sign, verify_signature

from .token_list import MAX_WIDTH, TokenList, TokenListError, number_token

INDEX = "index"
KIND, FORMAT = "callsieve buckets", 1
MAX_BITS = 16
MOBILES = 5_500_000_000
"""Mobile numbers that the assigned ranges allow, about: what a question could have been for."""
_FIELDS = ("kind", "format", "key", "epoch", "valid_until", "bits", "width", "sha256")


def publish(held: TokenList, folder: Path, signer: Ed25519PrivateKey, *, least: int = 10) -> dict[str, Any]:
    """Write a list as buckets, one file each, and last the index.

    Returns: bits, buckets, smallest (listed numbers of the smallest bucket), alike (numbers that ask for the same).
    Raises:
        ValueError: if the list has fewer than `least` numbers, or that is below 1.
    """
    if least < 1:
        raise ValueError(f"least must be 1 or more, got {least}")
    if held.tokens < least:
        raise ValueError(f"a bucket must hold at least {least} numbers, got a list of {held.tokens}")
    bits = max(n for n in range(MAX_BITS + 1) if min(map(len, _buckets(held, n))) >= least * held.width)
    buckets = list(_buckets(held, bits))
    folder.mkdir(parents=True, exist_ok=True)
    for place, data in enumerate(buckets):
        write_whole(folder / _name(place, bits), data)
    hashes = [sha256(data).hexdigest() for data in buckets]
    said = (KIND, FORMAT, held.key.epoch, held.epoch, held.valid_until, bits, held.width, hashes)
    head = json.dumps(dict(zip(_FIELDS, said, strict=True)), separators=(",", ":")).encode() + b"\n"
    write_whole(folder / INDEX, head + sign(head, signer))
    smallest = min(map(len, buckets)) // held.width
    return {"bits": bits, "buckets": len(buckets), "smallest": smallest, "alike": MOBILES >> bits}


@dataclass(frozen=True, slots=True)
class Lookup:
    """A verified index. After `valid_until` nothing is listed."""

    key: Key
    epoch: int
    valid_until: str
    bits: int
    width: int
    hashes: tuple[str, ...]

    @classmethod
    def open(cls, index: bytes, key: Key, trusted: Iterable[Ed25519PublicKey], *, minimum_epoch: int = 0) -> Lookup:
        """Read an index that one of the trusted keys signed.

        Raises:
            Unfit: and nothing else, whatever the index holds.
        """
        try:
            head, _, signature = index.partition(b"\n")
            verify_signature(head + b"\n", signature, trusted)
            said = as_fields(decode(head), "index", _FIELDS)
            if said["kind"] != KIND or said["format"] != FORMAT or said["key"] != key.epoch:
                raise ValueError(f"expected {KIND} of format {FORMAT} and sharing key {key.epoch}")
            bits = as_whole(said["bits"], "bits", 0, MAX_BITS)
            hashes = tuple(as_text(one, "sha256") for one in as_list(said["sha256"], "sha256", 1 << bits, 1 << bits))
            epoch = as_whole(said["epoch"], "epoch", minimum_epoch, 2**53)
            until = as_text(said["valid_until"], "valid_until")
            if datetime.fromisoformat(until).tzinfo is None:
                raise ValueError("valid_until must be a UTC moment")
            return cls(key, epoch, until, bits, as_whole(said["width"], "width", 1, MAX_WIDTH), hashes)
        except ValueError as error:
            raise TokenListError(f"index: {error}") from None

    def name(self, number: str) -> str | None:
        """The bucket to fetch for a number as written; None if it is no number."""
        token = self._token(number)
        return None if token is None else _name(_place(token, self.bits), self.bits)

    def lists(self, number: str, bucket: bytes, now: float | None = None) -> bool:
        """Whether a number is listed, by the bucket of its name. `now`: Unix seconds.

        Raises:
            Unfit: if the bucket is not the one that was signed.
        """
        moment, until = time.time() if now is None else now, datetime.fromisoformat(self.valid_until).timestamp()
        token = self._token(number)
        if token is None or moment >= until:
            return False
        if sha256(bucket).hexdigest() != self.hashes[_place(token, self.bits)]:
            raise TokenListError("bucket: not the one that was signed")
        cut = token[: self.width]
        return any(bucket[i : i + self.width] == cut for i in range(0, len(bucket), self.width))

    def _token(self, number: str) -> bytes | None:
        return number_token(self.key, parse(number, datetime.now(UTC).date()), MAX_WIDTH)


def _buckets(held: TokenList, bits: int) -> Iterable[bytes]:
    """The tokens by their first bits; all prefixes, in order."""
    found = [bytearray() for _ in range(1 << bits)]
    for i in range(0, len(held.data), held.width):
        token = held.data[i : i + held.width]
        found[_place(token, bits)] += token
    return map(bytes, found)


def _place(token: bytes, bits: int) -> int:
    return int.from_bytes(token[:2].ljust(2, b"\0"), "big") >> (16 - bits)


def _name(place: int, bits: int) -> str:
    return f"bucket-{place:0{-(-bits // 4) or 1}x}"
