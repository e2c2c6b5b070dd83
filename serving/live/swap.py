"""The scorer in service, and its replacement by another while calls go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from callsieve.features.catalogue import OWN, own_columns
from callsieve.features.files.atomic import write_atomic
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.online.history import History
from callsieve.features.records import Call, KeyedCall
from callsieve.serving.rules.policy import Policy, pin_feed, read_policy
from callsieve.serving.rules.registers import Registers
from callsieve.serving.scorer.listed import Listed
from callsieve.serving.scorer.own_columns import OwnColumns
from callsieve.serving.scorer.scorer import Scorer
from callsieve.serving.scorer.verdict import Scored, Verdict, no_verdict

from .cleared_callers import ClearedCallers

if TYPE_CHECKING:
    from callsieve.serving.bundle.bundle import Bundle

_NONE = no_verdict("no_model")


class Swap:
    """Scores calls by the last bundle that passed all checks; before the first one, every call passes.

    A new scorer replaces the old one in one step, after it has reproduced the golden scores of its bundle. Safe to
    share between threads.

    Attributes:
        refusal: why the last bundle was refused, in one line; None if it is in service.
        listed: lists of other issuers, or None.

    >>> from contextlib import suppress
    >>> from callsieve.serving import BundleError, read_public_key
    >>> swap = Swap(trusted=[read_public_key("signer.pub")])
    >>> swap.ready
    False
    >>> _ = swap.load("bundle")
    >>> swap.ready, swap.refusal
    (True, None)
    >>> with suppress(BundleError):  # the last good one stays
    ...     swap.load("signer.pub")
    >>> swap.ready, swap.refusal is None
    (True, False)
    """

    def __init__(
        self,
        *,
        trusted: Iterable[Ed25519PublicKey],
        policy: Policy | None = None,
        registers: str | Path | None = None,
        columns: Callable[[], OwnColumns] | None = None,
        minimum_epoch: int = 0,
        epoch_file: str | Path | None = None,
        cleared: ClearedCallers | None = None,
        feed: str = "",
        bundles: dict[str, Bundle] | None = None,
        listed: Listed | None = None,
    ) -> None:
        """Creates a swap without a scorer.

        Args:
            registers: folder of registers, read again with each bundle.
            columns: reads the own columns of callers; called with each bundle. Without it, a bundle with own columns is
                refused.
            minimum_epoch: bundles of an earlier epoch are refused.
            epoch_file: contains the highest epoch that was in service, so that a restart cannot go back to an earlier
                one.
            cleared: cleared callers, whose calls pass.
            feed: pins the feed of the records, as for `Scorer.load`.
            bundles: the last bundle by its model id, for swaps that share its memory; empty at first.
            listed: lists of other issuers.

        Raises:
            ValueError: if the epoch file does not hold an epoch, or the feed is unknown.
        """
        self.refusal: str | None = None
        self.listed = listed
        self._history: History | None = None
        self._trusted, self._registers, self._cleared = tuple(trusted), registers, cleared
        self._policy = pin_feed(policy or read_policy(), feed)
        self._columns, self._bundles = columns, bundles
        self._file = Path(epoch_file) if epoch_file is not None else None
        self._kept = _read_epoch(self._file)
        self._epoch = max(minimum_epoch, self._kept)
        self._scorer: Scorer | None = None
        self._loading = threading.Lock()

    @property
    def scorer(self) -> Scorer | None:
        """The scorer in service."""
        return self._scorer

    @property
    def ready(self) -> bool:
        """Whether a bundle is in service."""
        return self._scorer is not None

    @property
    def epoch(self) -> int:
        """Bundles of an earlier epoch are refused."""
        return self._epoch

    def require_fit(self, history: History) -> None:
        """Refuses scorers that this history does not fit, now and at each later load.

        Raises:
            ValueError: if it does not fit the scorer in service.
        """
        self._history = history
        if self._scorer is not None:
            self._scorer.check(history)

    def load(self, folder: str | Path) -> Scorer:
        """Puts a bundle in service and returns its scorer. After a refusal the last good one stays.

        Raises:
            BundleError: in one line, if `Scorer.load` refuses the bundle, its epoch is below the epoch in service, or
                it has own columns and this service has no table of them.
            ValueError: if the policy or the own columns do not fit the bundle, or a register is invalid.
            OSError: if the epoch cannot be written, or a register or the own columns cannot be read.
        """
        from callsieve.serving.bundle.bundle import BundleError  # with msgspec, which takes time to import

        with self._loading:
            try:
                registers = None if self._registers is None else current_registers(self._registers)
                scorer = Scorer.load(
                    folder,
                    trusted=self._trusted,
                    policy=self._policy,
                    registers=registers,
                    columns=None if self._columns is None else self._columns(),
                    listed=self.listed,
                    minimum_epoch=self._epoch,
                )
                if self._bundles is not None:
                    if scorer.bundle.model_id not in self._bundles:
                        self._bundles.clear()
                    scorer.bundle = self._bundles.setdefault(scorer.bundle.model_id, scorer.bundle)
                own = [name.removeprefix(OWN) for name in own_columns(scorer.features)]
                if own and scorer.columns is None:
                    raise BundleError(
                        f"the model has own columns ({', '.join(own)}), and this service has no table of them; "
                        "expected the option --columns of the service, `columns` of Swap, or a model without them"
                    )
                if self._history is not None:
                    scorer.check(self._history)
                if self._scorer is not None and scorer.bundle.model_id == self._scorer.bundle.model_id:
                    scorer.networks = self._scorer.networks  # the same model of the same network
                if self._scorer is not None:
                    scorer.flags = self._scorer.flags
                bundle = scorer.bundle
                for model in (bundle.model, bundle.second, bundle.content, bundle.mode):
                    if model is not None:
                        model.read()  # here, so that no call waits for it, and a faulty model is refused
                for model in (bundle.model, bundle.second):
                    if model is not None:
                        model.prepare()
                self._keep(scorer.bundle.epoch)
            except Exception as error:
                self.refusal = str(error) if isinstance(error, BundleError) else f"{type(error).__name__}: {error}"
                raise
            self._epoch = scorer.bundle.epoch
            self._scorer, self.refusal = scorer, None
            return scorer

    def score(self, history: History, call: KeyedCall) -> Verdict:
        """Returns the verdict of the scorer in service. Never raises."""
        return self.scored(history, call).verdict

    def scored(self, history: History, call: KeyedCall, shared: int = 0) -> Scored:
        """Returns the verdict of the scorer in service, with the vector that it scored. Never raises.

        Args:
            shared: token of the caller on lists, as for `Scorer.score`.
        """
        scorer = self._scorer
        if scorer is None:
            return Scored(_NONE, None)
        verdict, row = scorer.scored(history, call, shared=shared)
        spared = self._spare(scorer, verdict, call)
        if shared and self.listed is not None and spared.status == "cleared":
            self.listed.note_cleared(shared)
        return Scored(spared, row)

    def explain(self, history: History, call: KeyedCall) -> Verdict:
        """Returns the verdict with reasons, also for a call that passes. Never raises."""
        scorer = self._scorer
        return _NONE if scorer is None else self._spare(scorer, scorer.explain(history, call), call)

    def warm_up(self) -> None:
        """Loads every table before the first call, by scoring a call against a temporary history."""
        call = Intake(Key.generate("warm"))(Call(time.time(), "110", "110"))
        self.explain(History(calls=1, numbers=2), call)

    def _spare(self, scorer: Scorer, verdict: Verdict, call: KeyedCall) -> Verdict:
        if self._cleared is None or verdict.action == "pass":
            return verdict
        return self._cleared.spare(verdict, call, *scorer.action_if_cleared(verdict))

    def _keep(self, epoch: int) -> None:
        if self._file is None or epoch <= self._kept:
            return
        write_atomic(self._file, b"%d\n" % epoch)
        self._kept = epoch


def current_registers(folder: str | Path) -> Registers:
    """Returns the registers in a folder, without expired rows."""
    # Imported here: a host without registers does not need them.
    from callsieve.serving.custody.purposes import require_purpose
    from callsieve.serving.custody.retention import read_retention

    declaration, registers = require_purpose(Path(folder), "scoring"), Registers.read(folder)
    return registers.in_time(read_retention(), round(time.time() * 1000)) if declaration.limits else registers


def _read_epoch(path: Path | None) -> int:
    try:
        text = path.read_text(encoding="ascii").strip() if path is not None else "0"
    except FileNotFoundError:
        return 0
    except UnicodeDecodeError:
        text = ""
    if not text.isdecimal():
        raise ValueError(f"{path}: must hold an epoch, a whole number of 0 or more")
    return int(text)
