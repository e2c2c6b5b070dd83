"""Follows the lists of several issuers: reads them again as they change, and puts their entries in service in one step.

A TOML file names the sharing key, and each issuer with its public key and the place of its lists:

    key = "sharing.key"

    [issuers.carrier-a]
    signer = "carrier-a.pub"
    lists = "https://lists.example.org/carrier-a/"

`lists` is a file, a folder of lists, the address of a file, or the address of a folder, which ends with "/". Of an
address that ends with "/prefix/", only those lists by prefix are read that a caller's number asks for. Paths begin at
the folder of the TOML file. A list that must not be used changes nothing: the last good one stays in service until it
expires, and `status` says why.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.files.dates import now_ms, utc_text
from callsieve.features.files.decode import Record, toml_as
from callsieve.features.keys.tokens import Key, read_key
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.scorer.listed import Listed, ListState

from .exchange import MAX_BYTES, PREFIX, SUFFIX, WHOLE, SignedList, chain_of, name_of, read_list, table_of

EVERY = 30.0  # seconds between two looks at the lists
TIMEOUT = 20.0  # seconds for a request
PREFIX_EVERY = 240_000  # milliseconds until a list by prefix is read again
LONGEST = 1_000  # lists of a chain from an address, after which it begins again with the whole list
_LOG = logging.getLogger("callsieve.serving")


class IssuerFile(Record, frozen=True):
    """A table `issuers.NAME`: the file of the public key, and the place of the lists."""

    signer: str
    lists: str


class ListsFile(Record, frozen=True):
    """The TOML file: the file of the sharing key, and the issuers by name."""

    key: str
    issuers: Mapping[str, IssuerFile]


@dataclass(slots=True)
class Source:
    """The lists of an issuer at one place, as they were last read.

    Attributes:
        chain: the verified lists in use; empty before the first good one.
        fault: why the newest lists are not used, in one line; "" if they are.
    """

    name: str
    key: Key
    signer: Ed25519PublicKey
    place: str
    chain: tuple[SignedList, ...] = ()
    fault: str = ""
    _seen: object = None  # the files as they were read
    _tags: dict[str, str] = field(default_factory=dict)  # ETag by address
    _lists: dict[str, SignedList] = field(default_factory=dict)  # by prefix
    _again: dict[str, int] = field(default_factory=dict)  # by prefix, when to read it again, Unix ms
    _waited: float = math.nan  # seconds until the latest list was in service

    @property
    def by_prefix(self) -> bool:
        """Whether the place has lists by prefix, of which those are read that a number asked for."""
        return is_address(self.place) and self.place.endswith(f"/{PREFIX}/")

    def refresh(self, wanted: Collection[int] = ()) -> bool:
        """Reads the lists if they have changed; returns whether others are in use now.

        `wanted`: prefixes that were asked for.
        """
        chain, self.fault = self.chain, ""
        try:
            chain = self._fetch(now_ms(), wanted) if is_address(self.place) else self._read()
        except (ValueError, OSError, HTTPException) as error:
            self.fault = f"{self.place}: {getattr(error, 'strerror', None) or getattr(error, 'reason', None) or error}"
        if self.by_prefix:  # also those that were read before a fault
            chain = tuple(sorted(self._lists.values(), key=lambda item: item.header.epoch))
        is_new = chain != self.chain
        if is_new and self.chain:
            self._waited = (now_ms() - chain[-1].header.made) / 1000
        self.chain = chain
        return is_new

    def status(self, now: int) -> str:
        """Returns in one line which list is in use at a moment (Unix ms), and why no other."""
        fault = f"; {self.fault}" if self.fault else ""
        if not self.chain:
            return f"{self.name}: no {'prefix was asked for' if self.by_prefix else 'list in use'}{fault}"
        head = self.chain[-1].header
        if now >= head.valid_until:
            return f"{self.name}: list {head.epoch} expired at {utc_text(head.valid_until)} and is not used{fault}"
        return f"{self.name}: list {head.epoch} is in use until {utc_text(head.valid_until)}{fault}"

    def state(self) -> ListState:
        """Returns figures of the latest list; there must be one."""
        groups = [group for item in self.chain for group in item.header.groups]
        newest = max((group.published for group in groups), default=0)
        latest = [group for group in groups if group.published == newest]
        waited = sum(group.tokens * (group.published - group.last) for group in latest)
        return ListState(
            entries=sum(group.tokens for group in groups),
            valid_until=self.chain[-1].header.valid_until,
            flagged_to_published=waited / sum(group.tokens for group in latest) / 1000 if latest else math.nan,
            published_to_acted=self._waited,
        )

    def _read(self) -> tuple[SignedList, ...]:
        path = Path(self.place)
        files = sorted(path.glob("*" + SUFFIX)) if path.is_dir() else [path]
        seen = [(file.name, (status := file.stat()).st_mtime_ns, status.st_ino, status.st_size) for file in files]
        if seen == self._seen:
            return self.chain
        chain = chain_of([self._verified(file.read_bytes()) for file in files])
        self._refuse_earlier(chain[-1], self.chain[-1:])
        self._seen = seen
        return tuple(chain)

    def _fetch(self, now: int, wanted: Collection[int]) -> tuple[SignedList, ...]:
        if self.by_prefix:
            self._fetch_prefixes(now, wanted)
            return self.chain
        if not self.place.endswith("/"):
            item = self._get(self.place, self.chain[-1:])
            return self.chain if item is None else (item,)
        chain = list(self.chain)
        if not chain or now >= chain[-1].header.valid_until or len(chain) > LONGEST:
            item = self._get(self.place + WHOLE, self.chain[-1:])
            chain = chain if item is None else [item]
        while (item := self._get(self.place + name_of(chain[-1].header.epoch + 1), may_lack=True)) is not None:
            chain = chain_of([*chain, item])
        return tuple(chain)

    def _fetch_prefixes(self, now: int, wanted: Collection[int]) -> None:
        for prefix in sorted(f"{byte:02x}" for byte in wanted):
            if now >= self._again.get(prefix, 0):
                before = (self._lists[prefix],) if prefix in self._lists else ()
                item = self._get(f"{self.place}{prefix}{SUFFIX}", before, prefix=prefix)
                self._lists[prefix] = item or self._lists[prefix]
                self._again[prefix] = now + PREFIX_EVERY

    def _verified(self, data: bytes, prefix: str = "") -> SignedList:
        item = read_list(data, self.key, [self.signer])
        if item.header.issuer != self.name:
            raise ValueError(f"a list of {item.header.issuer}, expected one of {self.name}")
        if item.header.prefix != prefix:
            raise ValueError(f"a list of the prefix {item.header.prefix!r}, expected {prefix!r}")
        return item

    def _refuse_earlier(self, item: SignedList, before: Sequence[SignedList]) -> None:
        for other in before:
            if item.header.epoch < other.header.epoch:
                raise ValueError(f"list {item.header.epoch} is earlier than list {other.header.epoch}, which is in use")

    def _get(
        self, address: str, before: Sequence[SignedList] = (), *, prefix: str = "", may_lack: bool = False
    ) -> SignedList | None:
        """Returns the list at an address; None if it has not changed since `before`, or lacks and may do so."""
        known = {"If-None-Match": self._tags[address]} if before and address in self._tags else {}
        request = urllib.request.Request(address, headers=known)  # noqa: S310 - http and https alone
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                data, tag = answer.read(MAX_BYTES + 1), answer.headers.get("ETag")
        except urllib.error.HTTPError as error:
            if error.code == 304 or (error.code == 404 and may_lack):
                return None
            raise ValueError(f"the server answers {error.code}") from None
        item = self._verified(data, prefix)
        self._refuse_earlier(item, before)
        if tag and not may_lack:
            self._tags[address] = tag
        return item


class FollowedLists:
    """The lists that a TOML file names, in service as `listed`.

    Attributes:
        listed: the entries in service, for `Scorer.load` and `Swap`.
        sources: the lists of each issuer.
    """

    def __init__(self, key: Key, sources: list[Source]) -> None:
        """Reads all lists; those that must not be used are left out, and their status says why."""
        self.listed, self.sources = Listed(key), sources
        self.listed.by_prefix = any(source.by_prefix for source in sources)
        self._statuses: list[str] = []
        self.refresh()

    def refresh(self, *, prefixes_alone: bool = False) -> None:
        """Reads the lists that have changed, and logs each status that has changed.

        `prefixes_alone`: whether lists that are not read by prefix wait for the next time.
        """
        wanted = set(self.listed.wanted)
        if sum(source.refresh(wanted) for source in self.sources if source.by_prefix or not prefixes_alone):
            chains = [source.chain for source in self.sources]
            hashes = [item.header.sha256 for chain in chains for item in chain]
            self.listed.table, self.listed.digest = table_of(chains), sha256(repr(hashes).encode()).hexdigest()
            self.listed.states = {source.name: source.state() for source in self.sources if source.chain}
        self.listed.read = {int(name, 16) for name in self._prefixes()}
        statuses = self.statuses()
        for line in statuses:
            if line not in self._statuses:
                _LOG.info("list of %s", line)
        self._statuses = statuses

    def _prefixes(self) -> set[str]:
        read = [{item.header.prefix for item in source.chain} for source in self.sources if source.by_prefix]
        return set.intersection(*read) if read else set()

    def statuses(self) -> list[str]:
        """Returns the status of each issuer's lists in one line."""
        return [source.status(now_ms()) for source in self.sources]

    def follow(self, every: float = EVERY) -> None:
        """Starts a thread that refreshes the lists every `every` seconds, until the process ends.

        It reads lists by prefix at once when a number asks for them.
        """
        threading.Thread(target=self._run, args=(every,), name="lists", daemon=True).start()

    def _run(self, every: float) -> None:
        due = time.monotonic() + every
        while True:
            is_asked = self.listed.asked.wait(max(due - time.monotonic(), 0))
            self.listed.asked.clear()
            is_due = time.monotonic() >= due
            due = time.monotonic() + every if is_due else due
            try:
                self.refresh(prefixes_alone=is_asked and not is_due)
            except Exception as error:  # the lists in service stay
                _LOG.error("lists: %s", type(error).__name__)


def open_lists(path: Path | str) -> FollowedLists:
    """Reads the TOML file of lists, and the lists. Raises ValueError if the file or a key is not what it should be."""
    file, folder = toml_as(ListsFile, Path(path)), Path(path).parent
    key = read_key(folder / file.key, "sharing")
    sources = []
    for name, item in file.issuers.items():
        place = item.lists if is_address(item.lists) else str(folder / item.lists)
        sources.append(Source(name, key, read_public_key(folder / item.signer), place))
    return FollowedLists(key, sources)


def is_address(place: str) -> bool:
    """Returns whether a place of lists is an address, not a path."""
    return place.startswith(("http://", "https://"))
