"""The simulator: properties of every world, for any scenario."""

from datetime import date

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from callsieve.features import Intake, Key
from callsieve.features.intake.numbers import parse
from callsieve.features.records import CALL_COLUMNS, KEYED_COLUMNS, OUTCOMES
from callsieve.serving.rules.policy import read_policy
from callsieve.training.world import keyed_world, load_scenario, read_world, simulate, write_world
from callsieve.training.world.basis.draws import running_sum
from callsieve.training.world.store import write_planned_world
from callsieve.training.world.tables.registers import REGISTERS
from callsieve.training.world.world import plan_world
from tests.support.calls.worlds import (
    CLEAN,
    DAY,
    HOUR,
    TABLES,
    category_codes,
    check_calls_within_lifetimes,
    check_one_call_per_mobile,
    clean_scenario,
    count_calls,
    end_times,
    ipc_bytes,
    scenario_of,
    scenarios,
    text_values,
    timestamps,
)


def test_the_same_seed_gives_the_same_bytes():
    first, second = (simulate(load_scenario(), 1, "tiny") for _ in range(2))
    for name in TABLES:
        assert ipc_bytes(getattr(first, name)) == ipc_bytes(getattr(second, name)), name
    assert first.facts == second.facts


def test_different_seeds_give_different_worlds(world):
    other = simulate(load_scenario(), 2, "tiny")
    assert not np.array_equal(timestamps(world.calls, "start")[:50], timestamps(other.calls, "start")[:50])
    assert set(text_values(world.calls, "caller")).isdisjoint(text_values(other.calls, "caller")[:200])


def test_calls_are_sorted_complete_and_numbered(world):
    calls = world.calls
    assert calls.column_names == [*CALL_COLUMNS, "call"]
    start = timestamps(calls, "start")
    assert (np.diff(start) >= 0).all()
    assert start[0] >= int(world.facts["start"])
    assert start[-1] < int(world.facts["end"])
    for table in (calls, world.truth):
        assert table["call"].to_pylist() == list(range(calls.num_rows))
    assert calls["start"].type == pa.timestamp("ms", tz="UTC")
    assert calls["caller"].combine_chunks().dictionary.equals(calls["callee"].combine_chunks().dictionary)


def test_talk_and_ring_agree_with_the_outcome(world):
    calls = world.calls
    outcome, ring, talk = text_values(calls, "outcome"), calls["ring"].to_numpy(), calls["talk"].to_numpy()
    assert set(outcome) <= set(OUTCOMES)
    assert ((talk > 0) == (outcome == "answered")).all()
    assert (ring >= 0).all()
    assert (ring[np.isin(outcome, ["busy", "invalid_number", "failed"])] == 0).all()
    recorded = calls["recorded"].cast(pa.int64()).to_pandas().to_numpy()
    late = ~np.isnan(recorded)
    assert 0.002 < late.mean() < 0.03
    assert (recorded[late] > end_times(calls)[late]).all()


def test_records_are_duplicated_late_and_incomplete():
    text = "duplicate_share = 0.1\nlate_share = 0.2\nplace_missing_share = 0.5\ndevice_missing_share = 0.5\n"
    text += "ring_missing_share = 0.3\nreleased_by_missing_share = 0.4\n"
    world = simulate(scenario_of(f"[records]\n{text}"), 1, "tiny")
    calls, twice = world.calls, world.truth["duplicate"].to_numpy()
    number = calls["call"].to_numpy()
    assert world.truth["call"].equals(calls["call"])
    assert (np.diff(number) == ~twice[1:]).all(), "a duplicate follows its original and has its id"
    assert calls.take(np.flatnonzero(twice)).equals(calls.take(np.flatnonzero(twice) - 1))
    assert twice.mean() == pytest.approx(0.1 / 1.1, abs=0.01)
    assert 1 - calls["recorded"].null_count / len(number) == pytest.approx(0.2, abs=0.02)
    assert calls["ring"].null_count / len(number) == pytest.approx(0.3, abs=0.02)
    assert (text_values(calls, "released_by") == "unknown").mean() == pytest.approx(0.4, abs=0.02)
    ours = np.isin(text_values(world.truth, "slice"), ["ordinary", "elderly"])
    for column in ("place", "device"):
        assert (text_values(calls, column)[ours] == None).mean() == pytest.approx(0.5, abs=0.02), column  # noqa: E711


@pytest.mark.system
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32), text=scenarios())
def test_calls_are_possible_in_any_scenario(seed, text):
    world = simulate(scenario_of(text), seed, "tiny")
    total, taken, lost = count_calls(world)
    assert total == taken + lost, "every call reaches a subscriber or an unassigned number"
    check_calls_within_lifetimes(world)
    check_one_call_per_mobile(world)


def test_callers_are_known_numbers_and_never_call_themselves(world):
    caller = text_values(world.calls, "caller")
    assert (caller != text_values(world.calls, "callee")).all()
    assert set(caller) <= set(text_values(world.numbers, "number"))
    assert len(set(text_values(world.numbers, "number"))) == world.numbers.num_rows


def test_no_call_is_outside_the_lifetime_of_its_number(town):
    check_calls_within_lifetimes(town)
    born, died = timestamps(town.numbers, "active_from"), timestamps(town.numbers, "active_to")
    assert (born > int(town.facts["start"])).any()
    assert (died < int(town.facts["end"])).any()


def test_no_number_has_more_concurrent_calls_than_lines(world):
    assert check_one_call_per_mobile(world) > 10_000
    assert (text_values(world.calls, "outcome") == "busy").any()


def test_a_voicemail_answers_if_its_owner_does_not():
    text = f"{CLEAN}[sizes.tiny]\ndays = 6\n[people.voicemail]\nshare = "
    plain, voicemail = (simulate(scenario_of(f"{text}{share}\n"), 1, "tiny") for share in (0.0, 1.0))

    def unanswered_share(world):
        own, nuisance = (text_values(world.numbers, name).astype(bool) for name in ("own_mobile", "nuisance"))
        mobiles = own & ~nuisance
        mobile_callee = np.isin(text_values(world.calls, "callee"), text_values(world.numbers, "number")[mobiles])
        missed = mobile_callee & (text_values(world.calls, "outcome") == "no_answer")
        return (world.calls["ring"].to_numpy()[missed] > 20).mean()

    assert unanswered_share(plain) > 0.3
    assert unanswered_share(voicemail) < 0.05, "a mobile of a firm has no voicemail"


@pytest.mark.system
def test_a_silent_card_takes_no_call(town):
    """A tenth of the subscribers has no incoming call in a month of the Sichuan set."""
    answered = text_values(town.calls, "outcome") == "answered"
    cards = text_values(town.numbers, "number")[text_values(town.numbers, "slice") == "second_card"]
    called = np.isin(cards, text_values(town.calls, "callee")[answered])
    assert 0.05 < called.mean() < 0.3
    assert np.isin(cards, text_values(town.calls, "callee")).mean() > 0.5, "other people call these cards"


def test_nuisance_is_rare_and_campaigns_start_and_end(town):
    nuisance = town.truth["nuisance"].to_numpy()
    assert 0.02 < nuisance.mean() < 0.2, "in a small world each trick still has an outfit"
    campaign = text_values(town.truth, "campaign")[nuisance]
    start = timestamps(town.calls, "start")[nuisance]
    first = {name: start[campaign == name].min() for name in set(campaign)}
    week_before_last = int(town.facts["end"]) - 14 * 24 * HOUR
    unseen = [name for name, moment in first.items() if moment > week_before_last]
    assert len(unseen) >= 5
    assert len(first) - len(unseen) >= 5


def test_nuisance_blocks_are_mostly_separate(town):
    """Some campaigns share blocks with subscribers, most do not."""
    numbers = text_values(town.numbers, "number")
    nuisance = text_values(town.numbers, "nuisance").astype(bool)
    mobile = np.array([text[0] == "1" and len(text) == 11 for text in numbers])
    innocent = {text[:7] for text in numbers[mobile & ~nuisance]}
    shared = [text[:7] in innocent for text in numbers[mobile & nuisance]]
    assert 0.02 < np.mean(shared) < 0.6
    assert len(innocent) > 100


@pytest.mark.source("L3", by="training/world/callers/outfits.py")
def test_campaigns_rotate_their_numbers(town):
    """TouchPal, 2016: a nuisance number lives 6.6 days; the world's edges cut some lives short."""
    numbers = town.numbers
    bad = text_values(numbers, "nuisance").astype(bool)
    assert np.unique(text_values(numbers, "campaign")[bad], return_counts=True)[1].max() >= 4
    life = (timestamps(numbers, "active_to") - timestamps(numbers, "active_from"))[bad] / (24 * HOUR)
    assert 3 < life.mean() < 16
    campaign, begin, end = (numbers[name].to_pandas()[bad] for name in ("campaign", "active_from", "active_to"))
    successors = begin >= end.groupby(campaign.astype(object)).transform("min")
    assert successors.mean() > 0.2, "numbers of a campaign follow one another"


def test_some_people_return_missed_nuisance_calls(town):
    """People sometimes return a missed call of a nuisance number; these calls are benign."""
    bad = set(text_values(town.numbers, "number")[text_values(town.numbers, "nuisance").astype(bool)])
    returned = np.array([number in bad for number in text_values(town.calls, "callee")])
    assert returned.sum() > 20
    assert town.truth["nuisance"].to_numpy()[returned].mean() < 0.05


def test_findings_agree_with_the_truth(town):
    bad = dict(zip(text_values(town.numbers, "number"), text_values(town.numbers, "nuisance"), strict=True))
    assert [bad[number] for number in text_values(town.findings, "number")] == town.findings["nuisance"].to_pylist()
    assert 0 < np.mean(town.findings["nuisance"].to_numpy()) < 0.5
    assert (timestamps(town.findings, "known_at") > int(town.facts["start"])).all()


def test_no_rate_threshold_separates_nuisance_from_benign(town):
    """Calls of the last hour: a rule that stops 1 in 1,000 benign calls catches less than a third."""
    caller = category_codes(town.calls, "caller")
    start = timestamps(town.calls, "start") - int(town.facts["start"])
    nuisance = town.truth["nuisance"].to_numpy()
    key = (caller << 34) + start + HOUR
    order = np.argsort(key, kind="stable")
    count = np.empty(len(key), dtype=np.int64)
    count[order] = np.searchsorted(key[order], key[order]) - np.searchsorted(key[order], key[order] - HOUR)
    strict, loose = np.quantile(count[~nuisance], [0.999, 0.9])
    assert (count[nuisance] > strict).mean() < 0.34
    assert (count[nuisance] > loose).mean() > (count[~nuisance] > loose).mean(), "the rule still has some value"


def test_look_alikes_overlap_with_telemarketers(town):
    """Calls per day and talk times of look-alikes and telemarketers overlap."""
    slices, caller = text_values(town.truth, "slice"), category_codes(town.calls, "caller")
    alike = ["customer_service", "recruiter", "public_campaign", "hospital", "property_management"]
    rows_of = {"telemarketer": slices == "telemarketer", "look_alike": np.isin(slices, alike)}
    calls_of = {}
    for group, rows in rows_of.items():
        day = (timestamps(town.calls, "start")[rows] - int(town.facts["start"])) // (24 * HOUR)
        calls_of[group] = np.unique(caller[rows] * 1000 + day, return_counts=True)[1]
    for name, counterpart in (("telemarketer", "look_alike"), ("look_alike", "telemarketer")):
        low, high = np.quantile(calls_of[name], [0.05, 0.95])
        assert low < np.median(calls_of[counterpart]) < high
    talk, answered = town.calls["talk"].to_numpy(), text_values(town.calls, "outcome") == "answered"
    median = {group: np.median(talk[answered & (slices == group)]) for group in ("courier", "telemarketer")}
    assert 0.5 < median["courier"] / median["telemarketer"] < 2


def test_ordinary_talk_times_match_real_records(town):
    """Quantiles of 5 M real records: 7, 17, 34, 73 and 282 s."""
    rows = (text_values(town.truth, "slice") == "ordinary") & (text_values(town.calls, "outcome") == "answered")
    drawn = np.quantile(town.calls["talk"].to_numpy()[rows], [0.05, 0.25, 0.5, 0.75, 0.95])
    assert (np.abs(np.log(drawn / [7, 17, 34, 73, 282])) < 0.2).all()


def test_progress_goes_from_0_to_1_and_an_unknown_size_is_refused():
    steps = []
    simulate(load_scenario(), 1, "tiny", progress=lambda what, part: steps.append((what, part)))
    parts = [part for _, part in steps]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0.0, 1.0)
    with pytest.raises(
        ValueError, match="size must be one of tiny, village, small, town, city, comparison, got 'huge'"
    ):
        simulate(load_scenario(), 1, "huge")


@pytest.mark.system
def test_a_keyed_world_is_written_without_numbers(world, tmp_path):
    keyed = keyed_world(world, Intake(Key("e1", bytes(range(32)))))
    assert keyed.calls.column_names == [*KEYED_COLUMNS, "call"]
    behind_a_call = keyed.complaints.filter(keyed.complaints["call"].is_valid())
    assert set(text_values(behind_a_call, "number")) <= set(text_values(keyed.calls, "caller"))
    assert set(text_values(keyed.findings, "number")) <= set(text_values(keyed.numbers, "number"))
    write_world(keyed, tmp_path / "world")
    stored = read_world(tmp_path / "world")
    for name in TABLES:
        assert getattr(stored, name).equals(getattr(keyed, name)), name
        text = ipc_bytes(getattr(stored, name))
        for number in world.calls["caller"].combine_chunks().dictionary.to_pylist()[:200]:
            assert number.encode() not in text
    assert stored.facts == world.facts
    for name, table in keyed.registers.items():
        assert stored.registers[name].equals(table), name
    files = {f"{name}.parquet" for name in (*TABLES, *(f"register_{name}" for name in REGISTERS))} | {"world.json"}
    assert {path.name for path in (tmp_path / "world").iterdir()} == files


@pytest.mark.system
@pytest.mark.parametrize("calls", [1700, 4000])
def test_a_world_written_in_parts_equals_a_world_in_memory(tmp_path, monkeypatch, calls):
    """The size of a part changes no record, except the step of a call that was recorded late.

    Such a call is compared with what its caller dialled before, as far as the part before it is known.
    """
    key = Key("e1", bytes(range(32)))
    scenario = scenario_of("[sizes.tiny]\ndays = 6\n[records]\nduplicate_share = 0.05\n")
    whole = keyed_world(simulate(scenario, 1, "tiny"), Intake(key))
    monkeypatch.setattr("callsieve.training.world.tables.records.PART_ROWS", calls)
    planned = plan_world(scenario, 1, "tiny")
    assert len(list(planned.parts())) > 1
    assert write_planned_world(planned, Intake(key), tmp_path / "parts") == whole.calls.num_rows
    stored = read_world(tmp_path / "parts")
    for name in ("calls", "truth"):
        read, original = getattr(stored, name), getattr(whole, name)
        for column in read.column_names:
            prompt = stored.calls["recorded"].is_null() if column == "step" else None
            read_column, own = (
                table[column] if prompt is None else table[column].filter(prompt) for table in (read, original)
            )
            assert read_column.to_pylist() == own.to_pylist(), (name, column)
    assert not list((tmp_path / "parts").glob(".*")), "no unfinished file is left"


def test_registers_are_late_incomplete_and_partly_wrong(town):
    registers = town.registers
    assert set(registers) == set(REGISTERS)
    assert all(table.num_rows > 2 for table in registers.values())
    for table in registers.values():
        since = timestamps(table, "valid_from")
        assert (timestamps(table, "known_at") >= since).all()
        assert table.num_rows < 20 or (timestamps(table, "known_at") > since + DAY).mean() > 0.5
    campaigns = registers["campaigns"]
    slice_of = dict(zip(text_values(town.numbers, "number"), text_values(town.numbers, "slice"), strict=True))
    pairs = zip(text_values(campaigns, "number"), text_values(campaigns, "business"), strict=True)
    right = np.mean([slice_of.get(number) == business for number, business in pairs])
    assert 0.3 < right < 0.999
    nuisance = dict(zip(text_values(town.numbers, "number"), text_values(town.numbers, "nuisance"), strict=True))
    registered = {number for number in text_values(campaigns, "number") if nuisance.get(number)}
    assert 0 < len(registered) < 0.4 * sum(nuisance.values()), "some nuisance callers register under a decent business"


def test_honest_firms_are_registered_with_their_business_and_hours(town):
    """Rules on a register need rows that match their holders."""
    numbers = town.numbers.to_pandas().set_index("number")
    honest = numbers[~numbers["nuisance"]]
    campaigns = town.registers["campaigns"].to_pandas()
    own = campaigns[campaigns["business"].astype(str) == campaigns["number"].map(honest["slice"].astype(str))]
    work = load_scenario().table("outfits")
    declared = own[own["business"].isin(list(work))]
    hours = np.array([work[business]["hours"][:2] for business in declared["business"]])
    assert len(declared) > 15
    assert (declared["hour_from"] <= hours[:, 0]).all() and (declared["hour_to"] >= hours[:, 1]).all()
    assert declared.groupby("principal", observed=True)["hour_from"].nunique().max() == 1
    trunks = town.registers["trunks"].to_pandas()
    used = trunks.groupby("trunk", observed=True)["declared_use"].nunique()
    assert used.max() == 1
    fits = read_policy().terms.uses
    classes = trunks["number"].map(lambda number: parse(number, date(2025, 3, 1)).kind)
    stated = trunks.assign(kind=classes)[trunks["number"].isin(honest.index)]
    pairs = zip(stated["declared_use"], stated["kind"], strict=True)
    conflicts = [use in fits and kind not in fits[use] for use, kind in pairs]
    # A wrong row of a register may conflict with its trunk.
    assert np.mean(conflicts) < 0.1 and len(stated) > 15
    subscribers = town.registers["subscribers"].to_pandas()
    assert subscribers["number"].is_unique


def test_a_raw_world_is_not_written_and_an_incomplete_world_is_not_read(world, tmp_path):
    with pytest.raises(ValueError, match="expected a world with keyed calls"):
        write_world(world, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    with pytest.raises(ValueError, match=r"not a complete world, missing world\.json"):
        read_world(tmp_path)


def test_running_sums_restart_in_each_group():
    counts = np.array([2, 0, 3])
    assert running_sum(np.array([5, 1, 2, 3, 4]), counts).tolist() == [0, 5, 0, 2, 5]


def test_lines_do_not_depend_on_the_batch_size(world, monkeypatch):
    monkeypatch.setattr("callsieve.training.world.callers.lines.NUMBER_BITS", 4)
    assert ipc_bytes(simulate(clean_scenario(), 1, "tiny").calls) == ipc_bytes(world.calls)
