"""The model card and the datasheet of a run, made from what the run itself says; an empty field fails.

Headings as in Mitchell et al., "Model cards for model reporting" (2019), and Gebru et al., "Datasheets for datasets"
(2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callsieve.features.files.folders import write_whole
from callsieve.training.judging.detection import QUANTILES

from .run_page import between, count, one_in, share, until

Sections = Mapping[str, Mapping[str, Any]]


def write_documents(figures: Mapping[str, Any], datasets: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """`model_card.md` and `datasheet.md` in a new folder.

    Args:
        datasets: as from `record.datasets`.
    Raises:
        ValueError: if a field has nothing to say.
    """
    pages = {
        "model_card": page(f"Model card: {figures['model']['id']}", model_card(figures)),
        "datasheet": page(f"Datasheet: {figures['data']['fingerprint'][:16]}", datasheet(figures, datasets)),
    }
    folder.mkdir()
    for name, text in pages.items():
        write_whole(folder / f"{name}.md", text.encode())


def page(title: str, sections: Sections) -> str:
    """Sections of fields as Markdown.

    Raises:
        ValueError: that names the first empty field.

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
                raise ValueError(f"{title}: {heading}: {name}: expected something to say, got nothing")
            lines.append(f"- **{name}**: {text}")
        lines.append("")
    return "\n".join(lines)


def model_card(figures: Mapping[str, Any]) -> Sections:
    """What the model is, what it is for, how good it is and where not."""
    model, data, head = figures["model"], figures["data"], figures["headline"]["model"]
    rates, detection = head["catch"]["call"], head["detection"]
    benign = [one for one in figures["slices"] if not one["nuisance"]]
    return {
        "Model details": {
            "Kind": f"LightGBM, trees by model: {_pairs(model['trees'])}; calibration: {model['calibration']}",
            "Features": f"{model['features']}, catalogue {figures['catalogue'][:16]}",
            "Looks most at": "; ".join(f"{one['en']} ({one['share']:.0%})" for one in model["top_features"][:5]),
            "Labels known until": figures["folds"]["label_cutoff"],
            "Gates": f"SHA-256 {figures['gates']['sha256']}, logged before the run",
        },
        "Intended use": {
            "For": "judging a call at ring time, as a label, a screen or a block that a policy file allows",
            "Not for": "finding against a person: a mark is no legal finding, and every verdict can be appealed",
            "Never blocks": "emergency and public-service numbers, and slices without a certificate of their own",
        },
        "Evaluation": {
            "Judged by": data["judged_by"],
            "Judged on": f"{count(figures['rows']['certify'])} calls, {data['judged_on']}",
            "Times the test fold was looked at": figures["gates"]["touches"],
        },
        "Measured": {
            "Benign calls flagged": f"{count(head['false_calls'])} of {count(head['benign_calls'])}; "
            f"at most {one_in(head['bound'])} (exact 95 % bound), target {one_in(head['target'])}",
            "Certified": "yes" if head["certified"] else "no: the model may label, it must not block",
            "Nuisance calls caught": f"{share(rates['rate'])}, 95 % interval over callers {share(rates['low'])} to "
            f"{share(rates['high'])}",
            "Calls until a new number is found": ", ".join(
                f"{word} {until(detection, word)} ({between(detection, word)})" for word in QUANTILES
            ),
            "Calibration error": share(figures["reliability"]["ece"], 2),
        },
        "Limits": {
            "Benign slices that are not certified": ", ".join(o["slice"] for o in benign if not o["certified"])
            or "none",
            "Benign slices that are certified": ", ".join(one["slice"] for one in benign if one["certified"]) or "none",
            "Depends on": "the mix of calls it was trained on; where nuisance is rarer, fewer flags are right",
            "Knows nothing of": "what was said, and any number that hides behind another one's",
        },
    }


def datasheet(figures: Mapping[str, Any], datasets: Mapping[str, Mapping[str, Any]]) -> Sections:
    """What the data are, where they come from, and what was done to them."""
    data, folds = figures["data"], figures["folds"]
    spans = {name: " to ".join(folds[name]) for name in ("train", "choose", "certify")}
    return {
        "Motivation": {"Purpose": "to learn and to judge which calls are nuisance by what was known before they rang"},
        "Composition": {
            "Source": data["source"],
            "Size": f"{count(data['calls'])} calls of {count(data['numbers'])} numbers in {count(data['days'])} days",
            "Share of nuisance": share(data["nuisance_share"], 2),
            "Tables": "; ".join(f"{name}: {count(one['rows'])} rows" for name, one in datasets.items()),
            "People": "numbers stand as keyed tokens; no content, contacts, precise places or identity numbers",
        },
        "Collection and labels": {
            "Known when": "an attempt at its start, an outcome at its end, a report or finding when it was filed",
            "Labels known until": folds["label_cutoff"],
            "Truth for judging": data["judged_by"],
        },
        "Preparation": {
            "Folds": "; ".join(f"{name} {span}" for name, span in spans.items()),
            "Kept apart": "callers that share a block, a trunk or a device are in one fold only",
            "Sampling": f"{_pairs(figures['rows'])} rows by use",
        },
        "Uses": {
            "Fit for": "training and judging on the same network; for another one, judge again on its own calls",
            "Biased by": "who reports: reports follow volume, handsets and habits, and some are malicious",
        },
        "Maintenance": {
            "Fingerprints (SHA-256)": "; ".join(f"{name} {one['sha256']}" for name, one in datasets.items()),
            "Erasure": "by the numbers' key epoch; the audit log's payloads can be erased one by one",
        },
    }


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count(value)}" for name, value in values.items())
