"""Sentences with figures, one function a claim, made of the JSON that the claim's command prints.

Shares are in whole per cent. Lists are in the order of their worlds, weeks or seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean, median
from typing import Any, NamedTuple

from callsieve.training.model.certify import upper_bound
from callsieve.training.reports.run_page import between, until

Output = Mapping[str, Any]
EIGHT_MONTHS, MARCH = "sichuan_eight_months.parquet", "sichuan_march_calls.parquet"
ONE_SIDED = "95 %, one-sided, exact"
MODEL, REGRESSION, RULE = "model", "logistic regression", "rule"


class Statement(NamedTuple):
    """A sentence, and the interval or bound of its first figure, if it has one."""

    text: str
    interval: str = ""


def catalogue(output: Output) -> list[Statement]:
    """Number of features."""
    reported = sum("reported" in feature["name"] for feature in output["features"])
    return [
        Statement(f"{len(output['features']) - reported} features over six histories"),
        Statement(f"{reported} more of earlier reports"),
    ]


def install(output: Output) -> list[Statement]:
    """Size and import time of the base install."""
    return [
        Statement(f"the base install takes {output['megabytes']:.0f} MB"),
        Statement(
            f"it is imported in {output['import_milliseconds']:.0f} ms",
            f"{output['import_least']:.0f}-{output['import_most']:.0f} ms over 5 imports",
        ),
    ]


def demo(output: Output) -> list[Statement]:
    """Catch, false positives and time to detection in the demonstration."""
    head, baselines = output["headline"]["model"], output["baselines"]
    regression = baselines[REGRESSION]["catch"]["call"]["rate"]
    catch = {name: percent(head["catch"]["call"][name]) for name in ("rate", "low", "high")}
    interval = f"{catch['low']}-{catch['high']} %"
    ways = {name: way["detection"] for name, way in (output["headline"] | baselines).items() if "detection" in way}
    model, regression_ways, rule = (ways[name] for name in (MODEL, REGRESSION, RULE))
    return [
        Statement(f"of seed 1, {output['data']['calls'] / 1e6:.1f} million calls"),
        Statement(
            f"{head['false_calls']:,} of {head['benign_calls']:,}, proven: at most {1e4 * head['bound']:.2f} in 10,000",
            ONE_SIDED,
        ),
        Statement(f"{catch['rate']} % of its {output['ranking']['nuisance']:,} ({interval})", interval),
        Statement(f"{percent(regression)} % of those"),
        Statement(
            f"of {model['callers']:,} nuisance numbers that came later it finds {soon(model)} % within ten calls, and "
            f"stops {stopped(model)} % of their calls; the regression {soon(regression_ways)} % and "
            f"{stopped(regression_ways)} %, the rule on calls per hour {soon(rule)} % and "
            f"{stopped(rule)} %",
            f"{percent(model['soon_low'])}-{percent(model['soon_high'])} %",
        ),
        calls_until_found(model),
    ]


def town(output: Output) -> list[Statement]:
    """Catch, false positives and time to detection in a larger world."""
    (line,) = output["lines"]
    (ways,) = output["lives"].values()
    model, regression_ways, rule = (ways[name] for name in (MODEL, REGRESSION, RULE))
    bound = upper_bound(line["false_calls"], line["benign_calls"])
    interval = f"{percent(line['low'])}-{percent(line['high'])} %"
    kinds = line["innocent"]
    flagged = [
        f"{kind['flagged']:,} of {kind['calls']:,} calls of {name.replace('_', ' ')}"
        for name, kind in kinds.items()
        if kind["flagged"]
    ]
    return [
        Statement(
            f"{line['false_calls']:,} of the larger's {line['benign_calls']:,}: at most {1e4 * bound:.2f} in 10,000",
            ONE_SIDED,
        ),
        Statement(f"{percent(line['catch'])} % there ({interval})", interval),
        Statement(f"{percent(line[REGRESSION])} % of the larger's"),
        Statement(
            f"of {model['callers']:,} there it finds {soon(model)} % within ten calls, and stops {stopped(model)} %; "
            f"the regression {soon(regression_ways)} % and {stopped(regression_ways)} %, "
            f"the rule {soon(rule)} % and {stopped(rule)} %",
            f"{percent(model['soon_low'])}-{percent(model['soon_high'])} %",
        ),
        calls_until_found(model),
        Statement(
            f"kinds of innocent caller: {len(kinds)}, certified by themselves: "
            f"{sum(bool(kind['certified']) for kind in kinds.values())}",
            f"flagged: {listed(flagged) if flagged else 'none'}",
        ),
        Statement(
            f"the number class alone catches {percent(line['number class'])} % there, five counters "
            f"{percent(line['five counters'])} %, and a list of reported numbers {percent(line['reputation list'])} %"
        ),
        Statement(f"trained and judged in {line['seconds']:.0f} s and {line['peak_gib']:.1f} GiB"),
    ]


def worlds(output: Output) -> list[Statement]:
    """Catch and false positives over worlds of several seeds, and of models on the calls of other worlds."""
    lines, middle, ways = output["lines"], output["middle"], output["lives"].values()
    catches = [line["catch"] for line in lines]
    regression = sorted(line[REGRESSION] for line in lines)
    elsewhere = middle["elsewhere_false_per_10000"]
    in_hindsight = {name: median(line["in_hindsight"][name] for line in lines) for name in (MODEL, REGRESSION)}
    return [
        Statement(f"{middle['certified']} of these certified"),
        Statement(
            f"{percents(catches)} %, the middle being {percent(median(catches))} %",
            f"{percent(min(catches))}-{percent(max(catches))} %",
        ),
        Statement(
            f"{percent(regression[0])}-{percent(regression[-1])} %, in the middle {percent(median(regression))} %"
        ),
        Statement(
            f"in the five others {listed(soon(way[MODEL]) for way in ways)} % within ten calls, the regression "
            f"{listed(soon(way[REGRESSION]) for way in ways)} %, and {listed(stopped(way[MODEL]) for way in ways)} % "
            f"of their calls are stopped, by the regression {listed(stopped(way[REGRESSION]) for way in ways)} %"
        ),
        Statement(
            f"the regression is certified in {sum(line['baselines_certified'][REGRESSION] for line in lines)} of these "
            "worlds"
        ),
        Statement(f"{listed(f'{rate:.1f}' for rate in elsewhere)} in 10,000, in the mean {fmean(elsewhere):.1f}"),
        Statement(f"{percent(median(middle['elsewhere_catch']))} % elsewhere"),
        Statement(
            f"callsieve catches {percent(in_hindsight[MODEL])} % in the middle of the five, the regression "
            f"{percent(in_hindsight[REGRESSION])} %"
        ),
    ]


def calls_until_found(detection: Output) -> Statement:
    """Calls that a nuisance number makes before the model finds it: lower bounds, with intervals."""
    floors = {word: f"{detection[f'{word}_floor'] or 0:,}" for word in ("median", "p90")}
    return Statement(
        f"calls until half of them are found, at least {floors['median']}, and until nine in ten are, at least "
        f"{floors['p90']}",
        f"{until(detection, 'median')} ({between(detection, 'median')}), and {until(detection, 'p90')} "
        f"({between(detection, 'p90')})",
    )


def first_days(output: Output) -> list[Statement]:
    """Innocent calls above the threshold on the first day of a history, and on the eighth."""
    days = {day["day"]: day for day in output["days"]}
    rates = {day: f"{1e4 * days[day]['reach_the_band'] / days[day]['innocent']:.1f}" for day in (1, 8)}
    counts = {day: f"{days[day]['reach_the_band']:,} of {days[day]['innocent']:,}" for day in (1, 8)}
    return [
        Statement(
            f"on the first day that it knows, {rates[1]} of 10,000 innocent calls would reach the band of the "
            f"demonstration's model, on the eighth {rates[8]}",
            f"{counts[1]}, and {counts[8]}",
        )
    ]


def ageing(output: Output) -> list[Statement]:
    """Catch by week of a model that is trained once, and of one that is trained anew each week."""
    periods, ways = output["periods"], ("once", "anew")

    def rates(way: str, target: str) -> str:
        return percents(period[way][target]["call"]["rate"] for period in periods)

    def means(area: str) -> str:
        return " and ".join(percent(output[area][way]) for way in ways)

    flagged = [f"{sum(period[way]['false_calls'] for period in periods):,}" for way in ways]
    return [
        Statement(
            f"trained once, of nuisance calls of unseen groups {rates('once', 'unseen')} % are caught week by week, "
            f"trained anew each week {rates('anew', 'unseen')} %",
            f"in the mean {means('area_under_time')} %",
        ),
        Statement(
            f"at 1 in 10,000 of each week's own innocent calls {rates('once', 'at_target')} % and "
            f"{rates('anew', 'at_target')} %",
            f"in the mean {means('area_at_target')} %",
        ),
        Statement(
            f"innocent calls flagged in these weeks: {' and '.join(flagged)} of "
            f"{sum(period['once']['benign_calls'] for period in periods):,}"
        ),
    ]


def wrong_labels(output: Output) -> list[Statement]:
    """Catch and certificates of trainings on wrong labels."""
    faults = {fault["fault"]: fault for fault in output["faults"]}
    clean = faults["clean"]
    flips = [fault for name, fault in faults.items() if name.endswith("flipped")]
    collusion = next(fault for name, fault in faults.items() if name.endswith("collude"))
    silence = faults["no reports"]

    def catches(*group: Output) -> str:
        return percents(fault["catch_at_target"]["mean"] for fault in group)

    def change(fault: Output) -> str:
        values = (fault["change_at_target"][name] for name in ("mean", "low", "high"))
        mean, low, high = (f"{100 * (value or 0):+.0f}" for value in values)
        return f"{mean} ({low} to {high})"

    return [
        Statement(
            f"at 1 in 10,000 a training on clean labels catches {catches(clean)} %, with 5, 10 and 20 % of labels "
            f"flipped {catches(*flips)} %, with 1 % of reporters colluding {catches(collusion)} %, and without reports "
            f"{catches(silence)} %",
            f"changes in points, over {clean['worlds']} worlds: {'; '.join(map(change, (*flips, collusion, silence)))}",
        ),
        Statement(
            f"certified of {clean['worlds']} worlds: {clean['certified']} clean, "
            f"{listed(str(fault['certified']) for fault in flips)} flipped, {collusion['certified']} with collusion, "
            f"{silence['certified']} without reports"
        ),
        Statement(f"of {clean['worlds']} more, of a study of wrong labels, {clean['certified']} were"),
    ]


def real_callers(output: Output) -> list[Statement]:
    """Labelled calls in records of real callers."""
    samples = {sample["sample"]: sample for sample in output["subscribers"]}
    fraud, other = samples["fake_1"], samples["fake_2"]
    honest = [sample for name, sample in samples.items() if name.startswith("white")]
    students = output["copenhagen"]
    return [
        Statement(
            f"of {fraud['calls']:,} calls of a real fraud number it labels {fraud['labelled']}, the first being call "
            f"{fraud['first'] or 0}; of {other['calls']:,} of another one, which calls like a person, "
            f"{other['labelled']}; of {sum(sample['calls'] for sample in honest):,} of honest subscribers "
            f"{sum(sample['labelled'] for sample in honest)}; and of {students['calls']:,} of students in Copenhagen "
            f"{students['labelled']}"
        ),
        Statement(
            f"of {sum(output['reality']['no_threshold'].values()):,} calls of the Reality Mining Study it says nothing"
        ),
    ]


def other_models(output: Output) -> list[Statement]:
    """Labelled calls in the same records, by models of other worlds."""
    models = output["models"]
    fraud = [sample for model in models for sample in model["subscribers"] if sample["sample"] == "fake_1"]
    students = [model["copenhagen"] for model in models]
    return [
        Statement(
            f"models of {len(models)} other worlds label {listed(str(sample['labelled']) for sample in fraud)} of "
            f"those {fraud[0]['calls']:,}, and {listed(str(sample['labelled']) for sample in students)} of those "
            f"{students[0]['calls']:,}"
        )
    ]


def published_table(output: Output) -> list[Statement]:
    """Test measures of a training on the published Sichuan table."""
    test = output["test"]
    return [Statement(f"on the Sichuan table AUC {test['auc']:.3f}, macro F1 {test['macro_f1']:.3f}")]


def sichuan(output: Output) -> list[Statement]:
    """AUC on the Sichuan tables beside LightGBM's defaults, and the flaws of the tables."""
    idle, few, months, ratios, _ = (flaw["figures"] for flaw in output["flaws"])
    return [
        _beside_defaults("on eight months", output["tables"][EIGHT_MONTHS]),
        _beside_defaults("on calls of March", output["tables"][MARCH]),
        Statement(
            f"these tables flatter any model: {percent(idle[0])} % of fraud numbers and {percent(idle[1])} % of others "
            f"have no call in March, where the number of calls alone has AUC {few[0]:.2f}; months seen alone have AUC "
            f"{months[0]:.2f}; the best ratio {ratios[0]:.2f}, and {ratios[1]:.2f} among numbers seen in all months"
        ),
    ]


def _beside_defaults(where: str, table: Output) -> Statement:
    own, plain, stopped_early = (
        f"{model['auc']['mean']:.3f} ± {model['auc']['sd'] or 0:.3f}" for model in table["models"].values()
    )
    ahead, _ = table["auc_ahead_of"].values()
    return Statement(
        f"{where} AUC {own} over 5 splits, LightGBM as it comes {plain}, with early stopping {stopped_early}",
        f"{ahead['low'] or 0:+.4f} to {ahead['high'] or 0:+.4f} ahead of the first",
    )


def reach(output: Output) -> list[Statement]:
    """Share of complaints about numbers that a list of earlier complaints has already."""
    share = percent(output["churn"]["shares"]["90d_1"])
    return [Statement(f"a list of 90 days reaches {share} % of the next day's complaints")]


def soon(detection: Output) -> str:
    """Share of numbers that are found within their first calls."""
    return percent(detection["soon_share"])


def stopped(detection: Output) -> str:
    """Share of the numbers' calls that are stopped."""
    return percent(detection["stopped_share"])


def percent(rate: float | None) -> str:
    """A share in whole per cent; 0 for a share that was not measured.

    >>> percent(0.334), percent(None)
    ('33', '0')
    """
    return f"{100 * (rate or 0):.0f}"


def percents(rates: Iterable[float | None]) -> str:
    """A list of shares in whole per cent."""
    return listed(map(percent, rates))


def listed(words: Iterable[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["1", "2", "3"]), listed(["1"])
    ('1, 2 and 3', '1')
    """
    *first, last = words
    return " and ".join(filter(None, (", ".join(first), last)))
