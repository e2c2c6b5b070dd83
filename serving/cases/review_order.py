"""The review queue: reads the open appeals of a store, groups them, and orders them by harm.

An appeal alone clears no caller; only a reviewer's decision does. A ring that appeals for all its numbers
therefore gains only reviewers' attention, which this module limits. Appeals that share a block, trunk or device and
follow each other closely form a group. A group is ranked by its most harmful member alone. In a large group, several
reviewers must agree before an appeal is overturned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from callsieve.features.files.dates import DAY

from .case_rules import CaseRules
from .tables import OPEN, OVERTURNED, appeals, cases, decisions


@dataclass(frozen=True, slots=True)
class LinkedAppeal:
    """An appeal, and what links it to others: the block, trunk and device of its case."""

    appeal: int
    case: str
    caller: str
    at: int
    due: int
    state: str
    block: str
    trunk: str | None
    device: str | None


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


def open_appeals(connection: sa.Connection, rules: CaseRules, now: int) -> list[QueuedAppeal]:
    """Returns the open appeals in the order of review. `now` is in Unix ms."""
    first = connection.execute(sa.select(sa.func.min(appeals.c.at)).where(appeals.c.state == OPEN)).scalar()
    if first is None:
        return []
    recent = _appeals_since(connection, first - rules.group_gap)
    return order_appeals(recent, _harm(connection, rules, now), votes_to_overturn(connection), rules, now)


def group_size(connection: sa.Connection, appeal: int, at: int, rules: CaseRules) -> int:
    """Returns the number of appeals in the group of an appeal that was made at a moment (Unix ms)."""
    groups = group_appeals(_appeals_since(connection, at - 2 * rules.group_gap), rules)
    return list(groups.values()).count(groups[appeal])


def _appeals_since(connection: sa.Connection, moment: int) -> list[LinkedAppeal]:
    """Returns the appeals since a moment (Unix ms)."""
    of_appeal = (appeals.c[name] for name in ("appeal", "case", "caller", "at", "due", "state"))
    query = sa.select(*of_appeal, cases.c.block, cases.c.trunk, cases.c.device).select_from(appeals.join(cases))
    return [LinkedAppeal(**row) for row in connection.execute(query.where(appeals.c.at >= moment)).mappings()]


def votes_to_overturn(connection: sa.Connection) -> dict[int, int]:
    """Returns the number of reviewers who decided to overturn, by appeal."""
    votes = sa.select(decisions.c.appeal, sa.func.count()).where(decisions.c.outcome == OVERTURNED)
    return {row[0]: row[1] for row in connection.execute(votes.group_by(decisions.c.appeal))}


def _harm(connection: sa.Connection, rules: CaseRules, now: int) -> dict[str, float]:
    """Returns the harm of each caller with an open appeal: its recent cases, weighted by action and by the model's
    uncertainty.
    """
    uncertainty = sa.func.sum(1.0 - sa.func.coalesce(cases.c.score, 0.5))
    appealing = sa.select(appeals.c.caller).where(appeals.c.state == OPEN)
    recent = sa.and_(cases.c.at > now - round(DAY * rules.harm.days), cases.c.caller.in_(appealing))
    query = sa.select(cases.c.caller, cases.c.action, uncertainty).where(recent)
    harm: dict[str, float] = {}
    for caller, action, amount in connection.execute(query.group_by(cases.c.caller, cases.c.action)):
        harm[caller] = harm.get(caller, 0.0) + getattr(rules.harm, action, 0.0) * float(amount)
    return harm


def order_appeals(
    appeals: Sequence[LinkedAppeal],
    harm: Mapping[str, float],
    votes: Mapping[int, int],
    rules: CaseRules,
    now: int,
) -> list[QueuedAppeal]:
    """Returns the open appeals in the order of review.

    Groups with an overdue member come first, then groups whose most harmful member does more harm.

    Args:
        appeals: open and decided appeals.
        harm: harm by caller.
        votes: votes to overturn, by appeal.
        rules: the case rules.
        now: Unix ms.
    """
    groups = group_appeals(appeals, rules)
    sizes = Counter(groups.values())
    queued = [
        QueuedAppeal(
            appeal=row.appeal,
            case=row.case,
            at=row.at,
            due=row.due,
            overdue=now > row.due,
            harm=harm.get(row.caller, 0.0),
            group=groups[row.appeal],
            members=sizes[groups[row.appeal]],
            needs=votes_needed(sizes[groups[row.appeal]], rules),
            voices=votes.get(row.appeal, 0),
        )
        for row in appeals
        if row.state == OPEN
    ]
    overdue = {appeal.group for appeal in queued if appeal.overdue}
    most_harm: dict[int, float] = {}
    for appeal in queued:
        most_harm[appeal.group] = max(most_harm.get(appeal.group, 0.0), appeal.harm)

    def rank(appeal: QueuedAppeal) -> tuple[bool, float, int, float, int]:
        return (
            appeal.group not in overdue,
            -most_harm[appeal.group],
            appeal.group,
            -appeal.harm,
            appeal.appeal,
        )

    return sorted(queued, key=rank)


def votes_needed(members: int, rules: CaseRules) -> int:
    """Returns the number of reviewers who must agree before an appeal of a group of this size is overturned."""
    return rules.together.persons if members >= rules.together.crowd else 1


def group_appeals(appeals: Iterable[LinkedAppeal], rules: CaseRules) -> dict[int, int]:
    """Returns the group of each appeal, named by its first member.

    Two appeals belong to one group if they share a link and follow each other within `rules.group_gap`, directly or
    through other appeals.
    """
    ordered = sorted(appeals, key=lambda row: (row.at, row.appeal))
    parent = {row.appeal: row.appeal for row in ordered}
    latest: dict[tuple[str, str], LinkedAppeal] = {}
    for row in ordered:
        for link in rules.together.links:
            token = getattr(row, link)
            if token is None:
                continue
            before = latest.get((link, token))
            if before is not None and row.at - before.at <= rules.group_gap:
                first, second = sorted((_root(parent, before.appeal), _root(parent, row.appeal)))
                parent[second] = first
            latest[link, token] = row
    return {appeal: _root(parent, appeal) for appeal in parent}


def _root(parent: dict[int, int], appeal: int) -> int:
    while parent[appeal] != appeal:
        parent[appeal] = parent[parent[appeal]]
        appeal = parent[appeal]
    return appeal
