"""Follows the lists of several issuers: reads them again as they change, and puts their entries in service in one step.

A TOML file names the sharing key, and each issuer with its public key and the place of its lists:

    key = "sharing.key"

    [issuers.carrier-a]
    signer = "carrier-a.pub"
    lists = "https://lists.example.org/carrier-a/"

`lists` is a file, a folder of lists, the address of a file, or the address of a folder, which ends with "/". Paths
begin at the folder of the TOML file. A list that must not be used changes nothing: the last good one stays in service
until it expires, and `status` says why.
"""

from __future__ import annotations

import logging
import math
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.files.dates import now_ms, utc_text
from callsieve.features.files.decode import Record, toml_as
from callsieve.features.keys.tokens import Key, read_key
from callsieve.serving.bundle.signing import read_public_key
from callsieve.serving.scorer.listed import Listed, ListState

from .exchange import MAX_BYTES, SUFFIX, WHOLE, SignedList, chain_of, name_of, read_list, table_of

EVERY = 30.0  # seconds between two looks at the lists
TIMEOUT = 20.0  # seconds for a request
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
    _seen: object = None  # the files as they were read, or the ETag
    _waited: float = math.nan  # seconds until the latest list was in service

    def refresh(self) -> bool:
        """Reads the lists if they have changed; returns whether others are in use now."""
        try:
            chain = self._fetch(now_ms()) if is_address(self.place) else self._read()
            self._check(chain)
        except (ValueError, OSError) as error:
            self.fault = f"{self.place}: {getattr(error, 'strerror', None) or getattr(error, 'reason', None) or error}"
            return False
        is_new = chain != self.chain
        if is_new and self.chain:
            self._waited = (now_ms() - chain[-1].header.made) / 1000
        self.chain, self.fault = chain, ""
        return is_new

    def status(self, now: int) -> str:
        """Returns in one line which list is in use at a moment (Unix ms), and why no other."""
        fault = f"; {self.fault}" if self.fault else ""
        if not self.chain:
            return f"{self.name}: no list in use{fault}"
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

    def _check(self, chain: tuple[SignedList, ...]) -> None:
        for item in chain:
            if item.header.issuer != self.name:
                raise ValueError(f"a list of {item.header.issuer}, expected one of {self.name}")
        if self.chain and chain[-1].header.epoch < (epoch := self.chain[-1].header.epoch):
            raise ValueError(f"list {chain[-1].header.epoch} is earlier than list {epoch}, which is in use")

    def _read(self) -> tuple[SignedList, ...]:
        path = Path(self.place)
        files = sorted(path.glob("*" + SUFFIX)) if path.is_dir() else [path]
        seen = [(file.name, (status := file.stat()).st_mtime_ns, status.st_ino, status.st_size) for file in files]
        if seen == self._seen:
            return self.chain
        chain = chain_of([self._verified(file.read_bytes()) for file in files])
        self._seen = seen
        return tuple(chain)

    def _fetch(self, now: int) -> tuple[SignedList, ...]:
        chain = list(self.chain)
        if not self.place.endswith("/"):
            data = self._get(self.place)
            return self.chain if data is None else (self._verified(data),)
        if not chain or now >= chain[-1].header.valid_until or len(chain) > LONGEST:
            data = self._get(self.place + WHOLE)
            chain = chain if data is None else [self._verified(data)]
        while (data := self._get(self.place + name_of(chain[-1].header.epoch + 1), may_lack=True)) is not None:
            chain = chain_of([*chain, self._verified(data)])
        return tuple(chain)

    def _verified(self, data: bytes) -> SignedList:
        return read_list(data, self.key, [self.signer])

    def _get(self, address: str, *, may_lack: bool = False) -> bytes | None:
        """Returns the content of an address; None if it has not changed, or lacks and may do so."""
        known = {"If-None-Match": self._seen} if isinstance(self._seen, str) and self.chain and not may_lack else {}
        request = urllib.request.Request(address, headers=known)  # noqa: S310 - http and https alone
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                data: bytes = answer.read(MAX_BYTES + 1)
                self._seen = self._seen if may_lack else answer.headers.get("ETag")
                return data
        except urllib.error.HTTPError as error:
            if error.code == 304 or (error.code == 404 and may_lack):
                return None
            raise ValueError(f"the server answers {error.code}") from None


class FollowedLists:
    """The lists that a TOML file names, in service as `listed`.

    Attributes:
        listed: the entries in service, for `Scorer.load` and `Swap`.
        sources: the lists of each issuer.
    """

    def __init__(self, key: Key, sources: list[Source]) -> None:
        """Reads all lists; those that must not be used are left out, and their status says why."""
        self.listed, self.sources = Listed(key), sources
        self._statuses: list[str] = []
        self.refresh()

    def refresh(self) -> None:
        """Reads the lists that have changed, and logs each status that has changed."""
        if sum(source.refresh() for source in self.sources):
            chains = [source.chain for source in self.sources]
            hashes = [item.header.sha256 for chain in chains for item in chain]
            self.listed.table, self.listed.digest = table_of(chains), sha256(repr(hashes).encode()).hexdigest()
            self.listed.states = {source.name: source.state() for source in self.sources if source.chain}
        statuses = self.statuses()
        for line in statuses:
            if line not in self._statuses:
                _LOG.info("list of %s", line)
        self._statuses = statuses

    def statuses(self) -> list[str]:
        """Returns the status of each issuer's lists in one line."""
        return [source.status(now_ms()) for source in self.sources]

    def follow(self, every: float = EVERY) -> None:
        """Starts a thread that refreshes the lists every `every` seconds, until the process ends."""
        threading.Thread(target=self._run, args=(every,), name="lists", daemon=True).start()

    def _run(self, every: float) -> None:
        waiting = threading.Event()
        while not waiting.wait(every):
            try:
                self.refresh()
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
