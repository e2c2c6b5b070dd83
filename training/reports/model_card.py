"""The model card and the datasheet of a run, made from its figures; an empty field is an error.

Headings follow Mitchell et al., "Model cards for model reporting" (2019), and Gebru et al., "Datasheets for datasets"
(2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from callsieve.features.files.atomic import write_atomic
from callsieve.features.online.feeds import lacks_of
from callsieve.training.evidence.funnel import Covered
from callsieve.training.judging.run_figures import DatasetEntry, ModelFigures, RunFigures
from callsieve.training.language import gettext, moment, phrase, table_name, words
from callsieve.training.oversight.log.gates import shipped_gates

from .before_after import check_rows, covered_rows, judged_rows, network_rows, too_few
from .headline_list import CAUGHT, CERTIFIED, FLAGGED, HEADLINE
from .wording import basis, by_organisation, count, in_markdown, meaning, missing, one_in, share

Sections = Mapping[str, Mapping[str, object]]


def write_documents(figures: RunFigures, datasets: Mapping[str, DatasetEntry], folder: Path) -> None:
    """Writes `model_card.md` and `datasheet.md`, in the language in force."""
    model, card, sheet = figures["model"]["id"], model_card(figures), datasheet(figures, datasets)
    fingerprint = figures["data"]["fingerprint"][:16]
    files = {
        "model_card.md": page(gettext("Model card: %(name)s", name=model), card).encode(),
        "datasheet.md": page(gettext("Datasheet: %(name)s", name=fingerprint), sheet).encode(),
    }
    folder.mkdir()
    for name, data in files.items():
        write_atomic(folder / name, data)


def page(title: str, sections: Sections) -> str:
    """Sections of fields as Markdown.

    >>> print(page("Card", {"Details": {"Seed": 0}}))
    # Card
    <BLANKLINE>
    ## Details
    <BLANKLINE>
    - **Seed**: 0
    <BLANKLINE>
    """
    lines = [f"# {in_markdown(title)}", ""]
    for heading, fields in sections.items():
        lines += [f"## {heading}", ""]
        for name, value in fields.items():
            text = " ".join(str("" if value is None else value).split())
            if not text:
                raise ValueError(f"{title}: {heading}: {name}: expected a value, got an empty field")
            lines.append(gettext("- **%(field)s**: %(value)s", field=in_markdown(name), value=in_markdown(text)))
        lines.append("")
    return "\n".join(lines)


def kind_of(model: ModelFigures) -> str:
    """Returns the kind of a model in words."""
    trees = _pairs(model["trees"])
    parts = [
        "LightGBM",
        *([gettext("trees by model: %(counts)s", counts=trees)] if model["trees"] else []),
        gettext("calibration: %(method)s", method=words(model["calibration"])),
    ]
    return gettext("; ").join(parts)


def learnt_from(source: str) -> str:
    """Returns in words what a model learnt from: "labels" or "truth"."""
    if source == "labels":
        return gettext("labels as known at the label cutoff")
    return gettext("the truth of simulated calls, which no operator knows of real ones")


def origin(figures: RunFigures) -> str:
    """Returns in words what the model learnt from: of an adaptation, its base and what it learnt on this network."""
    adapted = figures["adapted"]
    if adapted is None:
        return learnt_from(figures["data"]["learn_from"])
    return gettext(
        "base model %(base)s, signed by key %(key)s; learnt on this network: %(learnt)s; reason: %(why)s",
        base=adapted["base"],
        key=adapted["signed_by"],
        learnt=phrase(adapted["learnt"]),
        why=phrase(adapted["why"]),
    )


def model_card(figures: RunFigures) -> Sections:
    """Returns the fields of the model card: details, use, evaluation, measured figures and limits."""
    model, data = figures["model"], figures["data"]
    means = {gate.metric: phrase(gate.means) for gate in shipped_gates().gates}
    refused = gettext("; ").join(means.get(metric, metric) for metric in figures["gates"]["refused"])
    return {
        gettext("Model details"): {
            gettext("Kind"): kind_of(model),
            gettext("Features"): gettext(
                "%(features)s, catalogue %(hash)s", features=model["features"], hash=figures["catalogue"][:16]
            ),
            gettext("Most important features"): gettext("; ").join(
                meaning(feature["name"], feature["en"]) + gettext(" (%(inside)s)", inside=share(feature["share"], 0))
                for feature in model["top_features"][:5]
            ),
            gettext("Learnt from"): origin(figures),
            gettext("Folders of calls"): data["folders"],
            gettext("Label cutoff"): moment(figures["folds"]["label_cutoff"]),
            gettext("Gates"): gettext("SHA-256 %(hash)s, logged before the run", hash=figures["gates"]["sha256"]),
        },
        gettext("Intended use"): {
            gettext("For"): gettext(
                "judging a call at ring time; a policy file decides whether it is labelled, screened or blocked"
            ),
            gettext("Not for"): gettext(
                "decisions against a person: a flag is not a legal finding, and every verdict can be appealed"
            ),
            gettext("Never blocks"): gettext(
                "emergency and public-service numbers, and number classes without a certificate"
            ),
        },
        gettext("Evaluation"): evaluation(figures),
        gettext("Measured"): measured(figures, refused),
        **({gettext("Before and after"): before_and_after(figures)} if figures["adapted"] else {}),
        gettext("Limits"): limits(figures),
        gettext("Responsibility"): responsibility(figures["gates"]["owner"]),
    }


def responsibility(owner: str) -> dict[str, object]:
    """Returns who answers for the model and how people stay in control."""
    return {
        gettext("Owner"): owner or gettext("not named: the table [owner] of the gates file names one"),
        gettext("Contact"): gettext("the owner; a caller appeals to the address that the policy names"),
        gettext("Licence"): gettext("Apache-2.0 for the code; the model is its owner's"),
        gettext("Intended users"): gettext(
            "operators, SIP proxies and handset platforms that warn the people who are called"
        ),
        gettext("Legal basis"): gettext("that of the declaration of the calls; see the datasheet"),
        gettext("Human oversight"): gettext(
            "two persons approve a promotion, people decide appeals, and a block needs a certificate and a way to "
            "appeal"
        ),
        gettext("Monitoring"): gettext(
            "callsieve model monitor each day; the model abstains after its last day of validity, in a first week, and "
            "on records that lack what its thresholds need"
        ),
    }


def evaluation(figures: RunFigures) -> dict[str, object]:
    """Returns the truth or labels of the evaluation, its calls, and the uses of the test fold."""
    data, looks = figures["data"], figures["gates"]["touches"]
    calls = count(figures["rows"]["certify"])
    return {
        gettext("Evaluated by"): words(data["judged_by"]),
        gettext("Evaluated on"): gettext("%(calls)s calls, %(part)s", calls=calls, part=phrase(data["judged_on"])),
        gettext("Uses of the test fold"): f"{looks}"
        if figures["gates"]["registered"]
        else gettext("%(looks)s, by this audit log alone", looks=looks),
    }


def measured(figures: RunFigures, refused: str) -> dict[str, object]:
    """Returns the measured figures."""
    head = figures["headline"]["model"]
    return {
        **{figure.title: figure.cell(head) for figure in HEADLINE},
        FLAGGED.title: gettext(
            "%(flagged)s; at most %(bound)s (exact 95 %% bound, calls as independent), %(organisation)s, "
            "target %(target)s",
            flagged=FLAGGED.value(head),
            bound=one_in(head["bound"]),
            organisation=by_organisation(head),
            target=one_in(head["target"]),
        ),
        CERTIFIED.title: CERTIFIED.value(head)
        + ("" if head["certified"] else gettext(": the model may label calls, but must not block them"))
        + (gettext("; refused by gates on %(metrics)s, so not promoted", metrics=refused) if refused else ""),
        CAUGHT.title: gettext(
            "%(rate)s, 95 %% interval over callers, %(basis)s", rate=CAUGHT.cell(head), basis=basis(figures)
        ),
        gettext("Certified on records that lack"): gettext("; ").join(
            gettext(", ").join(map(words, lacks_of(name)))
            for name, feed in figures["feeds"].items()
            if feed["certified"]
        )
        or gettext("none"),
        **flags(figures),
        gettext("Calibration error"): share(figures["reliability"]["ece"], 2),
        gettext("Nuisance callers by kind, caught"): kinds(figures, nuisance=True),
        gettext("Innocent callers by kind, flagged"): kinds(figures, nuisance=False),
        gettext("Innocent calls by number class, flagged"): number_classes(figures),
        **announcing(figures),
    }


def flags(figures: RunFigures) -> dict[str, str]:
    """Returns the figures of model and flagged numbers together on such records; {} without a certificate."""
    proof = next(iter(figures["flags"].values()), None)
    if proof is None:
        return {}
    counts = {"flagged": f"{proof['false_calls']:,}", "calls": f"{proof['benign_calls']:,}"}
    words = {"caught": share(proof["catch"]), "alone": share(proof["catch_of_single_calls"])}
    sentence = gettext(
        "%(caught)s of nuisance calls, %(alone)s by single calls; %(flagged)s of %(calls)s innocent calls flagged",
        **words,
        **counts,
    )
    return {gettext("Caught with flagged numbers"): sentence}


def before_and_after(figures: RunFigures) -> dict[str, object]:
    """Returns an adapted model beside its base, and whom the figures cover; of a training only the latter."""
    adapted = figures["adapted"]
    if adapted is None:
        return known_callers(figures)
    both = [*network_rows(adapted), *judged_rows(figures)]
    lacking = too_few(adapted)
    return {
        **({gettext("Checks"): lacking} if lacking else {}),
        **{name: gettext("base %(base)s; adapted %(adapted)s", base=old, adapted=new) for name, old, new in both},
        **dict(check_rows(adapted)),
        gettext("Callers by what is known of them"): in_words(adapted["covered"]),
    }


def known_callers(figures: RunFigures) -> dict[str, object]:
    """Returns whom a training without a truth was judged by, and what is missing for a certificate."""
    covered, lacking = figures.get("covered"), figures.get("too_few")
    return {
        **({gettext("Innocent calls"): missing(lacking)} if lacking else {}),
        **({gettext("Callers by what is known of them"): in_words(covered)} if covered else {}),
    }


def in_words(covered: Mapping[str, Covered]) -> str:
    """Returns callers and calls by what is known of them, as a list in one line."""
    return gettext("; ").join(
        gettext("%(kind)s: %(callers)s callers, %(calls)s calls", kind=kind, callers=callers, calls=calls)
        for kind, callers, calls in covered_rows(covered)
    )


def kinds(figures: RunFigures, *, nuisance: bool) -> str:
    """Returns the flagged calls of each kind of caller."""
    rows = [row for row in figures["slices"] if row["nuisance"] == nuisance]
    counts = [gettext("%(part)s of %(whole)s", part=count(row["flagged"]), whole=count(row["calls"])) for row in rows]
    named = (f"{words(row['slice'])} {flagged}" for row, flagged in zip(rows, counts, strict=True))
    return gettext("; ").join(named) or gettext("none")


def number_classes(figures: RunFigures) -> str:
    """Returns the flagged innocent calls of each number class."""
    counts = [
        gettext(
            "%(kind)s %(part)s of %(whole)s",
            kind=words(name),
            part=count(row["false_calls"]),
            whole=count(row["benign_calls"]),
        )
        for name, row in sorted(figures["bands"][0]["strata"].items())
    ]
    return gettext("; ").join(counts) or gettext("none")


def announcing(figures: RunFigures) -> dict[str, object]:
    """Returns the flagged calls of surveys and public announcements, which no certificate covers; {} without any."""
    apart = figures["announcing"]
    if not apart["calls"]:
        return {}
    part, whole = count(apart["flagged"]), count(apart["calls"])
    text = gettext("%(part)s of %(whole)s calls flagged; in no other figure but those by kind", part=part, whole=whole)
    return {gettext("Surveys and public announcements"): text}


def limits(figures: RunFigures) -> dict[str, object]:
    """Returns the kinds of innocent callers with and without a certificate, and what the model does not see."""
    benign = [row for row in figures["slices"] if not row["nuisance"]]
    return {
        gettext("Innocent slices that are not certified"): _names(
            [row["slice"] for row in benign if not row["certified"]]
        ),
        gettext("Innocent slices that are certified"): _names([row["slice"] for row in benign if row["certified"]]),
        gettext("Depends on"): gettext(
            "the share of nuisance in the training data; where nuisance is rarer, precision is lower"
        ),
        gettext("Does not use"): gettext(
            "the content of a call, and the caller's true number where another number is shown"
        ),
    }


def datasheet(figures: RunFigures, datasets: Mapping[str, DatasetEntry]) -> Sections:
    """Returns the fields of the datasheet: composition, collection, preparation, uses and maintenance of the data."""
    data, folds = figures["data"], figures["folds"]
    spans = (
        (gettext("train"), folds["train"]),
        (gettext("choose threshold"), folds["choose"]),
        (gettext("certify"), folds["certify"]),
    )[-1 if figures["adapted"] else 0 :]
    return {
        gettext("Motivation"): {
            gettext("Purpose"): gettext(
                "to train and judge a detector of nuisance calls that uses what is known at ring time"
            )
        },
        gettext("Composition"): {
            gettext("Source"): phrase(data["source"] or ""),
            gettext("Size"): gettext(
                "%(calls)s calls of %(numbers)s numbers in %(days)s days",
                calls=count(data["calls"]),
                numbers=count(data["numbers"]),
                days=count(data["days"]),
            ),
            gettext("Share of nuisance"): share(data["nuisance_share"], 2),
            gettext("Tables"): gettext("; ").join(
                gettext("%(table)s: %(rows)s rows", table=table_name(name), rows=count(entry["rows"]))
                for name, entry in datasets.items()
            ),
            gettext("People"): gettext(
                "numbers are keyed tokens; no call content, contacts, precise locations or identity numbers"
            ),
        },
        gettext("Collection and labels"): {
            gettext("Known when"): gettext(
                "a call at its start, its outcome at its end, a complaint or finding when it was filed"
            ),
            gettext("Label cutoff"): moment(folds["label_cutoff"]),
            gettext("Truth for judging"): words(data["judged_by"]),
        },
        gettext("Preparation"): {
            gettext("Folds"): gettext("; ").join(
                f"{name} {gettext('%(low)s to %(high)s', low=moment(begin), high=moment(end))}"
                for name, (begin, end) in spans
            ),
            gettext("Groups"): gettext(
                "callers that share a campaign, or a block, trunk or device that few callers use, are in one fold only"
            ),
            gettext("Sampling"): gettext("%(counts)s rows by use", counts=_pairs(figures["rows"])),
        },
        gettext("Uses"): {
            gettext("Permitted purposes"): gettext("; ").join(
                gettext("%(table)s %(purpose)s", table=table_name(name), purpose=words(entry["purpose"]))
                for name, entry in datasets.items()
                if "purpose" in entry
            )
            or gettext("not declared"),
            gettext("Fit for"): gettext(
                "training and judging on the same network; on another network, judge again on its own calls"
            ),
            gettext("Biased by"): gettext(
                "who complains: complaints depend on call volume, handsets and habits, and some are malicious"
            ),
        },
        gettext("Maintenance"): {
            gettext("Fingerprints (SHA-256)"): gettext("; ").join(
                f"{table_name(name)} {entry['sha256']}" for name, entry in datasets.items()
            ),
            gettext("Retention"): gettext(
                "rows of a declared folder expire by retention.toml; callsieve privacy retention erases them"
            ),
            gettext("Erasure"): gettext(
                "by the key epoch of the numbers; payloads of the audit log can be erased one by one"
            ),
        },
    }


def _names(names: list[str]) -> str:
    return gettext(", ").join(map(words, names)) or gettext("none")


def _pairs(values: Mapping[str, object]) -> str:
    return gettext(", ").join(f"{words(name)} {count(value)}" for name, value in values.items())
