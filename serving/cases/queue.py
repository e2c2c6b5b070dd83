"""What the store knows of appeals that wait: which come together, and what harm each verdict does meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from .case_rules import CaseRules
from .review_order import QueuedAppeal, group_appeals, order_appeals
from .tables import OPEN, OVERTURNED, appeals, cases, decisions


def open_appeals(connection: sa.Connection, rules: CaseRules, now: int) -> list[QueuedAppeal]:
    """The open appeals, in the order in which a person should look at them."""
    first = connection.execute(sa.select(sa.func.min(appeals.c.at)).where(appeals.c.state == OPEN)).scalar()
    if first is None:
        return []
    return order_appeals(
        _burst(connection, first, rules), _harm(connection, rules, now), _heard(connection), rules, now
    )


def group_size(connection: sa.Connection, told: Mapping[str, Any], rules: CaseRules) -> int:
    """How many appeals belong together with this one."""
    groups = group_appeals(_burst(connection, told["at"] - rules.together, rules), rules)
    return list(groups.values()).count(groups[told["appeal"]])


def votes_to_overturn(connection: sa.Connection, appeal: int) -> int:
    """How many persons have spoken for overturning an appeal."""
    return _heard(connection).get(appeal, 0)


def _burst(connection: sa.Connection, first: int, rules: CaseRules) -> list[dict[str, Any]]:
    """Appeals since shortly before a moment, with what could link them."""
    links = (cases.c.block, cases.c.trunk, cases.c.device)
    asked = sa.select(appeals, *links).select_from(appeals.join(cases)).where(appeals.c.at >= first - rules.together)
    return [dict(row) for row in connection.execute(asked).mappings()]


def _heard(connection: sa.Connection) -> dict[int, int]:
    count = (
        sa.select(decisions.c.appeal, sa.func.count())
        .where(decisions.c.outcome == OVERTURNED)
        .group_by(decisions.c.appeal)
    )
    return {row[0]: row[1] for row in connection.execute(count)}


def _harm(connection: sa.Connection, rules: CaseRules, now: int) -> dict[str, float]:
    """Of each caller with an open appeal: its calls of late, by what was done to them and how unsure that was."""
    unsure = sa.func.sum(1.0 - sa.func.coalesce(cases.c.score, 0.5))
    appealing = sa.select(appeals.c.caller).where(appeals.c.state == OPEN)
    recent = sa.and_(cases.c.at > now - rules.harmful, cases.c.caller.in_(appealing))
    asked = sa.select(cases.c.caller, cases.c.action, unsure).where(recent).group_by(cases.c.caller, cases.c.action)
    harm: dict[str, float] = {}
    for caller, action, amount in connection.execute(asked):
        harm[caller] = harm.get(caller, 0.0) + rules.harm.get(action, 0.0) * float(amount)
    return harm
