"""From certified bands to an action, by one reviewed file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from .card import Band

ACTIONS = ("pass", "label", "screen", "block")
PROTECTED = ("emergency", "public_service")


@dataclass(frozen=True, slots=True)
class Policy:
    """The version of the policy file, and the action of each band."""

    version: str
    bands: Mapping[str, str]


def read_policy(path: str | Path | None = None) -> Policy:
    """Read a policy file; the one that comes with the package if no path is given.

    Raises:
        ValueError: in one line, if the file is not a policy.
    """
    name = str(path or "the shipped policy")
    try:
        text = (Path(path) if path else files(__package__).joinpath("policy.toml")).read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: expected a TOML file, {error}") from error
    bands = table.get("bands")
    if set(table) != {"version", "bands"} or not isinstance(table["version"], str) or not isinstance(bands, dict):
        raise ValueError(f"{name}: expected a text `version` and a table `bands`, got {', '.join(sorted(table))}")
    for band, action in bands.items():
        if action not in ACTIONS:
            raise ValueError(f"{name}: band {band}: expected one of {', '.join(ACTIONS)}, got {action!r}")
    return Policy(table["version"], bands)


def decide(policy: Policy, bands: Sequence[Band], raw: float, stratum: str) -> tuple[str, str]:
    """The strongest action that the reached bands allow, and the highest of them. `stratum`: the caller's number class.

    >>> decide(Policy("1", {}), (), 3.0, "mobile")
    ('pass', '')
    """
    reached = [band for band in bands if raw >= band.threshold]
    if not reached:
        return "pass", ""
    actions = [allowed(policy.bands.get(band.name, "pass"), band, stratum) for band in reached]
    return max(actions, key=ACTIONS.index), reached[0].name


def allowed(action: str, band: Band, stratum: str) -> str:
    """The action, or the gentler one that the band's certificates allow."""
    if stratum in PROTECTED:
        return "pass"
    own = band.strata.get(stratum)
    if action in ("screen", "block") and not (band.certificate.certified and own is not None and own.certified):
        return "label"
    return action
