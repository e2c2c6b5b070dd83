"""The labels that a model is judged by: the truth of each call, or else what is known when the records end.

Without a truth, thresholds are chosen and certified on callers with evidence of innocence. An unreported caller is not
innocent by that: it is unknown, and judges nothing. It is innocent by silence only if nuisance callers with as many
answered calls get complaints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from callsieve.features.arrays import Array
from callsieve.features.intake.text_columns import dictionary_encoded
from callsieve.training.data.dataset import Dataset
from callsieve.training.data.label_policy import LabelPolicy
from callsieve.training.data.labels import UNREPORTED, label_numbers

from .callers import callers_of

# Why a label is known. Complaints include votes, which are marks in favour of a number.
GROUNDS = ("unknown", "truth", "check", "list", "complaints", "called first", "silence")

# Surveys and public announcements call strangers once, as nuisance does. One such caller would decide the threshold of
# all networks, and a strict threshold protects none on a network of another simulator. So thresholds and certificates
# are of all other innocent calls, and theirs are counted apart. A register that names them protects them.
ANNOUNCERS = ("satisfaction", "public_campaign")


@dataclass(frozen=True, slots=True)
class JudgingLabels:
    """Labels of all calls for judging, each array of shape (calls,).

    known: whether the label is known. nuisance: the label. slice: the kind of caller. source: "truth" or "labels".
    ground: why the label is known, a place among GROUNDS.
    attack: a place among `attacks`, the names of evasions; -1 for no or no known evasion.
    """

    known: Array
    nuisance: Array
    slice: Array
    source: str
    attack: Array
    ground: Array
    attacks: tuple[str, ...] = ()

    @property
    def representative(self) -> bool:
        """Whether innocent calls stand for at least half of all calls that are not known as nuisance.

        If fewer are known to be innocent, a threshold chosen on them may flag kinds of callers that evidence does not
        reach, such as couriers.
        """
        return int((self.known & ~self.nuisance).sum()) >= int((~self.known).sum())

    @property
    def announcing(self) -> Array:
        """Whether the caller is of a kind that calls strangers as nuisance does, by the truth; bool, shape (calls,)."""
        return np.isin(self.slice, ANNOUNCERS) & ~self.nuisance & (self.source == "truth")

    def at(self, rows: Array) -> JudgingLabels:
        """Returns the labels of some calls."""
        arrays = {name: getattr(self, name)[rows] for name in ("known", "nuisance", "slice", "attack", "ground")}
        return replace(self, **arrays)


def joined_labels(folders: Sequence[JudgingLabels]) -> JudgingLabels:
    """Returns the labels of several folders as one, in their order; the source is "truth" only if all have a truth."""
    attacks = tuple(sorted({name for labels in folders for name in labels.attacks}))
    places = [np.array([*(attacks.index(name) for name in labels.attacks), -1])[labels.attack] for labels in folders]
    return JudgingLabels(
        known=np.concatenate([labels.known for labels in folders]),
        nuisance=np.concatenate([labels.nuisance for labels in folders]),
        slice=np.concatenate([labels.slice for labels in folders]),
        source="truth" if all(labels.source == "truth" for labels in folders) else "labels",
        attack=np.concatenate(places).astype(np.int16),
        ground=np.concatenate([labels.ground for labels in folders]),
        attacks=attacks,
    )


def judging_labels(dataset: Dataset, caller: Array, policy: LabelPolicy) -> JudgingLabels:
    """Returns the truth if the data set has one; else what is known at the end, with the number class as slice.

    Without a truth, a caller is nuisance by a check, a list or complaints. It is innocent by a check, a list or votes,
    or by the evidence of `callers`: people call it first, or nuisance callers with as many answered calls get more
    complaints. All others are unknown.

    Args:
        caller: code of each call's caller, in order of first appearance, shape (calls,).
    """
    if dataset.truth is not None:
        truth = dataset.truth
        nuisance = np.asarray(truth["nuisance"].to_numpy(zero_copy_only=False), dtype=bool)
        attack, attacks = _attacks(truth)
        return JudgingLabels(
            known=np.ones(len(nuisance), dtype=bool),
            nuisance=nuisance,
            slice=_words(truth["slice"].combine_chunks()),
            source="truth",
            attack=attack,
            ground=np.full(len(nuisance), GROUNDS.index("truth"), dtype=np.int8),
            attacks=attacks,
        )
    tokens = dataset.calls["caller"].combine_chunks()
    # `unique` returns the callers in order of first appearance, as the codes count them.
    callers = pd.Series(pc.unique(pc.dictionary_decode(tokens)).to_numpy(zero_copy_only=False))
    end = pd.Timestamp(int(dataset.calls["start"].to_numpy().max()), unit="ms", tz="UTC")
    labels = label_numbers(dataset, end, policy).set_index("number")
    labels = labels[labels["source"] != UNREPORTED].reindex(callers.to_numpy())
    nuisance = labels["nuisance"].eq(True).to_numpy(dtype=bool)
    ground = np.select(
        [
            labels["source"].eq("finding"),
            labels["source"].astype(str).str.startswith("list "),
            labels["source"].notna(),
        ],
        [GROUNDS.index(word) for word in ("check", "list", "complaints")],
        GROUNDS.index("unknown"),
    )
    # Complaints about nuisance callers are counted among those that are labelled, about innocent ones among the others.
    evidence = callers_of(dataset, 0, int(end.timestamp() * 1000), policy, ~nuisance, nuisance)
    for word, innocent in (("called first", evidence.innocent), ("silence", evidence.silent)):
        ground[(ground == GROUNDS.index("unknown")) & innocent] = GROUNDS.index(word)
    return JudgingLabels(
        known=(ground != GROUNDS.index("unknown"))[caller],
        nuisance=nuisance[caller],
        slice=_words(dataset.calls["caller_class"].combine_chunks()),
        source="labels",
        attack=np.full(len(caller), -1, dtype=np.int16),
        ground=ground.astype(np.int8)[caller],
    )


def _attacks(truth: pa.Table) -> tuple[Array, tuple[str, ...]]:
    if "attack" not in truth.column_names:
        return np.full(truth.num_rows, -1, dtype=np.int16), ()
    words = truth["attack"].cast(pa.string()).combine_chunks()
    names = sorted(pc.unique(words.drop_null()).to_pylist())
    places = pc.index_in(words, value_set=pa.array(names, pa.string())).fill_null(-1)
    return np.asarray(places.to_numpy(), dtype=np.int16), tuple(names)


def _words(column: pa.Array) -> Array:
    encoded = dictionary_encoded(column)
    words = np.array([*map(str, encoded.dictionary.to_pylist()), str(None)], dtype=object)
    return np.asarray(words[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()])
