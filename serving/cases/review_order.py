"""The order in which reviewers see open appeals, and the groups of appeals that they see together.

An appeal alone clears no caller; only a reviewer's decision does. A ring that appeals for all its numbers
therefore gains only reviewers' attention, which this module limits. Appeals that share a block, trunk or device and
follow each other closely form a group. A group is ranked by its most harmful member alone. In a large group, several
reviewers must agree before an appeal is overturned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .case_rules import CaseRules
from .tables import OPEN


@dataclass(frozen=True, slots=True)
class QueuedAppeal:
    """An open appeal in the review queue.

    Attributes:
        appeal: id of the appeal.
        case: id of the case.
        at, due: when it was made, and by when it must be decided (Unix ms).
        overdue: whether `due` has passed.
        harm: the caller's recent cases, weighted by action and by the model's uncertainty.
        group: id of the group, equal for all its members.
        members: number of appeals in the group, decided ones included.
        needs: number of reviewers who must agree before it is overturned.
        voices: number of reviewers who decided to overturn it.
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
    appeals: Sequence[Mapping[str, Any]],
    harm: Mapping[str, float],
    votes: Mapping[int, int],
    rules: CaseRules,
    now: int,
) -> list[QueuedAppeal]:
    """Returns the open appeals in the order of review.

    Groups with an overdue member come first, then groups whose most harmful member does more harm.

    Args:
        appeals: open and decided appeals, with the block, trunk and device of their cases.
        harm: harm by caller.
        votes: votes to overturn, by appeal.
        rules: the case rules.
        now: Unix ms.
    """
    groups = group_appeals(appeals, rules)
    sizes: dict[int, int] = {}
    for group in groups.values():
        sizes[group] = sizes.get(group, 0) + 1
    queued = [
        QueuedAppeal(
            appeal=row["appeal"],
            case=row["case"],
            at=row["at"],
            due=row["due"],
            overdue=now > row["due"],
            harm=harm.get(row["caller"], 0.0),
            group=groups[row["appeal"]],
            members=sizes[groups[row["appeal"]]],
            needs=votes_needed(sizes[groups[row["appeal"]]], rules),
            voices=votes.get(row["appeal"], 0),
        )
        for row in appeals
        if row["state"] == OPEN
    ]
    overdue: dict[int, bool] = {}
    most_harm: dict[int, float] = {}
    for appeal in queued:
        overdue[appeal.group] = overdue.get(appeal.group, False) or appeal.overdue
        most_harm[appeal.group] = max(most_harm.get(appeal.group, 0.0), appeal.harm)
    return sorted(
        queued,
        key=lambda appeal: (
            not overdue[appeal.group],
            -most_harm[appeal.group],
            appeal.group,
            -appeal.harm,
            appeal.appeal,
        ),
    )


def votes_needed(members: int, rules: CaseRules) -> int:
    """Returns the number of reviewers who must agree before an appeal of a group of this size is overturned."""
    return rules.reviewers if members >= rules.large_group else 1


def group_appeals(appeals: Iterable[Mapping[str, Any]], rules: CaseRules) -> dict[int, int]:
    """Returns the group of each appeal, named by its first member.

    Two appeals belong to one group if they share a link and follow each other within `rules.group_gap`, directly or
    through other appeals.
    """
    ordered = sorted(appeals, key=lambda row: (row["at"], row["appeal"]))
    parent = {row["appeal"]: row["appeal"] for row in ordered}
    latest: dict[tuple[str, str], tuple[int, int]] = {}
    for row in ordered:
        for link in rules.links:
            if row[link] is None:
                continue
            before = latest.get((link, row[link]))
            if before is not None and row["at"] - before[0] <= rules.group_gap:
                first, second = sorted((_root(parent, before[1]), _root(parent, row["appeal"])))
                parent[second] = first
            latest[link, row[link]] = row["at"], row["appeal"]
    return {appeal: _root(parent, appeal) for appeal in parent}


def _root(parent: dict[int, int], appeal: int) -> int:
    while parent[appeal] != appeal:
        parent[appeal] = parent[parent[appeal]]
        appeal = parent[appeal]
    return appeal
