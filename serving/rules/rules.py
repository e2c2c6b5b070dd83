"""Rules before the model: facts that need no score. Each says in plain words what it is and on what it rests.

A rule's condition is written once, for a single call (floats) and for a table of calls (arrays); a comparison with NaN,
which stands for "not known", is never true. What a hit leads to is for the policy to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from callsieve.features.dataclass import dataclass
from callsieve.features.records import ATTESTATIONS, NUMBER_CLASSES, ROUTES, UNKNOWN

from .register_lookup import Terms
from .registers import Registers
from .rule_input import RuleInput

PROTECTED = ("emergency", "public_service")
DOMESTIC = tuple(word for word in NUMBER_CLASSES if word not in ("foreign", "irregular", "withheld", "unknown"))
NO_CALLER = ("irregular", "106", "800")  # forms that no caller has: no number at all, a text port, a toll-free number
PERSONAL = ("mobile", "resale")
# On what a rule rests: what the network saw, what a register says, how the number behaves, what a model takes the call
# to be about; or it guards a call.
NETWORK, REGISTER, BEHAVIOUR, PREDICTED, GUARD = "network", "register", "behaviour", "predicted", "guard"
# In the order of NUMBER_CLASSES.
CLASSES_ZH = (
    "移动号码", "转售移动号码", "卫星号码", "物联网号码", "固定电话", "95服务号码", "95呼叫中心号码", "96号码",
    "400号码", "800号码", "1010号码", "106号码", "公共服务号码", "紧急号码", "境外号码", "不规范号码", "未显示号码",
    "未知号码",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """A rule that a call meets, and the evidence.

    `value` is what was found and `limit` what it was held against, NaN where there is no number to tell. `entry` names
    the row of `register` behind it, which holds since `valid_from` and is known since `known_at` (UTC); "" if none is.

    >>> from callsieve.features import Call, History, Intake, Key
    >>> from callsieve.serving import Scorer, read_public_key
    >>> intake = Intake(Key("e1", bytes(32)))
    >>> forged = intake(Call(1772500000.0, "13800138000", "13900139000", attestation="failed"))
    >>> scorer = Scorer.load("bundle", trusted=[read_public_key("signer.pub")])
    >>> [fact.en for fact in scorer.score(History(), forged).rules]
    ['The network could not verify the calling number: authentication failed.']
    """

    rule: str
    en: str
    zh: str
    value: float
    limit: float
    register: str
    entry: str
    valid_from: str
    known_at: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. `value` and `limit` name a field of a situation or of the terms; `register` a table, "" for none."""

    name: str
    kind: str
    when: Callable[[RuleInput, Terms], Any]
    value: str
    limit: str
    register: str
    en: str
    zh: str


def _among(value: Any, codes: frozenset[float]) -> Any:
    """Whether a class of numbers is one of some; of none, none is."""
    try:
        return value in codes
    except TypeError:
        import numpy as np  # a table of calls; one call needs no NumPy

        return np.isin(value, list(codes))


@cache
def _codes(words: tuple[str, ...]) -> frozenset[float]:
    """Classes of numbers by their places."""
    return frozenset(float(NUMBER_CLASSES.index(word)) for word in words)


_PROTECTED, _DOMESTIC, _NO_CALLER, _PERSONAL = map(_codes, (PROTECTED, DOMESTIC, NO_CALLER, PERSONAL))
_WITHHELD = _codes(("withheld",))


def _outside(hour: Any, begin: Any, end: Any) -> Any:
    """Hours that run over midnight are those from `begin` on, and those before `end`."""
    over = begin > end
    return ((begin <= end) & ((hour < begin) | (hour >= end))) | (over & (hour < begin) & (hour >= end))


RULES: tuple[Rule, ...] = (
    Rule(
        "authentication_failed", NETWORK, lambda s, _: s.attestation == ATTESTATIONS.index("failed"), "", "", "",
        "The network could not verify the calling number: authentication failed.",
        "网络未能核实主叫号码:鉴权失败。",
    ),
    Rule(
        "irregular_number", NETWORK, lambda s, _: _among(s.caller_class, _NO_CALLER),
        "caller_class", "", "",
        "The calling number has a form that no caller may show ({value}).",
        "主叫号码不符合规范,不得作为主叫({value})。",
    ),
    Rule(
        "own_number", NETWORK, lambda s, _: s.own_number == 1, "", "", "",
        "The caller shows the called person's own number.",
        "来电显示的是被叫用户自己的号码。",
    ),
    Rule(
        "withheld_number", NETWORK, lambda s, _: _among(s.caller_class, _WITHHELD), "", "", "",
        "The caller shows no number.",
        "主叫未显示号码。",
    ),
    Rule(
        "domestic_from_abroad", NETWORK,
        lambda s, _: (s.route == ROUTES.index("international"))
        & _among(s.caller_class, _DOMESTIC),
        "caller_class", "", "",
        "A domestic number ({value}) came in over an international line, and is not roaming.",
        "境外来话显示境内号码({value}),且并非漫游。",
    ),
    Rule(
        "shown_number_differs", NETWORK, lambda s, _: s.presented_differs == 1, "", "", "",
        "The number shown is not the number that the network knows the caller by.",
        "显示的号码与网络识别的主叫号码不一致。",
    ),
    Rule(
        "outside_trunk_ranges", REGISTER, lambda s, _: (s.trunk_listed == 1) & (s.on_trunk == 0), "", "", "trunks",
        "The trunk that the call came over is not registered for this number.",
        "该号码不在所经中继登记的号码范围内。",
    ),
    Rule(
        "class_against_use", REGISTER, lambda s, _: s.use_allows == 0, "caller_class", "", "trunks",
        "The kind of number ({value}) does not fit the use that was declared for the trunk.",
        "号码类型({value})与中继登记的用途不符。",
    ),
    Rule(
        "lapsed_number", REGISTER, lambda s, _: s.lapsed == 1, "", "", "number_resources",
        "The registration of this number has ended.",
        "该号码的登记已到期。",
    ),
    Rule(
        "unregistered_number", REGISTER,
        lambda s, t: _among(s.caller_class, _codes(t.must_register)) & (s.campaign == 0),
        "caller_class", "", "",
        "Numbers of this kind ({value}) are to be registered before they call out; this one is not.",
        "此类号码({value})外呼须先登记,该号码未登记。",
    ),
    Rule(
        "contract_frequency", REGISTER, lambda s, _: s.calls_24h >= s.calls_per_day,
        "calls_24h", "calls_per_day", "subscribers",
        "This number made {value} calls in the last 24 hours; its contract allows {limit}.",
        "该号码过去24小时已拨出{value}次,合同约定上限为{limit}次。",
    ),
    Rule(
        "outside_hours", REGISTER, lambda s, _: _outside(s.hour, s.hour_from, s.hour_to), "hour", "", "campaigns",
        "The call comes at {value}, outside the hours registered for this campaign.",
        "来电时间{value},不在该业务登记的外呼时段内。",
    ),
    Rule(
        "called_after_refusal", REGISTER, lambda s, _: s.refused == 1, "", "", "refusals",
        "The called person has refused calls of this business.",
        "被叫用户已拒绝此类业务的来电。",
    ),
    Rule(
        "no_consent", REGISTER, lambda s, _: (s.marketing == 1) & (s.consent == 0), "", "", "campaigns",
        "A registered marketing call, and no consent of the called person to this firm is known.",
        "已登记的营销外呼,但未见被叫用户对该企业的同意记录。",
    ),
    Rule(
        "against_preference", REGISTER, lambda s, _: s.rejects == 1, "", "", "preferences",
        "The called person told the operator that calls of this kind are not wanted.",
        "被叫用户已设置不接听此类来电。",
    ),
    Rule(
        "risk_region", REGISTER, lambda s, _: s.risk_region == 1, "", "", "risk_regions",
        "The calling number is of a region for which stricter rules are in force.",
        "主叫号码属于从严管理的重点地区。",
    ),
    Rule(
        "ring_once", BEHAVIOUR,
        lambda s, t: (s.one_rings_24h >= t.ring_once_share) & (s.calls_24h >= t.ring_once_calls),
        "one_rings_24h", "ring_once_share", "",
        "{value} of this number's calls of the last 24 hours were dropped after one ring (limit {limit}).",
        "该号码过去24小时有{value}的呼叫响一声即挂断(界限{limit})。",
    ),
    Rule(
        "call_bombing", BEHAVIOUR,
        lambda s, t: (s.callee_calls_1h >= t.bombing_calls) & _among(s.callee_class, _PERSONAL),
        "callee_calls_1h", "bombing_calls", "",
        "The called person's number was called {value} times in the last hour (limit {limit}).",
        "被叫用户过去1小时内接到{value}次来电(界限{limit})。",
    ),
    Rule(
        "protected_caller", GUARD, lambda s, _: _among(s.caller_class, _PROTECTED) | (s.caller_protected == 1),
        "", "", "protected",
        "An emergency, public-service or registered protected number calls: it is never blocked.",
        "主叫为紧急、公共服务或受保护号码,任何情况下不得拦截。",
    ),
    Rule(
        "protected_callee", GUARD, lambda s, _: _among(s.callee_class, _PROTECTED) | (s.callee_protected == 1),
        "", "", "callee",
        "An emergency, public-service or registered protected number is called: calls to it are never blocked.",
        "被叫为紧急、公共服务或受保护号码,呼叫一律不得拦截。",
    ),
    Rule(
        "accepted_category", GUARD, lambda s, _: s.accepts == 1, "", "", "preferences",
        "The called person told the operator that calls of this kind are welcome.",
        "被叫用户已设置接受此类来电。",
    ),
    Rule(
        "against_predicted_preference", PREDICTED, lambda s, _: s.unwanted == 1, "", "", "preferences",
        "The call looks like one of a kind that the called person told the operator is not wanted.",
        "该来电疑似被叫用户已设置不接听的类别。",
    ),
)  # fmt: skip
RULE_BY_NAME = {rule.name: rule for rule in RULES}
ACTION_RULES = tuple(rule.name for rule in RULES if rule.kind != GUARD)


# Without registers nothing that they say is known, and no rule of theirs holds.
UNREGISTERED = tuple(rule for rule in RULES if rule.kind != REGISTER and rule.register != "preferences")


def matching_rules(found: RuleInput, terms: Terms, rules: tuple[Rule, ...] = RULES) -> tuple[Rule, ...]:
    """Which of the rules one call meets, in order."""
    return tuple([rule for rule in rules if rule.when(found, terms)])


def facts(
    found: RuleInput, terms: Terms, registers: Registers | None, rules: tuple[Rule, ...] | None = None
) -> tuple[Fact, ...]:
    """The same with their evidence; `rules` are those that may hold, if it is known."""
    if rules is None:
        rules = UNREGISTERED if registers is None else RULES
    return tuple([_fact(rule, found, terms, registers) for rule in matching_rules(found, terms, rules)])


@lru_cache(maxsize=1 << 12)
def candidate_rules(
    attestation: int, route: int, caller_class: int, callee_class: int, presented_differs: int, own_number: bool
) -> tuple[Rule, ...]:
    """The rules that calls with these facts of a `KeyedCall` may meet where there are no registers, in order.

    Whether a rule of behaviour holds is for the history to say. All others go by these facts alone, and calls are much
    alike in them: nearly all of those rules need not be looked at again.
    """
    shown = (attestation, route, caller_class, callee_class, presented_differs)
    found = RuleInput(*(math.nan if value == UNKNOWN else float(value) for value in shown))
    found.own_number = float(own_number)
    return tuple(rule for rule in UNREGISTERED if rule.kind == BEHAVIOUR or rule.when(found, Terms()))


def _fact(rule: Rule, found: RuleInput, terms: Terms, registers: Registers | None) -> Fact:
    value, limit = (_looked_up(name, found, terms) for name in (rule.value, rule.limit))
    entry, valid_from, known_at = "", "", ""
    place = found.rows.get(rule.register, -1)
    table = "protected" if rule.register == "callee" else rule.register
    if registers is not None and place >= 0:
        entry, valid_from, known_at = registers.entry(table, place)
    en = rule.en.format(value=_shown(rule.value, value), limit=_shown(rule.limit, limit))
    zh = rule.zh.format(value=_shown(rule.value, value, CLASSES_ZH), limit=_shown(rule.limit, limit))
    return Fact(rule.name, en, zh, value, limit, table if entry else "", entry, valid_from, known_at)


def _looked_up(name: str, found: RuleInput, terms: Terms) -> float:
    if not name:
        return math.nan
    return float(getattr(found, name, math.nan) if hasattr(found, name) else getattr(terms, name))


def _shown(name: str, value: float, classes: tuple[str, ...] = NUMBER_CLASSES) -> str:
    """A value as people write it.

    >>> _shown("caller_class", 4.0), _shown("one_rings_24h", 0.75), _shown("calls_24h", 1234.0), _shown("hour", 8.0)
    ('fixed', '75%', '1,234', '08:00')
    """
    if math.isnan(value):
        return ""
    if name == "caller_class":
        return classes[int(value)].replace("_", " ")
    if name == "hour":
        return f"{value:02.0f}:00"
    return f"{value:.0%}" if name in ("one_rings_24h", "ring_once_share") else f"{value:,.0f}"
