"""Populations of the simulated world: each exists, behaves as its name says and overlaps with others."""

import numpy as np
import pytest
from scipy.stats import binomtest

from callsieve.training.world import load_scenario, simulate
from tests.support.calls.worlds import (
    CLEAN,
    DAY,
    HOUR,
    MASKED,
    NUISANCE,
    OUTFITS,
    TRADES,
    category_codes,
    end_times,
    scenario_of,
    text_values,
    timestamps,
)


def calls_of(world, name):
    return np.flatnonzero(text_values(world.truth, "slice") == name)


def test_every_population_calls(world):
    slices = set(text_values(world.truth, "slice"))
    kinds = {"ordinary", "elderly", "new_number", "recycled", "roamer", "second_card", "elsewhere", "relay"}
    assert slices >= {*kinds, *TRADES, *(set(OUTFITS) - {"lent_card"})}


def test_the_columns_of_the_truth_are_consistent(town):
    truth = town.truth
    nuisance, slices = truth["nuisance"].to_numpy(), text_values(truth, "slice")
    assert set(slices[nuisance]) <= NUISANCE
    assert not set(slices[~nuisance]) & NUISANCE
    for column in ("content", "mode", "campaign"):
        assert ((text_values(truth, column) != None) == nuisance).all(), column  # noqa: E711
    assert set(text_values(truth, "mode")[nuisance]) == {"human", "recording", "one_ring", "bombing"}
    bad = dict(zip(text_values(town.numbers, "number"), text_values(town.numbers, "nuisance"), strict=True))
    caller = text_values(town.calls, "caller")
    by_number = np.array([bad[number] for number in caller])
    assert by_number[nuisance & ~np.isin(slices, list(MASKED))].all()
    assert not by_number[np.isin(slices, ["ordinary", "courier", "hospital", "relay", "bank_risk"]) & ~nuisance].any()
    assert (slices[by_number & ~nuisance] == "lender").mean() > 0.9, "these are honest calls before a number was lent"


def test_the_truth_names_every_attack(town):
    attacks = {outfit["attack"] for name, outfit in OUTFITS.items() if outfit["attack"]}
    assert len(attacks) >= 15
    assert set(text_values(town.truth, "attack")) >= attacks - {"lent_card"}
    slices, attack = text_values(town.truth, "slice"), text_values(town.truth, "attack")
    for name in ("telemarketer", "courier"):
        assert set(attack[slices == name]) == {None}
    assert set(attack[slices == "sim_box"]) == {"sim_box"}


def test_one_ring_callers_hang_up_at_once(town):
    rows = text_values(town.truth, "slice") == "one_ring"
    missed = text_values(town.calls, "outcome")[rows] == "no_answer"
    assert missed.mean() > 0.5
    assert (town.calls["ring"].to_numpy()[rows][missed] < 4).mean() > 0.97


@pytest.mark.parametrize("name", ["spoofed_service", "spoofed_subscriber"])
def test_a_spoofed_number_stays_innocent(town, name):
    rows = calls_of(town, name)
    shown, real = text_values(town.calls, "caller")[rows], text_values(town.calls, "network_caller")[rows]
    assert (real != None).all()  # noqa: E711
    assert (shown != real).all()
    numbers = {number: row for row, number in enumerate(text_values(town.numbers, "number"))}
    nuisance, slices = text_values(town.numbers, "nuisance"), text_values(town.numbers, "slice")
    shown_rows = [numbers[number] for number in shown if number in numbers]
    assert not any(nuisance[row] for row in shown_rows if slices[row] != "lender")
    assert all(nuisance[numbers[number]] for number in real)
    if name == "spoofed_service":
        assert {slices[row] for row in shown_rows} == {"bank_risk"}


def test_only_spoofing_callers_show_another_number(town):
    shows_another = text_values(town.calls, "network_caller") != None  # noqa: E711
    spoofs = np.isin(text_values(town.truth, "slice"), ["spoofed_service", "spoofed_subscriber"])
    assert (shows_another <= spoofs).all(), "calls of their friends show their own number"
    assert shows_another.sum() > 0.9 * spoofs.sum()


def test_authentication_fails_by_call_and_mostly_for_forged_numbers(town):
    """A failed signature of an innocent number does not fail all its calls."""
    calls, truth = town.calls, town.truth
    once = ~truth["duplicate"].to_numpy()
    forged = calls["network_caller"].is_valid().to_numpy() & once
    failed = text_values(calls, "attestation") == "failed"
    share = load_scenario().table("numbering")["attestation"]["forged"]["failed"]
    assert binomtest(int((failed & forged).sum()), int(forged.sum()), share).pvalue > 1e-3
    assert 0 < (failed & ~forged & once).sum() < 3e-4 * once.sum()
    victims = np.isin(text_values(calls, "caller"), text_values(calls, "caller")[failed & ~forged])
    assert failed[victims & ~forged].mean() < 0.5
    signed = np.isin(text_values(calls, "attestation"), ["A", "B", "C"])
    assert signed[forged].any(), "a signature proves nothing"


def test_benign_and_nuisance_calls_share_relay_numbers(town):
    caller, slices = category_codes(town.calls, "caller"), text_values(town.truth, "slice")
    good, bad = set(caller[slices == "relay"]), set(caller[slices == "relay_callback"])
    assert len(good & bad) > 2
    guilty = dict(zip(category_codes(town.numbers, "number"), text_values(town.numbers, "nuisance"), strict=True))
    assert not any(guilty[number] for number in good)
    assert len(set(caller[slices == "driver"])) > len(good) / 2


def test_most_calls_to_a_relay_have_a_second_leg(town):
    """A call to a relay number continues from it two seconds later if the line is free."""
    slices = text_values(town.truth, "slice")
    start = timestamps(town.calls, "start")
    caller, callee = category_codes(town.calls, "caller"), category_codes(town.calls, "callee")
    second = set(zip(caller[slices == "relay"], start[slices == "relay"], strict=True))
    first = np.flatnonzero(slices == "driver")
    relays = set(caller[slices == "relay"])
    through = [row for row in first if callee[row] in relays]
    assert len(through) > 300
    assert np.mean([(callee[row], start[row] + 2000) in second for row in through]) > 0.85


@pytest.mark.source("L14", by="training/world/callers/tricks.py")
def test_a_bombing_hits_one_victim_from_one_block(village):
    rows = calls_of(village, "bombing")
    callee, start = category_codes(village.calls, "callee")[rows], timestamps(village.calls, "start")[rows]
    caller = text_values(village.calls, "caller")[rows]
    victim = np.bincount(callee).argmax()
    hit = np.sort(start[callee == victim])
    assert len(hit) > 100
    minutes = (hit[-1] - hit[0]) / 60_000
    assert 20 < len(hit) / minutes < 45
    assert len(set(caller[callee == victim])) > 5
    assert len({number[:-4] for number in caller[callee == victim]}) == 1


def test_numbers_warm_up_before_they_dial(village):
    rows = calls_of(village, "warmed_up")
    number, start = category_codes(village.calls, "caller")[rows], timestamps(village.calls, "start")[rows]
    born = dict(zip(category_codes(village.numbers, "number"), timestamps(village.numbers, "active_from"), strict=True))
    age = (start - np.array([born[caller] for caller in number])) / DAY
    fresh = np.array([born[caller] > int(village.facts["start"]) for caller in number])
    assert fresh.sum() > 50
    assert (age[fresh] < 6).mean() < 0.5
    assert age[fresh].max() > 8


@pytest.mark.source("L14", by="training/world/callers/tricks.py")
def test_a_sim_box_has_many_numbers_on_one_device():
    # In a village only an unrealistically busy outfit fills a box.
    busy = f"{CLEAN}[sizes.tiny]\nsubscribers = 1500\ndays = 28\n[outfits.sim_box]\ncalls_per_1000 = 250.0\n"
    world = simulate(scenario_of(busy), 2, "tiny")
    rows = calls_of(world, "sim_box")
    device, number = text_values(world.calls, "device")[rows], text_values(world.calls, "caller")[rows]
    most = max(len(set(number[device == box])) for box in set(device) - {None})
    assert most >= 8


def test_some_international_calls_have_a_domestic_number(town):
    rows = calls_of(town, "foreign_86")
    assert set(text_values(town.calls, "route")[rows]) == {"international"}
    assert all(len(number) == 11 and number[0] == "1" for number in text_values(town.calls, "caller")[rows])


def test_roamers_call_from_abroad_for_a_while(town):
    rows = calls_of(town, "roamer")
    abroad = text_values(town.calls, "route")[rows] == "roaming"
    assert 0.05 < abroad.mean() < 0.6
    assert (text_values(town.calls, "place")[rows][abroad] == None).all()  # noqa: E711
    assert "roaming" not in set(text_values(town.calls, "route")[calls_of(town, "ordinary")])


def test_some_numbers_are_ported_to_another_operator(town):
    """A block belongs to an operator; 4 % of the numbers are ported, two in three of them to another operator."""
    people = np.isin(text_values(town.truth, "slice"), ["ordinary", "elderly"])
    number, operator = text_values(town.calls, "caller")[people], text_values(town.calls, "operator")[people]
    operator_of = dict(zip(number, operator, strict=True))
    # Numbers are ported before the first call.
    assert all(operator_of[caller] == name for caller, name in zip(number, operator, strict=True))
    mobile = np.array([caller for caller in operator_of if len(caller) == 11 and caller[0] == "1"])
    ranges, place = np.unique([caller[:3] for caller in mobile], return_inverse=True)
    moved = []
    for code in range(len(ranges)):
        operators = np.array([operator_of[caller] for caller in mobile[place == code]])
        names, counts = np.unique(operators, return_counts=True)
        moved.extend(operators != names[counts.argmax()])
    assert 0.015 < np.mean(moved) < 0.045


def test_an_organiser_calls_in_one_burst(town):
    rows = calls_of(town, "organiser")
    number = category_codes(town.calls, "caller")[rows]
    day = (timestamps(town.calls, "start")[rows] - int(town.facts["start"])) // DAY
    share = []
    for caller in set(number):
        counts = np.sort(np.bincount(day[number == caller], minlength=28))[::-1]
        share.append(counts[:4].sum() / counts.sum())
    assert np.median(share) > 0.4


def test_lent_cards_have_an_honest_past_and_are_cut_off(town):
    slices, campaign = text_values(town.truth, "slice"), text_values(town.truth, "campaign")
    number, start = category_codes(town.calls, "caller"), timestamps(town.calls, "start")
    past = 0
    for card in set(number[slices == "lent_card"]):
        lent, honest = start[(number == card) & (campaign != None)], start[(number == card) & (slices == "lender")]  # noqa: E711
        past += bool(len(honest) and np.quantile(honest, 0.95) <= lent.min())
    assert past >= 1


def test_no_trunk_block_or_device_is_a_perfect_label(town):
    """Some trunks, devices and blocks of nuisance calls also carry honest calls; most do not."""
    nuisance = town.truth["nuisance"].to_numpy()
    for column in ("trunk", "device"):
        values = text_values(town.calls, column)
        bad, good = set(values[nuisance]) - {None}, set(values[~nuisance]) - {None}
        assert 0.02 < len(bad & good) / len(bad) < 0.75, column
    number = text_values(town.calls, "caller")
    mobile = np.array([text[0] == "1" and len(text) == 11 for text in number])
    bad, good = ({text[:7] for text in number[mobile & side]} for side in (nuisance, ~nuisance))
    assert 0.1 < len(bad & good) / len(bad) < 0.8


def test_some_subscribers_share_a_device(town):
    rows = np.isin(text_values(town.truth, "slice"), ["ordinary", "elderly"])
    pairs = set(zip(text_values(town.calls, "device")[rows], category_codes(town.calls, "caller")[rows], strict=True))
    devices = [device for device, _ in pairs if device is not None]
    shared = len(devices) - len(set(devices))
    assert 0.005 < shared / len(devices) < 0.1


def test_complaints_and_marks_concern_real_calls_and_arrive_later(town):
    reports, calls = town.complaints, town.calls
    real = reports.filter(reports["call"].is_valid())
    call = real["call"].to_numpy()
    assert len(call) > 50
    assert (text_values(calls, "caller")[call] == text_values(real, "number")).all()
    assert (text_values(calls, "callee")[call] == text_values(real, "reporter")).all()
    assert (timestamps(real, "at") >= end_times(calls)[call]).all()
    delay = timestamps(reports, "known_at") - timestamps(reports, "at")
    assert delay.min() >= 0
    assert (delay < 6 * HOUR).any()
    assert delay.max() > 7 * DAY
    assert (np.diff(timestamps(reports, "known_at")) >= 0).all()


def test_complaints_are_rare_and_a_fifth_of_the_marks_are_wrong(town):
    truth, reports = town.truth["nuisance"].to_numpy(), town.complaints
    real = reports.filter(reports["call"].is_valid())
    call, channel = real["call"].to_numpy(), text_values(real, "channel")
    slices = text_values(town.truth, "slice")[call[channel == "mark"]]
    assert np.isin(slices, ["courier", "takeaway", "driver", "relay"]).mean() == pytest.approx(0.195, abs=0.03)
    assert 0.15 < 1 - truth[call[channel == "mark"]].mean() < 0.35
    assert truth[call[channel == "complaint"]].all()
    assert len(call) < 0.1 * truth.sum()
    bad = text_values(town.numbers, "number")[text_values(town.numbers, "nuisance").astype(bool)]
    reported = set(text_values(reports, "number"))
    assert 0.05 < np.mean([number in reported for number in bad]) < 0.8
    assert {"courier", "not_nuisance", "fraud"} <= set(text_values(reports, "category"))


def test_people_complain_and_the_elderly_rarely_do(village):
    real = village.complaints.filter(village.complaints["call"].is_valid())
    slice_of = dict(zip(text_values(village.numbers, "number"), text_values(village.numbers, "slice"), strict=True))
    reporters = np.array([slice_of[number] for number in text_values(real, "reporter")])
    assert len(reporters) > 200
    assert not set(reporters) & {*OUTFITS, "relay", "elsewhere"}
    called = text_values(village.calls, "callee")[village.truth["nuisance"].to_numpy()]
    share = np.mean([slice_of.get(number) == "elderly" for number in called])
    assert share > 0.02
    assert np.mean(reporters == "elderly") < share / 2


def test_false_complaints_name_a_hospital_and_recycled_numbers(town):
    reports = town.complaints
    false = reports.filter(reports["call"].is_null())
    slice_of = dict(zip(text_values(town.numbers, "number"), text_values(town.numbers, "slice"), strict=True))
    before = timestamps(false, "known_at") < int(town.facts["start"])
    old = {slice_of.get(number) for number in text_values(false, "number")[before]}
    new = text_values(false, "number")[~before]
    assert old - {None} == {"recycled"}
    assert len(set(new)) == 1
    assert slice_of[new[0]] == "hospital"
    assert len(new) == 40
    at = timestamps(false, "at")[~before]
    assert at.max() - at.min() <= 10 * HOUR
