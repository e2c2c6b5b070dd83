"""The technical documentation of Annex IV (Regulation (EU) 2024/1689) as JSON, for an authority's own software.

It has the sections of the model card and the datasheet by the points of the Annex, and names the records for the rest.
`docs/explanation/standards.md` has the same points for readers, beside other standards.
"""

from __future__ import annotations

from collections.abc import Mapping

from callsieve.features.files.strict_json import encode
from callsieve.training.language import gettext

# Point: its sections of the model card and the datasheet; the files of the run's folder and the commands with more.
_POINTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "1": (("Model details", "Intended use", "Responsibility"), ()),
    "2": (
        ("Motivation", "Composition", "Collection and labels", "Preparation", "Uses", "Maintenance", "Responsibility",
         "Evaluation", "Measured"),
        ("bundle.provenance.json", "record/", "audit/log.jsonl"),
    ),
    "3": (("Responsibility", "Measured", "Before and after", "Limits"), ("report.html",)),
    "4": (("Evaluation", "Measured"), ("record/gates.toml", "report.html")),
    "5": (("Limits",), ("callsieve govern compliance --assessment",)),
    "6": ((), ("audit/log.jsonl",)),
    "7": ((), ()),
    "8": ((), ()),
    "9": (
        ("Responsibility",),
        ("callsieve model monitor", "callsieve govern incident drill", "callsieve govern complaints list"),
    ),
}  # fmt: skip


def annex_iv(model: str, sections: Mapping[str, Mapping[str, object]]) -> bytes:
    """Returns the points of Annex IV as JSON, in the language in force.

    Points 7 and 8, the standards and the declaration of conformity, are empty: the organisation that serves the model
    writes them.

    Args:
        model: id of the model.
        sections: those of its model card and of the datasheet.
    """
    points = {
        point: {
            "sections": {name: sections[name] for name in map(gettext, names) if name in sections},
            "records": records,
        }
        for point, (names, records) in _POINTS.items()
    }
    return encode({"act": "Regulation (EU) 2024/1689, Annex IV", "model": model, "points": points})
