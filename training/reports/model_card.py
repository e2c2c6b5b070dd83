"""The model card and the datasheet of a run, made from its figures; an empty field is an error.

Headings follow Mitchell et al., "Model cards for model reporting" (2019), and Gebru et al., "Datasheets for datasets"
(2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from callsieve.features.files.atomic import write_atomic
from callsieve.training.judging.detection import QUANTILES
from callsieve.training.judging.figures import ModelFigures
from callsieve.training.judging.run_figures import DatasetEntry, RunFigures

from .run_page import between, count, one_in, share, until

Sections = Mapping[str, Mapping[str, object]]


def write_documents(figures: RunFigures, datasets: Mapping[str, DatasetEntry], folder: Path) -> None:
    """Writes `model_card.md` and `datasheet.md` into a new folder.

    Raises:
        ValueError: if a field is empty.
    """
    pages = {
        "model_card": page(f"Model card: {figures['model']['id']}", model_card(figures)),
        "datasheet": page(f"Datasheet: {figures['data']['fingerprint'][:16]}", datasheet(figures, datasets)),
    }
    folder.mkdir()
    for name, text in pages.items():
        write_atomic(folder / f"{name}.md", text.encode())


def page(title: str, sections: Sections) -> str:
    """Sections of fields as Markdown.

    Raises:
        ValueError: names the first empty field.

    >>> print(page("Card", {"Details": {"Seed": 0}}))
    # Card
    <BLANKLINE>
    ## Details
    <BLANKLINE>
    - **Seed**: 0
    <BLANKLINE>
    """
    lines = [f"# {title}", ""]
    for heading, fields in sections.items():
        lines += [f"## {heading}", ""]
        for name, value in fields.items():
            text = " ".join(str("" if value is None else value).split())
            if not text:
                raise ValueError(f"{title}: {heading}: {name}: expected a value, got an empty field")
            lines.append(f"- **{name}**: {text}")
        lines.append("")
    return "\n".join(lines)


LEARNT_FROM = {
    "labels": "labels as known at the label cutoff",
    "truth": "the truth of simulated calls, which no operator knows of real ones",
}


def kind_of(model: ModelFigures) -> str:
    """Returns the kind of a model in words."""
    trees = f"trees by model: {_pairs(model['trees'])}; " if model["trees"] else ""
    kind = f"own estimator {model['estimator']}" if model["estimator"] else "LightGBM"
    return f"{kind}, {trees}calibration: {model['calibration']}"


def model_card(figures: RunFigures) -> Sections:
    """Returns the fields of the model card: details, use, evaluation, measured figures and limits."""
    model, data, head = figures["model"], figures["data"], figures["headline"]["model"]
    looks, registered = figures["gates"]["touches"], figures["gates"]["registered"]
    refused = figures["gates"]["refused"]
    catch, detection = head["catch"]["call"], head["detection"]
    benign = [row for row in figures["slices"] if not row["nuisance"]]
    return {
        "Model details": {
            "Kind": kind_of(model),
            "Features": f"{model['features']}, catalogue {figures['catalogue'][:16]}",
            "Most important features": "; ".join(
                f"{feature['en']} ({feature['share']:.0%})" for feature in model["top_features"][:5]
            )
            or "not measured: the estimator is not LightGBM",
            "Learnt from": LEARNT_FROM[data["learn_from"]],
            "Folders of calls": data["folders"],
            "Label cutoff": figures["folds"]["label_cutoff"],
            "Gates": f"SHA-256 {figures['gates']['sha256']}, logged before the run",
        },
        "Intended use": {
            "For": "judging a call at ring time; a policy file decides whether it is labelled, screened or blocked",
            "Not for": "decisions against a person: a flag is not a legal finding, and every verdict can be appealed",
            "Never blocks": "emergency and public-service numbers, and number classes without a certificate",
        },
        "Evaluation": {
            "Judged by": data["judged_by"],
            "Judged on": f"{count(figures['rows']['certify'])} calls, {data['judged_on']}",
            "Looks at the test fold": f"{looks}" if registered else f"{looks}, by this audit log alone",
        },
        "Measured": {
            "Benign calls flagged": f"{count(head['false_calls'])} of {count(head['benign_calls'])}; "
            f"at most {one_in(head['bound'])} (exact 95 % bound), target {one_in(head['target'])}",
            "Certified": ("yes" if head["certified"] else "no: the model may label calls, but must not block them")
            + (f"; refused by gates on {', '.join(refused)}, so not promoted" if refused else ""),
            "Certified on records that lack": _names(
                [name for name, feed in figures["feeds"].items() if feed["certified"]]
            ),
            "Nuisance calls caught": f"{share(catch['rate'])}, 95 % interval over callers {share(catch['low'])} to "
            f"{share(catch['high'])}",
            "Calls until a new nuisance number is detected": ", ".join(
                f"{quantile} {until(detection, quantile)} ({between(detection, quantile)})" for quantile in QUANTILES
            ),
            "Calibration error": share(figures["reliability"]["ece"], 2),
        },
        "Limits": {
            "Benign slices that are not certified": _names([row["slice"] for row in benign if not row["certified"]]),
            "Benign slices that are certified": _names([row["slice"] for row in benign if row["certified"]]),
            "Depends on": "the share of nuisance in the training data; where nuisance is rarer, precision is lower",
            "Does not use": "the content of a call, and the caller's true number where another number is shown",
        },
    }


def datasheet(figures: RunFigures, datasets: Mapping[str, DatasetEntry]) -> Sections:
    """Returns the fields of the datasheet: composition, collection, preparation, uses and maintenance of the data."""
    data, folds = figures["data"], figures["folds"]
    spans = {"train": folds["train"], "choose": folds["choose"], "certify": folds["certify"]}
    return {
        "Motivation": {
            "Purpose": "to train and judge a detector of nuisance calls that uses what is known at ring time"
        },
        "Composition": {
            "Source": data["source"],
            "Size": f"{count(data['calls'])} calls of {count(data['numbers'])} numbers in {count(data['days'])} days",
            "Share of nuisance": share(data["nuisance_share"], 2),
            "Tables": "; ".join(f"{name}: {count(entry['rows'])} rows" for name, entry in datasets.items()),
            "People": "numbers are keyed tokens; no call content, contacts, precise locations or identity numbers",
        },
        "Collection and labels": {
            "Known when": "a call at its start, its outcome at its end, a complaint or finding when it was filed",
            "Label cutoff": folds["label_cutoff"],
            "Truth for judging": data["judged_by"],
        },
        "Preparation": {
            "Folds": "; ".join(f"{name} {' to '.join(span)}" for name, span in spans.items()),
            "Groups": "callers that share a block, a trunk, a device or a campaign are in one fold only",
            "Sampling": f"{_pairs(figures['rows'])} rows by use",
        },
        "Uses": {
            "Fit for": "training and judging on the same network; on another network, judge again on its own calls",
            "Biased by": "who complains: complaints depend on call volume, handsets and habits, and some are malicious",
        },
        "Maintenance": {
            "Fingerprints (SHA-256)": "; ".join(f"{name} {entry['sha256']}" for name, entry in datasets.items()),
            "Erasure": "by the key epoch of the numbers; payloads of the audit log can be erased one by one",
        },
    }


def _names(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {count(value)}" for name, value in values.items())
