"""The review queue: reads open appeals from the store, groups them, and orders them by harm (`review_order.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from .case_rules import CaseRules
from .review_order import QueuedAppeal, group_appeals, order_appeals
from .tables import OPEN, OVERTURNED, appeals, cases, decisions


def open_appeals(connection: sa.Connection, rules: CaseRules, now: int) -> list[QueuedAppeal]:
    """Returns the open appeals in the order of review. `now` is in Unix ms."""
    first = connection.execute(sa.select(sa.func.min(appeals.c.at)).where(appeals.c.state == OPEN)).scalar()
    if first is None:
        return []
    recent = _appeals_since(connection, first - rules.group_gap)
    return order_appeals(recent, _harm(connection, rules, now), votes_to_overturn(connection), rules, now)


def group_size(connection: sa.Connection, appeal: Mapping[str, Any], rules: CaseRules) -> int:
    """Returns the number of appeals in the group of an appeal."""
    groups = group_appeals(_appeals_since(connection, appeal["at"] - 2 * rules.group_gap), rules)
    return list(groups.values()).count(groups[appeal["appeal"]])


def _appeals_since(connection: sa.Connection, moment: int) -> list[dict[str, Any]]:
    """Appeals since a moment (Unix ms), with the block, trunk and device of their cases."""
    links = (cases.c.block, cases.c.trunk, cases.c.device)
    query = sa.select(appeals, *links).select_from(appeals.join(cases)).where(appeals.c.at >= moment)
    return [dict(row) for row in connection.execute(query).mappings()]


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
    recent = sa.and_(cases.c.at > now - rules.harm_window, cases.c.caller.in_(appealing))
    query = sa.select(cases.c.caller, cases.c.action, uncertainty).where(recent)
    harm: dict[str, float] = {}
    for caller, action, amount in connection.execute(query.group_by(cases.c.caller, cases.c.action)):
        harm[caller] = harm.get(caller, 0.0) + rules.harm.get(action, 0.0) * float(amount)
    return harm
