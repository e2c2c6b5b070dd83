"""Adapts the shipped model to other networks by checks that are answered from the truth, and judges it on later days.

python -m tests.bench.robustness.bench_adapt FOLDER... [--checks 20,50,200] [--draws 10] [--days 22]
python -m tests.bench.robustness.bench_adapt --simulator SCRIPT --seeds 51,52 [--people 6000] [--picture FILE] [--json]

Each folder has calls.parquet (the layout `callsieve`) and truth.parquet (number, slice, nuisance), or is a simulated
world of the project. A script of another simulator writes such folders: for each seed one as it is, one without calls
to organisations (`--outgoing`), and one where hardly anybody calls back (`--no-callbacks`).

The calls of the first days, and complaints about 2 % of their answered nuisance calls (of a simulated world its own),
are what the owner has. An eighth of the checks are second looks; 5 % of the asked callers are not answered, and 2 % of
the answers are wrong.

Judged are the calls of the later days: innocent calls flagged in 10,000 and the share of nuisance calls caught, for the
base with its own threshold, for the base's ranking with the threshold that the checks give, and for the adapted model.
Neither threshold nor labels saw these days. The bound that the checks state is compared with the truth of their own
days. The picture shows the share caught by the number of checks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from callsieve.features.arrays import Array
from callsieve.features.files.dates import DAY
from callsieve.features.intake.intake import Intake
from callsieve.features.keys.tokens import Key
from callsieve.features.online.feeds import COMPLETE, feed_of_table
from callsieve.serving.bundle.metadata import Band, Certificate
from callsieve.training.adapt.adapting import side
from callsieve.training.adapt.asking import draw, second_looks
from callsieve.training.adapt.base import Base, read_base
from callsieve.training.adapt.choice import BELOW_EVEN, Basis, Choice, choose_model, weights_of, with_thresholds
from callsieve.training.adapt.network import Network, allowed_calls, score_network
from callsieve.training.data.dataset import Dataset, read_dataset
from callsieve.training.data.feeds import vectors_on
from callsieve.training.data.ingest import OwnFile, key_own_files
from callsieve.training.evidence.callers import ANSWER, Callers, posterior
from callsieve.training.model.matrix import feature_columns
from callsieve.training.model.scores import score_rows
from callsieve.training.model.settings import TARGET, Settings
from callsieve.training.model.trees import read_forest
from tests.bench.harness import parser_of, show
from tests.support.paths import ROOT

COMPLAINTS, DELAY_DAYS = 0.02, 1.0  # share of the answered nuisance calls that are complained about, and when
UNANSWERED, WRONG = 0.05, 0.02
REACH = 6.0  # log-odds below the score at which both kinds are equally likely
A_TENTH = 0.1
FORMS = ("", "--outgoing", "--no-callbacks")
LABELS = {
    "": "a network of another simulator",
    "outgoing": "without calls to organisations",
    "no-callbacks": "where hardly anybody calls back",
}
SECOND = 8  # one check in so many is a second look
NO_CERTIFICATE = Certificate("evidence", 0, 0, 1.0, 0.95, TARGET, False)


@dataclass(frozen=True, slots=True)
class Later:
    """The calls of the days that judge: vectors, scores by the base, and the truth."""

    X: Array
    raw: Array
    nuisance: Array

    def figures(self, raw: Array, threshold: float) -> dict[str, float]:
        """Returns innocent calls flagged in 10,000, the share of nuisance caught, and that of the best threshold."""
        flagged, bad = raw >= threshold, self.nuisance
        edge = np.sort(raw[~bad])[::-1][int(TARGET * (~bad).sum())]
        return {
            "flagged_in_10000": float(flagged[~bad].mean() * 1e4),
            "caught": float(flagged[bad].mean()),
            "caught_in_hindsight": float((raw[bad] > edge).mean()),
        }


def main() -> None:
    """Prints the figures of each folder: of every draw, and their mean and extremes."""
    parser = parser_of(
        __doc__, checks="200", draws=10, days=22, wrong=WRONG, simulator="", seeds="", people=6000, picture="",
        json=False,
    )  # fmt: skip
    parser.add_argument("folders", nargs="*", type=Path)
    options = parser.parse_args()
    base, counts = read_base(), [int(count) for count in options.checks.split(",")]
    with tempfile.TemporaryDirectory() as work:
        folders = options.folders
        if options.simulator:
            folders += networks(options.simulator, options.people, options.seeds.split(","), Path(work))
        report = {
            folder.name: adapted(folder, base, counts, options.draws, options.days, options.wrong) for folder in folders
        }
    if options.picture:
        draw_curve(report, Path(options.picture))
    show(report, as_json=options.json)


def networks(script: str, people: int, seeds: Sequence[str], work: Path) -> list[Path]:
    """Returns the folders that a script of another simulator writes: three forms of each seed."""
    folders = []
    for seed in seeds:
        for form in FORMS:
            folder = work / f"{seed} {form}".strip().replace("--", "")
            options = ["--people", str(people), "--seed", seed, *([form] if form else [])]
            subprocess.run([sys.executable, script, str(folder), *options], check=True, stdout=subprocess.DEVNULL)
            folders.append(folder)
    return folders


def adapted(folder: Path, base: Base, counts: Sequence[int], draws: int, days: int, wrong: float) -> dict[str, Any]:
    """Returns the figures of a folder: of the base, and for each number of checks those of its draws."""
    with tempfile.TemporaryDirectory() as work:
        dataset, truth, bad = network_of(folder, Path(work))
    settings = replace(Settings(), features=base.bundle.features)
    start = dataset.calls["start"].to_numpy()
    end = int(start.min()) + days * DAY
    early = replace(
        dataset,
        calls=dataset.calls.slice(0, int((start < end).sum())),
        complaints=dataset.complaints[dataset.complaints["known_at"] < pd.Timestamp(end, unit="ms", tz="UTC")],
    )
    recorded = feed_of_table(early.calls)
    network = score_network(early, settings, base, recorded)
    base = base.at_level(recorded, network.raw)
    later = later_calls(dataset, np.flatnonzero((start >= end) & (bad >= 0)), bad, settings, base, recorded)
    nuisance = np.array([truth.get(token, 0) == 1 for token in network.callers.token])
    bands = base.bands(recorded)
    report: dict[str, Any] = {"records": recorded, "innocent_calls": int((~later.nuisance).sum())}
    report["base"] = later.figures(later.raw, threshold_of(None, bands))
    report["checks"] = {
        str(checks): {"draws": [
            one_draw(network, nuisance, later, settings, base.even_score(recorded), checks, seed, wrong, bands)
            for seed in range(draws)
        ]}
        for checks in counts
    }  # fmt: skip
    return report


def draw_curve(report: Mapping[str, Any], file: Path) -> None:
    """Draws the share of nuisance calls caught by the number of checks: mean and range of the draws."""
    import matplotlib.pyplot as plt

    plt.style.use(ROOT / "notebooks/callsieve.mplstyle")
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    for name, network in report.items():
        counts = [0, *map(int, network["checks"])]
        draws = [
            [network["base"]["caught"]],
            *([row["adapted"]["caught"] for row in item["draws"]] for item in network["checks"].values()),
        ]
        low, mean, high = ([100 * float(figure_of(row)) for row in draws] for figure_of in (np.min, np.mean, np.max))
        form = name.partition(" ")[2]
        (line,) = axes.plot(range(len(counts)), mean, marker="o", markersize=4, label=LABELS.get(form, form))
        axes.fill_between(range(len(counts)), low, high, alpha=0.15, color=line.get_color())
        axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set(xlabel="numbers checked", ylabel="nuisance calls caught, %", ylim=(0, 101))
    axes.legend(loc="lower right")
    figure.savefig(file, metadata={"Date": None})


def network_of(folder: Path, work: Path) -> tuple[Dataset, Mapping[str, int], Array]:
    """Returns the keyed calls and complaints of a folder without its truth, the truth of each caller's token, and of
    each call: 1 for nuisance, 0 for innocent, -1 where it is not known.

    A caller counts as nuisance if a tenth of its calls are: not a platform's relay number, of whose calls few are.
    """
    written = pd.read_parquet(folder / "truth.parquet")
    if "number" not in written:
        world = read_dataset(folder)
        assert world.truth is not None
        callers = world.calls["caller"].cast(pa.string()).to_pandas()
        nuisance = pd.Series(world.truth["nuisance"].to_numpy(zero_copy_only=False).astype(int))
        blind = replace(world, truth=None, findings=world.findings.iloc[:0])
        return blind, nuisance.groupby(callers).mean().ge(A_TENTH).astype(int).to_dict(), nuisance.to_numpy()
    truth = written.astype({"number": str}).set_index("number")["nuisance"]
    calls = pd.read_parquet(folder / "calls.parquet").drop_duplicates(["caller", "callee", "start"])
    rng = np.random.default_rng(1)
    bad = calls["caller"].astype(str).map(truth).eq(1) & calls["outcome"].eq("answered")
    reported = calls[bad & (rng.random(len(calls)) < COMPLAINTS)]
    known_at = reported["start"] + pd.to_timedelta(rng.exponential(DELAY_DAYS, len(reported)), unit="D")
    at, known = (moment.dt.strftime("%Y-%m-%dT%H:%M:%S+00:00") for moment in (reported["start"], known_at))
    table = {
        "reporter": reported["callee"], "number": reported["caller"], "at": at, "known_at": known, "category": "other",
    }  # fmt: skip
    pd.DataFrame(table).to_csv(work / "complaints.csv", index=False)
    calls.to_parquet(work / "calls.parquet", index=False)
    key = Key("e1", bytes(range(32)))  # the same tokens in each run
    files = {"complaints": OwnFile(work / "complaints.csv", "callsieve")}
    key_own_files(OwnFile(work / "calls.parquet", "callsieve"), key, work / "keyed", **files)
    intake = Intake(key)
    of_token = {str(intake.token("number", text)): int(nuisance) for text, nuisance in truth.items()}
    dataset = read_dataset(work / "keyed")
    of_call = dataset.calls["caller"].cast(pa.string()).to_pandas().map(of_token).fillna(-1).to_numpy(dtype=int)
    return dataset, of_token, of_call


def later_calls(dataset: Dataset, rows: Array, nuisance: Array, settings: Settings, base: Base, recorded: str) -> Later:
    """Returns the calls at `rows`, which judge; `nuisance` is the truth of all calls."""
    X = vectors_on(COMPLETE, dataset, settings.features, 0, rows).X
    columns, every = feature_columns(settings.features), np.ones(len(X), dtype=bool)
    raw = score_rows(base.forest(recorded), X, np.arange(len(X)), every, columns, 0)
    return Later(X[:, columns], raw, nuisance[rows] == 1)


def one_draw(
    network: Network,
    nuisance: Array,
    later: Later,
    settings: Settings,
    even: float,
    checks: int,
    seed: int,
    wrong: float,
    bands: Sequence[Band],
) -> dict[str, Any]:
    """Returns the figures of one draw of checks.

    Args:
        nuisance: the truth of each caller of the network, from which the checks are answered.
    """
    rng = np.random.default_rng(seed)
    probable = posterior(network.callers, network.highest, even)
    calls = network.scored(network.raw).above(even - BELOW_EVEN, len(probable))
    allowed = allowed_calls(network, probable, TARGET)
    again = checks // SECOND
    drawn = draw(calls, probable, allowed, checks - again, seed)
    draws = pd.DataFrame({"number": network.callers.token[drawn.caller], "probability": drawn.probability})
    checked = replace(network, callers=answered(network.callers, drawn.caller, nuisance, wrong, rng))
    expected = posterior(checked.callers.unanswered(), network.highest, even)
    places = second_looks(checked.callers, expected, calls, allowed, again)
    checked = replace(checked, callers=answered(checked.callers, places, nuisance, wrong, rng))
    probable = posterior(checked.callers, network.highest, even, np.isin(np.arange(len(probable)), drawn.caller))
    weights, who = weights_of(checked, probable, draws if len(draws) else None)
    basis = Basis(even, bands)
    choice, why = choose_model(checked, probable, weights, replace(settings, seed=seed), basis)
    alone = with_thresholds(checked, network.raw, probable, weights, basis)
    threshold = threshold_of(choice, bands)
    now = network.raw if choice is None else choice.raw
    stated = side(checked, now, [Band("certified", threshold, NO_CERTIFICATE)], probable, who)["bound"]
    raw = later.raw
    if choice is not None and choice.trees is not None:
        high = np.flatnonzero(raw > even - REACH)  # own trees lift no other call to a threshold
        vectors = np.ascontiguousarray(later.X[high], dtype=np.float64)
        raw = raw.copy()
        raw[high] += np.mean([read_forest(text).predict_raw(vectors, threads=2) for text in choice.trees.texts], axis=0)
    return {
        "why": why,
        "asked": len(drawn.caller) + len(places),
        "bound_in_10000": None if stated is None else stated * 1e4,
        "true_in_10000": float((now[~nuisance[network.caller]] >= threshold).mean() * 1e4),
        "innocent_answers": int((checked.callers.checked < 0).sum()),
        "threshold": later.figures(later.raw, alone.thresholds[0]),
        "adapted": later.figures(raw, threshold),
    }


def threshold_of(choice: Choice | None, bands: Sequence[Band]) -> float:
    """Returns the threshold of a choice; that of the base if it stays, infinity if the base has none."""
    if choice is not None:
        return choice.thresholds[0]
    return max(bands[0].threshold_for(word) for word in ("mobile", "fixed")) if bands else float("inf")


def answered(callers: Callers, places: Array, nuisance: Array, wrong: float, rng: np.random.Generator) -> Callers:
    """Returns the callers after checks at some places: a share is not answered, a share of the answers is wrong."""
    places = places[rng.random(len(places)) >= UNANSWERED]
    verdict = np.where(nuisance[places] ^ (rng.random(len(places)) < wrong), 1, -1)
    checked, looks, changed, evidence = (
        getattr(callers, name).copy() for name in ("checked", "looks", "changed", "evidence")
    )
    changed[places] |= (looks[places] > 0) & (np.sign(checked[places]) != verdict)
    checked[places] += verdict
    looks[places] += 1
    evidence[places] += ANSWER * verdict
    return replace(callers, checked=checked, looks=looks, changed=changed, evidence=evidence)


if __name__ == "__main__":
    main()
