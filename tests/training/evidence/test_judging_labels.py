"""Labels that judge where the truth is not known: a caller without a complaint is not innocent by that."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from callsieve.features.intake.text_columns import factorize
from callsieve.training.data.dataset import COMPLAINTS, FINDINGS, LISTS, make_dataset
from callsieve.training.data.label_policy import read_label_policy
from callsieve.training.evidence.funnel import INNOCENT, fewest_calls, funnel, joined_funnel, too_few
from callsieve.training.evidence.judging_labels import GROUNDS, joined_labels, judging_labels
from callsieve.training.model.certify import upper_bound
from tests.training.data.test_labels import call, calls_of, calls_to, complaints_about, rows

POLICY = read_label_policy()
PEOPLE = [f"person {i}" for i in range(30)]


def labels_of(calls, complaints=(), findings=(), lists=()):
    """Returns the judging labels, and the place of one call of each caller, by name."""
    table = calls_of(*calls, call("the last caller", "first callee", 25))
    dataset = make_dataset(table, rows(COMPLAINTS, *complaints), rows(FINDINGS, *findings), lists=rows(LISTS, *lists))
    caller, _ = factorize(table["caller"])
    names = table["caller"].to_pandas().astype(str)
    return judging_labels(dataset, caller, POLICY), dict(zip(names, range(len(names)), strict=True))


def known(labels, place):
    """Returns "unknown", or the label of a call with its ground."""
    if not labels.known[place]:
        return "unknown"
    return ("nuisance" if labels.nuisance[place] else "innocent", GROUNDS[labels.ground[place]])


@pytest.mark.source("P14", by="training/evidence/judging_labels.py")
def test_only_evidence_makes_a_caller_innocent():
    quiet, seller, shop, friend, courier = "quiet", "seller", "shop", "friend", "courier"
    calls = [
        *calls_to(quiet, PEOPLE, 10),  # it has no complaint, and no call comes in
        *calls_to(seller, PEOPLE, 11),
        *calls_to(shop, PEOPLE, 12),
        *(call(person, friend, 9 + 0.01 * i) for i, person in enumerate(PEOPLE[:6])),
        *calls_to(friend, PEOPLE[:20], 13),
        *calls_to(courier, PEOPLE, 14),
        *(call(person, courier, 15 + 0.01 * i) for i, person in enumerate(PEOPLE)),  # people return its calls
    ]
    labels, place = labels_of(
        calls, complaints_about(seller, PEOPLE[:10], 11.5), [{"number": shop, "nuisance": False, "known_at": 13}]
    )
    assert labels.source == "labels"
    assert {name: known(labels, place[name]) for name in (quiet, seller, shop, friend, courier)} == {
        quiet: "unknown",
        seller: ("nuisance", "complaints"),
        shop: ("innocent", "check"),
        friend: ("innocent", "called first"),
        courier: "unknown",
    }


@pytest.mark.parametrize(("callers", "contacts", "innocent"), [(2, 14, True), (1, 3, False), (2, 15, False)])
def test_at_least_three_people_and_a_fifth_of_all_contacts_call_an_innocent_caller_first(callers, contacts, innocent):
    # The call that opens the records comes first, too: one more caller, and one more contact.
    calls = [call(person, "friend", 9 + 0.01 * i) for i, person in enumerate(PEOPLE[:callers])]
    labels, place = labels_of([*calls, *calls_to("friend", PEOPLE[:contacts], 13)])
    assert labels.known[place["friend"]] == innocent


def test_a_busy_caller_is_innocent_by_silence_only_where_nuisance_callers_get_complaints():
    crowd = [f"person {i}" for i in range(300)]
    calls = [*calls_to("courier", crowd * 2, 10), *calls_to("seller", crowd[:60], 12), *calls_to("new", crowd[:20], 13)]
    calls = [{**entry, "outcome": "answered", "talk": 9000} for entry in calls]
    for complaints, expected in (
        (complaints_about("seller", crowd[:10], 12.5), ("innocent", "silence")),
        ((), "unknown"),  # without any complaint in the network, silence is no evidence
        (complaints_about("seller", crowd[:10], 12.5) + complaints_about("courier", crowd[:40], 10.9), None),
    ):
        labels, place = labels_of(calls, complaints)
        assert known(labels, place["new"]) == "unknown"
        if expected:
            assert known(labels, place["courier"]) == expected
        else:
            assert GROUNDS[labels.ground[place["courier"]]] != "silence"


def test_thresholds_are_not_chosen_on_the_innocent_few_of_a_network():
    """People alone are known: callers such as couriers, whom evidence does not reach, might score above them all."""
    labels, _ = labels_of(
        calls_to("shop", PEOPLE, 12), findings=[{"number": "shop", "nuisance": False, "known_at": 13}]
    )
    share = (labels.known & ~labels.nuisance).sum() / (~labels.nuisance).sum()
    assert not labels.representative and share < 0.5
    more = labels.at(np.flatnonzero(labels.known))
    assert more.representative


def test_a_check_and_complaints_are_stronger_than_being_called_first():
    calls = [
        call(person, name, 9 + 0.01 * i) for name in ("checked", "reported") for i, person in enumerate(PEOPLE[:9])
    ]
    calls += [*calls_to("checked", PEOPLE, 13), *calls_to("reported", PEOPLE, 14)]
    labels, place = labels_of(
        calls,
        complaints_about("reported", PEOPLE[10:25], 14.5),
        [{"number": "checked", "nuisance": True, "known_at": 15}],
    )
    assert known(labels, place["checked"]) == ("nuisance", "check")
    assert known(labels, place["reported"]) == ("nuisance", "complaints")


def test_a_trusted_number_is_innocent():
    listed = {"number": "bank", "list": "trusted customer", "valid_from": 0, "known_at": 0}
    labels, place = labels_of(calls_to("bank", PEOPLE, 10), lists=[listed])
    assert known(labels, place["bank"]) == ("innocent", "list")


def test_unreported_nuisance_of_a_world_is_not_innocent(dataset):
    """Nearly all callers that count as innocent are, although most nuisance callers were never reported."""
    caller, count = factorize(dataset.calls["caller"])
    blind = dataclasses.replace(dataset, truth=None, complaints=dataset.complaints[:0], findings=dataset.findings[:0])
    labels, truth = judging_labels(blind, caller, POLICY), judging_labels(dataset, caller, POLICY)
    assert truth.source == "truth" and truth.known.all() and set(truth.ground) == {GROUNDS.index("truth")}
    assert not labels.nuisance.any()
    nuisance = pd.Series(truth.nuisance).groupby(caller).mean().to_numpy() > 0.5
    innocent = pd.Series(labels.known).groupby(caller).any().to_numpy()
    assert len(innocent) == count
    assert innocent[~nuisance].mean() > 0.5 and innocent[nuisance].mean() < 0.06


def test_a_funnel_divides_the_calls_that_judge():
    labels, _ = labels_of(
        [*calls_to("quiet", PEOPLE, 10), *calls_to("seller", PEOPLE, 11), *calls_to("shop", PEOPLE[:7], 12)],
        complaints_about("seller", PEOPLE[:10], 11.5),
        [{"number": "shop", "nuisance": False, "known_at": 13}],
    )
    caller = np.arange(len(labels.known)) % 5
    in_days = np.arange(len(caller)) % 2 == 0
    judging = in_days & (np.arange(len(caller)) % 3 == 0)
    counts = funnel(labels, caller, in_days, judging)
    assert counts["all"] == {"callers": 5, "calls": len(caller)}
    assert counts["in the days that judge"]["calls"] == in_days.sum()
    parts = [counts[name]["calls"] for name in ("known nuisance", *INNOCENT.values(), "unknown")]
    assert sum(parts) == counts["in groups that judge"]["calls"] == judging.sum()
    assert counts["innocent by check"]["calls"] == (judging & (labels.ground == GROUNDS.index("check"))).sum() > 0
    twice = joined_funnel([counts, counts])
    assert twice["all"] == {"callers": 10, "calls": 2 * len(caller)}
    assert joined_funnel([counts, {}]) == {}
    assert len(joined_labels([labels, labels]).ground) == 2 * len(caller)


@pytest.mark.parametrize("target", [1e-4, 1e-3, 0.05])
def test_the_fewest_calls_are_the_fewest_whose_bound_is_the_target(target):
    calls = fewest_calls(target, 0.95)
    assert upper_bound(0, calls) <= target < upper_bound(0, calls - 1)


def test_what_is_missing_for_a_certificate_is_stated_in_days_and_in_checks():
    def lacking(innocent, unknown_callers, unknown_calls):
        nothing = {"callers": 0, "calls": 0}
        counts = dict.fromkeys(INNOCENT.values(), nothing)
        counts |= {"innocent, called first": {"callers": 9, "calls": innocent}}
        return too_few(counts | {"unknown": {"callers": unknown_callers, "calls": unknown_calls}}, 1000, 20)

    assert lacking(1000, 50, 1000) is None
    assert lacking(800, 40, 400) == {"calls": 800, "needed": 1000, "days": 5, "checks": 20}
    assert lacking(800, 1, 100) == {"calls": 800, "needed": 1000, "days": 5, "checks": None}
    assert lacking(0, 0, 0) == {"calls": 0, "needed": 1000, "days": None, "checks": None}
    # More days give more calls of unknown callers, too.
    assert lacking(1000, 50, 5000) == {"calls": 1000, "needed": 3000, "days": None, "checks": 20}
    assert too_few({}, 1000, 20) is None  # the truth is known
