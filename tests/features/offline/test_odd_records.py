"""Signs of records that were read in a wrong way: they reach the terminal, the figures and the page."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from callsieve.features.intake.text_columns import dictionary_decoded
from callsieve.features.offline import odd_records
from callsieve.features.online.feeds import COMPLETE, ONE_SITE
from callsieve.training.language import language, phrase


def with_hours(calls, hours):
    return calls.set_column(calls.schema.get_field_index("hour"), "hour", pa.array(hours, pa.int8()))


def behind(calls, by):
    """Returns calls with a clock that is `by` hours behind."""
    return with_hours(calls, (calls["hour"].to_numpy() - by) % 24)


def without(calls, begin, end):
    """Returns the calls that do not start in these hours."""
    hour = calls["hour"].to_numpy()
    return calls.filter(pa.array((hour < begin) | (hour >= end)))


def of_line(calls, share):
    """Returns calls with one caller in a share of them, which is a multiple of 0.1."""
    callers = dictionary_decoded(calls["caller"]).to_numpy(zero_copy_only=False)
    callers = np.where(np.arange(len(callers)) % 10 < round(10 * share), "line", callers)
    return calls.set_column(calls.schema.get_field_index("caller"), "caller", pa.array(callers))


@pytest.mark.parametrize(
    ("change", "feed", "signs"),
    [
        (lambda calls: calls, COMPLETE, []),
        (lambda calls: behind(calls, 8), COMPLETE, [r"times: [23]\d% of .* from 2 to 6 h, .* 18 to 22 h; "]),
        (lambda calls: behind(calls, -8), COMPLETE, ["times: 17% of .* 10 to 14 h; ", "times: hardly any"]),
        (lambda calls: without(calls, 0, 12), COMPLETE, ["times: hardly any call starts from 9 to 12 h"]),
        (lambda calls: without(calls, 12, 24), COMPLETE, ["times: hardly any call starts from 12 to 18 h"]),
        (lambda calls: without(calls, 12, 14), COMPLETE, []),  # a break at noon
        (lambda calls: of_line(calls, 0.4), COMPLETE, []),
        (lambda calls: of_line(calls, 0.8), COMPLETE, [r"lines: one line takes part in 8\d% of .* as 'complete'; "]),
        (lambda calls: of_line(calls, 0.8), ONE_SITE, []),
        (lambda calls: without(of_line(calls, 0.8), 12, 24), ONE_SITE, []),  # a site that is closed in the afternoon
        (lambda calls: behind(calls, 8).slice(0, odd_records.FEWEST_CALLS - 1), COMPLETE, []),
        (lambda calls: behind(calls.filter(pc.less(calls["day"], pc.add(pc.min(calls["day"]), 2))), 8), COMPLETE, []),
    ],
)  # fmt: skip
def test_calls_that_were_read_in_a_wrong_way_have_a_sign(world, change, feed, signs):
    calls = change(world.calls)
    batches = calls.to_batches(700)
    sentences = odd_records.odd_records(batches, calls.num_rows, lambda: feed)
    assert len(sentences) == len(signs) and all(map(re.match, signs, sentences)), sentences
    with language("zh"):
        assert not set(map(phrase, sentences)) & set(sentences)


@pytest.mark.system
def test_a_sign_is_on_the_terminal_in_the_figures_and_on_the_page(world_folder, run_command, tmp_path):
    folder, out = tmp_path / "behind", tmp_path / "adapted"
    shutil.copytree(world_folder, folder)
    calls = folder / "calls.parquet"
    pq.write_table(behind(pq.read_table(calls), 8), calls)
    commands = {
        "score": ("score", "--layout", "keyed", "--calls", calls),
        "dry run": ("train", "--data", folder, "--dry-run"),
        "adapt": ("adapt", "--data", folder, "--out", out, "--tracking-uri", f"sqlite:///{tmp_path}/m.db"),
    }
    for name, words in commands.items():
        code, shown, err = run_command(*words)
        assert code == 0 and "warning: times: " in shown, (name, err)
        if name != "adapt":
            (sign,) = json.loads(run_command(*words, "--json")[1])["odd_records"]
    assert sign in (out / "report.html").read_text()
