"""In which order appeals come before a person, and which of them belong together.

An appeal never clears anybody: a person's decision does. So a ring that appeals with all its numbers wins nothing but
attention, and that is what is rationed: appeals that share a block, trunk or device and come in one burst stand
together, where the most harmful of them would stand alone; and from `crowd` of them on, one person alone overturns
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .case_rules import CaseRules


@dataclass(frozen=True, slots=True)
class QueuedAppeal:
    """An open appeal, and where it stands.

    `harm`: the caller's verdicts of the last days, weighed by what was done and by how unsure the model was; `group`:
    the same for appeals that belong together; `members`: how many those are, decided ones too; `needs`: persons who
    must agree before it is overturned, and `voices` those who have.
    """

    appeal: int
    case: str
    at: int
    due: int
    overdue: bool
    harm: float
    group: int
    members: int
    needs: int
    voices: int


def order_appeals(
    burst: Sequence[Mapping[str, Any]], harm: Mapping[str, float], heard: Mapping[int, int], rules: CaseRules, now: int
) -> list[QueuedAppeal]:
    """The open appeals, in the order in which a person should look at them.

    Groups with an overdue member come first, then those whose most harmful member does more harm.

    Args:
        burst: appeals, open and decided, with their case's block, trunk and device.
        harm: of each caller.
        heard: how many persons have spoken for overturning each appeal.
    """
    groups = group_appeals(burst, rules)
    sizes: dict[int, int] = {}
    for group in groups.values():
        sizes[group] = sizes.get(group, 0) + 1
    waiting = [
        QueuedAppeal(
            appeal=one["appeal"], case=one["case"], at=one["at"], due=one["due"], overdue=now > one["due"],
            harm=harm.get(one["caller"], 0.0), group=groups[one["appeal"]], members=sizes[groups[one["appeal"]]],
            needs=votes_needed(sizes[groups[one["appeal"]]], rules), voices=heard.get(one["appeal"], 0),
        )
        for one in burst if one["state"] == "open"
    ]  # fmt: skip
    rank: dict[int, tuple[bool, float]] = {}
    for one in waiting:
        late, most = rank.get(one.group, (False, 0.0))
        rank[one.group] = late or one.overdue, max(most, one.harm)
    return sorted(
        waiting, key=lambda one: (not rank[one.group][0], -rank[one.group][1], one.group, -one.harm, one.appeal)
    )


def votes_needed(members: int, rules: CaseRules) -> int:
    """Persons who must agree before an appeal of such a group is overturned."""
    return rules.persons if members >= rules.crowd else 1


def group_appeals(burst: Iterable[Mapping[str, Any]], rules: CaseRules) -> dict[int, int]:
    """The group of each appeal, named by its first member: those that share a link and come soon after each other."""
    ordered = sorted(burst, key=lambda one: (one["at"], one["appeal"]))
    parent = {one["appeal"]: one["appeal"] for one in ordered}
    last: dict[tuple[str, str], tuple[int, int]] = {}
    for one in ordered:
        for link in rules.links:
            if one[link] is None:
                continue
            before = last.get((link, one[link]))
            if before is not None and one["at"] - before[0] <= rules.together:
                first, second = sorted((_root(parent, before[1]), _root(parent, one["appeal"])))
                parent[second] = first
            last[link, one[link]] = one["at"], one["appeal"]
    return {appeal: _root(parent, appeal) for appeal in parent}


def _root(parent: dict[int, int], of: int) -> int:
    while parent[of] != of:
        parent[of] = parent[parent[of]]
        of = parent[of]
    return of
