"""The simulator: what must hold in every world, whatever its scenario."""

import numpy as np
import pyarrow as pa
import pytest
from callsieve.features.intake import Intake
from callsieve.features.pseudonyms import Key
from callsieve.features.records import CALL_COLUMNS, KEYED_COLUMNS, OUTCOMES
from callsieve.training.world import keyed_world, load_scenario, read_world, simulate, write_world
from callsieve.training.world.dialling import again
from callsieve.training.world.draws import running_sum, stream
from callsieve.training.world.world import OUTFITS, POPULATIONS, TRADES

TABLES = ("calls", "truth", "numbers", "reports", "findings")
NUISANCE = {"telemarketer", "robot", "fraud_ring", "one_ring", "low_and_slow"}
HOUR = 3_600_000
TRUNK = "trunk"


@pytest.fixture(scope="module")
def world():
    return simulate(load_scenario(), 1, "tiny")


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """Large enough for shares and rules: some 400,000 calls."""
    path = tmp_path_factory.mktemp("scenario") / "town.toml"
    path.write_text("[sizes.tiny]\nsubscribers = 3000\ndays = 28\n")
    return simulate(load_scenario(path), 5, "tiny")


def codes(table, column):
    return table[column].combine_chunks().indices.to_numpy(zero_copy_only=False).astype(np.int64)


def words(table, column):
    if not pa.types.is_dictionary(table[column].type):
        return np.array(table[column].to_pylist(), dtype=object)
    coded = table[column].combine_chunks()
    # One place more than there are words: a null's -1 finds it.
    found = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
    return found[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def moments(table, column):
    return table[column].cast(pa.int64()).to_numpy()


def ends(calls):
    length = np.rint((calls["ring"].to_numpy() + calls["talk"].to_numpy()) * 1000).astype(np.int64)
    return moments(calls, "start") + length


def as_bytes(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def scenario_of(tmp_path, text):
    path = tmp_path / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path)


def test_same_seed_same_bytes(world):
    again_ = simulate(load_scenario(), 1, "tiny")
    for name in TABLES:
        assert as_bytes(getattr(world, name)) == as_bytes(getattr(again_, name)), name
    assert world.facts == again_.facts


def test_seeds_differ(world):
    other = simulate(load_scenario(), 2, "tiny")
    assert not np.array_equal(moments(world.calls, "start")[:50], moments(other.calls, "start")[:50])
    assert set(words(world.calls, "caller")).isdisjoint(words(other.calls, "caller")[:200])


def test_calls_are_sorted_complete_and_numbered(world):
    calls = world.calls
    assert calls.column_names == [*CALL_COLUMNS, "call"]
    start = moments(calls, "start")
    assert (np.diff(start) >= 0).all()
    assert start[0] >= int(world.facts["start"])
    assert start[-1] < int(world.facts["end"])
    for table in (calls, world.truth):
        assert table["call"].to_pylist() == list(range(calls.num_rows))
    assert calls["start"].type == pa.timestamp("ms", tz="UTC")
    assert calls["caller"].combine_chunks().dictionary.equals(calls["callee"].combine_chunks().dictionary)


def test_talk_and_ring_agree_with_the_outcome(world):
    calls = world.calls
    outcome, ring, talk = words(calls, "outcome"), calls["ring"].to_numpy(), calls["talk"].to_numpy()
    assert set(outcome) <= set(OUTCOMES)
    assert ((talk > 0) == (outcome == "answered")).all()
    assert (ring >= 0).all()
    assert (ring[np.isin(outcome, ["busy", "invalid_number", "failed"])] == 0).all()
    recorded = calls["recorded"].cast(pa.int64()).to_pandas().to_numpy()
    late = ~np.isnan(recorded)
    assert 0.002 < late.mean() < 0.03
    assert (recorded[late] > ends(calls)[late]).all()


def test_nobody_calls_himself_and_every_call_is_one_of_a_known_number(world):
    caller = words(world.calls, "caller")
    assert (caller != words(world.calls, "callee")).all()
    assert set(caller) <= set(words(world.numbers, "number"))
    assert len(set(words(world.numbers, "number"))) == world.numbers.num_rows


@pytest.mark.parametrize("side", ["caller", "callee"])
def test_no_call_outside_a_numbers_life(town, side):
    index = {number: row for row, number in enumerate(words(town.numbers, "number"))}
    lives = [row for row, outcome in enumerate(words(town.calls, "outcome")) if outcome != "invalid_number"]
    rows = np.array([index[number] for number in words(town.calls, side)[lives]])
    start, end = moments(town.calls, "start")[lives], ends(town.calls)[lives]
    born, died = moments(town.numbers, "active_from")[rows], moments(town.numbers, "active_to")[rows]
    cut_off = died < int(town.facts["end"])
    assert cut_off.any()
    assert (born > int(town.facts["start"])).any()
    assert (start >= born).all()
    assert (start < died).all()
    assert (end <= died)[cut_off].all()


def test_one_line_never_carries_two_calls(world):
    """Mobiles have one line: neither calls made nor calls taken may overlap one another."""
    calls = world.calls
    answered = words(calls, "outcome") == "answered"
    number = np.concatenate((codes(calls, "caller"), codes(calls, "callee")[answered]))
    start = np.concatenate((moments(calls, "start"), moments(calls, "start")[answered]))
    end = np.concatenate((ends(calls), ends(calls)[answered]))
    mobile = np.array([text[0] == "1" for text in calls["caller"].combine_chunks().dictionary.to_pylist()])
    kept = mobile[number]
    number, start, end = number[kept], start[kept], end[kept]
    order = np.lexsort((start, number))
    number, start, end = number[order], start[order], end[order]
    same = number[1:] == number[:-1]
    assert same.sum() > 10_000
    assert (start[1:][same] >= end[:-1][same]).all()
    assert (words(calls, "outcome") == "busy").any()


def test_every_population_is_there(world):
    slices = set(words(world.truth, "slice"))
    assert slices >= {"ordinary", "elderly", "new_number", "elsewhere", *TRADES, *OUTFITS}
    assert set(POPULATIONS) == {*TRADES, *OUTFITS}


def test_truth_agrees_with_itself(world):
    truth = world.truth
    nuisance = truth["nuisance"].to_numpy()
    assert set(words(truth, "slice")[nuisance]) == NUISANCE
    assert not set(words(truth, "slice")[~nuisance]) & NUISANCE
    for column in ("content", "mode", "campaign"):
        assert ((words(truth, column) != None) == nuisance).all(), column  # noqa: E711
    assert set(words(truth, "mode")[nuisance]) == {"human", "recording", "one_ring"}
    bad = dict(zip(words(world.numbers, "number"), words(world.numbers, "nuisance"), strict=True))
    assert [bad[number] for number in words(world.calls, "caller")] == nuisance.tolist()


def test_nuisance_is_rare_and_its_campaigns_come_and_go(town):
    nuisance = town.truth["nuisance"].to_numpy()
    assert 0.02 < nuisance.mean() < 0.08
    campaign = words(town.truth, "campaign")[nuisance]
    start = moments(town.calls, "start")[nuisance]
    first = {name: start[campaign == name].min() for name in set(campaign)}
    week_before_last = int(town.facts["end"]) - 14 * 24 * HOUR
    unseen = [name for name, moment in first.items() if moment > week_before_last]
    assert len(unseen) >= 5
    assert len(first) - len(unseen) >= 5


def test_devices_and_trunks_are_a_campaigns_own(town):
    nuisance, campaign = town.truth["nuisance"].to_numpy(), words(town.truth, "campaign")
    for column in ("device", TRUNK):
        things = words(town.calls, column)
        innocent = set(things[~nuisance]) - {None}
        owner = {}
        for name, thing in zip(campaign[nuisance], things[nuisance], strict=True):
            if thing is not None:
                assert thing not in innocent
                assert owner.setdefault(thing, name) == name
        assert owner
    ordinary = words(town.truth, "slice") == "ordinary"
    assert set(words(town.calls, TRUNK)[ordinary]) == {None}


def test_blocks_are_mostly_apart(town):
    """Some campaigns sit among subscribers, most do not."""
    numbers = words(town.numbers, "number")
    nuisance = words(town.numbers, "nuisance").astype(bool)
    mobile = np.array([text[0] == "1" and len(text) == 11 for text in numbers])
    innocent = {text[:7] for text in numbers[mobile & ~nuisance]}
    shared = [text[:7] in innocent for text in numbers[mobile & nuisance]]
    assert 0.02 < np.mean(shared) < 0.6
    assert len(innocent) > 100


def test_campaigns_rotate_their_numbers(town):
    """TouchPal, 2016: a nuisance number lives 6.6 days; the world's edges cut some lives short."""
    numbers = town.numbers
    bad = words(numbers, "nuisance").astype(bool)
    assert np.unique(words(numbers, "campaign")[bad], return_counts=True)[1].max() >= 4
    life = (moments(numbers, "active_to") - moments(numbers, "active_from"))[bad] / (24 * HOUR)
    assert 2 < life.mean() < 11


def test_one_ring_callers_hang_up_at_once(town):
    rows = words(town.truth, "slice") == "one_ring"
    missed = words(town.calls, "outcome")[rows] == "no_answer"
    assert missed.mean() > 0.5
    assert (town.calls["ring"].to_numpy()[rows][missed] < 4).mean() > 0.97


def test_some_people_call_back(town):
    """A missed call of a nuisance number is sometimes returned, by a call that is nobody's nuisance."""
    bad = set(words(town.numbers, "number")[words(town.numbers, "nuisance").astype(bool)])
    returned = np.array([number in bad for number in words(town.calls, "callee")])
    assert returned.sum() > 20
    assert not town.truth["nuisance"].to_numpy()[returned].any()


def test_reports_concern_real_calls_and_arrive_later(town):
    reports, calls = town.reports, town.calls
    call = reports["call"].to_numpy()
    assert reports.num_rows > 50
    assert (words(calls, "caller")[call] == words(reports, "number")).all()
    assert (words(calls, "callee")[call] == words(reports, "reporter")).all()
    assert (moments(reports, "at") >= ends(calls)[call]).all()
    delay = moments(reports, "known_at") - moments(reports, "at")
    assert (delay >= 60_000).all()
    assert delay.min() < 6 * HOUR
    assert delay.max() > 7 * 24 * HOUR
    assert (np.diff(moments(reports, "known_at")) >= 0).all()


def test_reports_are_rare_and_a_fifth_are_mistaken(town):
    truth = town.truth["nuisance"].to_numpy()
    call = town.reports["call"].to_numpy()
    assert 0.1 < 1 - truth[call].mean() < 0.3
    assert len(call) < 0.1 * truth.sum()
    bad = words(town.numbers, "number")[words(town.numbers, "nuisance").astype(bool)]
    reported = set(words(town.reports, "number"))
    assert 0.05 < np.mean([number in reported for number in bad]) < 0.8
    category = set(words(town.reports, "category"))
    assert {"courier", "not_nuisance", "fraud"} <= category


def test_findings_tell_the_truth(town):
    bad = dict(zip(words(town.numbers, "number"), words(town.numbers, "nuisance"), strict=True))
    assert [bad[number] for number in words(town.findings, "number")] == town.findings["nuisance"].to_pylist()
    assert 0 < np.mean(town.findings["nuisance"].to_numpy()) < 0.5
    assert (moments(town.findings, "known_at") > int(town.facts["start"])).all()


def test_no_rate_threshold_separates(town):
    """Calls of the last hour: a rule that stops 1 in 1,000 benign calls catches less than a third."""
    caller = codes(town.calls, "caller")
    start = moments(town.calls, "start") - int(town.facts["start"])
    nuisance = town.truth["nuisance"].to_numpy()
    key = (caller << 34) + start + HOUR
    order = np.argsort(key, kind="stable")
    count = np.empty(len(key), dtype=np.int64)
    count[order] = np.searchsorted(key[order], key[order]) - np.searchsorted(key[order], key[order] - HOUR)
    strict, loose = np.quantile(count[~nuisance], [0.999, 0.9])
    assert (count[nuisance] > strict).mean() < 0.34
    assert (count[nuisance] > loose).mean() > (count[~nuisance] > loose).mean(), "yet it is not worthless"


def test_look_alikes_overlap_with_telemarketers(town):
    """In volume, in diversity and in talk: the middle half of either reaches into the other's."""
    slices, caller = words(town.truth, "slice"), codes(town.calls, "caller")
    calls_of = {}
    for name in ("telemarketer", "customer_service"):
        rows = slices == name
        day = (moments(town.calls, "start")[rows] - int(town.facts["start"])) // (24 * HOUR)
        calls_of[name] = np.unique(caller[rows] * 1000 + day, return_counts=True)[1]
    for one, other in (("telemarketer", "customer_service"), ("customer_service", "telemarketer")):
        low, high = np.quantile(calls_of[one], [0.05, 0.95])
        assert low < np.median(calls_of[other]) < high
    talk, answered = town.calls["talk"].to_numpy(), words(town.calls, "outcome") == "answered"
    median = {name: np.median(talk[answered & (slices == name)]) for name in ("courier", "telemarketer")}
    assert 0.5 < median["courier"] / median["telemarketer"] < 2


def test_ordinary_talk_is_like_the_real(town):
    """Quantiles of 5 M real records: 7, 17, 34, 73 and 282 s."""
    rows = (words(town.truth, "slice") == "ordinary") & (words(town.calls, "outcome") == "answered")
    drawn = np.quantile(town.calls["talk"].to_numpy()[rows], [0.05, 0.25, 0.5, 0.75, 0.95])
    assert (np.abs(np.log(drawn / [7, 17, 34, 73, 282])) < 0.2).all()


def test_a_population_switched_off_disturbs_no_other(world, tmp_path):
    text = "[outfits.low_and_slow]\ncalls_per_1000 = 0.0\n"
    without = simulate(scenario_of(tmp_path, text), 1, "tiny")
    assert "low_and_slow" not in set(words(without.truth, "slice"))
    for name in ("courier", "robot", "fraud_ring"):
        before = moments(world.calls, "start")[words(world.truth, "slice") == name]
        after = moments(without.calls, "start")[words(without.truth, "slice") == name]
        assert len(np.intersect1d(before, after)) > 0.98 * len(before)


def test_a_scenario_overrides(tmp_path):
    scenario = scenario_of(tmp_path, "[sizes.tiny]\ndays = 9\n[people.manner]\nanswer_share = 0\n")
    world = simulate(scenario, 1, "tiny")
    assert int(world.facts["end"]) - int(world.facts["start"]) == 9 * 24 * HOUR
    assert scenario.table("sizes.tiny")["subscribers"] == load_scenario().table("sizes.tiny")["subscribers"]
    assert world.facts["scenario"] != load_scenario().fingerprint
    friends = words(world.truth, "slice") == "elsewhere"
    assert (words(world.calls, "outcome")[friends] == "answered").mean() < 0.35


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[people]\nsociable = 1.0", "unknown key people.sociable"),
        ("[outfit.robot]\nrate = 3", "unknown key outfit"),
        ("[people.manner.ring]\nmedian = '8'", "people.manner.ring.median must be a number, got '8'"),
        ("[sizes.tiny]\ndays = 2.5", "sizes.tiny.days must be a whole number"),
        ("[sizes.tiny]\ndays = 0", "sizes.tiny.days must be 1 or more"),
        ("[sizes]\ntiny = 3", "sizes.tiny must be a table"),
        ("[outfits.robot]\nnuisance = 1", "outfits.robot.nuisance must be true or false"),
        ("[people.manner]\nanswer_share = 1.2", "people.manner.answer_share must be between 0 and 1"),
        ("[people]\nreach_sigma = -1.0", "people.reach_sigma must be 0 or more"),
        ("[people]\nreach_sigma = nan", "people.reach_sigma must be 0 or more"),
        ("[work.courier]\nhours = [8.0, 19.0]", "work.courier.hours must hold 4 values, got 2"),
        ("[work.courier]\nhours = [8.0, 19.0, 'noon', 13.0]", "work.courier.hours must be a number"),
        ("[calendar]\nholidays = ['May']", "calendar.holidays must be a list of dates"),
        ("[calendar]\nstart = 'Monday'", "calendar.start must be a date"),
        ("people = ", "not a TOML file"),
    ],
)
def test_bad_scenarios_are_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(ValueError, match=r"scenario\.toml") as caught:
        scenario_of(tmp_path, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="size must be one of tiny, small, town, city, got 'huge'"):
        simulate(load_scenario(), 1, "huge")


def test_progress_runs_to_the_end():
    told = []
    simulate(load_scenario(), 1, "tiny", progress=lambda part, what: told.append((part, what)))
    parts = [part for part, _ in told]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0.0, 1.0)


def test_keyed_world_goes_to_disk_without_a_number(world, tmp_path):
    keyed = keyed_world(world, Intake(Key("e1", bytes(range(32)))))
    assert keyed.calls.column_names == [*KEYED_COLUMNS, "call"]
    assert set(words(keyed.reports, "number")) <= set(words(keyed.calls, "caller"))
    assert set(words(keyed.findings, "number")) <= set(words(keyed.numbers, "number"))
    write_world(keyed, tmp_path / "world")
    again_ = read_world(tmp_path / "world")
    for name in TABLES:
        assert getattr(again_, name).equals(getattr(keyed, name)), name
        text = as_bytes(getattr(again_, name))
        for number in world.calls["caller"].combine_chunks().dictionary.to_pylist()[:200]:
            assert number.encode() not in text
    assert again_.facts == world.facts
    assert sorted(path.name for path in (tmp_path / "world").iterdir()) == sorted(
        [*(f"{name}.parquet" for name in TABLES), "world.json"]
    )


def test_a_raw_world_is_not_written_and_half_a_world_not_read(world, tmp_path):
    with pytest.raises(ValueError, match="keyed calls only"):
        write_world(world, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    with pytest.raises(ValueError, match=r"not a whole world, without world\.json"):
        read_world(tmp_path)


def test_running_sums_start_anew_in_each_group():
    counts = np.array([2, 0, 3])
    assert running_sum(np.array([5, 1, 2, 3, 4]), counts).tolist() == [0, 5, 0, 2, 5]


def test_redials_stay_with_their_dialler():
    rng = np.random.default_rng(0)
    who = np.repeat([0, 1], 500)
    callee = np.arange(1000, dtype=np.int32)
    redialled = again(rng, who, callee, 0.5)
    assert 0.3 < (redialled != callee).mean() < 0.6
    assert ((redialled >= 500) == (who == 1)).all()
    assert (redialled <= callee).all()


def test_each_population_has_a_stream_of_its_own():
    first = {name: stream(1, name).random() for name in (*POPULATIONS, "people", "ties", "lists", "records")}
    assert len(set(first.values())) == len(first)
    assert stream(1, "robot").random() == first["robot"] != stream(2, "robot").random()


def test_lines_do_not_depend_on_how_many_calls_are_done_at_once(world, monkeypatch):
    monkeypatch.setattr("callsieve.training.world.lines.CALLS_AT_ONCE", 7000)
    assert as_bytes(simulate(load_scenario(), 1, "tiny").calls) == as_bytes(world.calls)
