"""Rules: facts of a call that need no score. A fact states in plain words what is true and on which evidence.

A rule's condition is written once, for one call (floats) and for a table of calls (arrays). A comparison with NaN,
which stands for "unknown", is never true. The policy decides which action a rule leads to (`policy.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from callsieve.features.records import ATTESTATIONS, NUMBER_CLASSES, ROUTES, UNKNOWN

from .register_lookup import Terms
from .registers import Registers
from .rule_input import RuleInput

Action = Literal["pass", "label", "screen", "block"]
PROTECTED = ("emergency", "public_service")
DOMESTIC = tuple(name for name in NUMBER_CLASSES if name not in ("foreign", "irregular", "withheld", "unknown"))
NO_CALLER = ("irregular", "106", "800")  # never valid for a caller: no number, a text-message port, a toll-free number
PERSONAL = ("mobile", "resale")
FLAGGED = "flagged"
LISTED, LISTED_CONFIRMED = "listed", "listed_confirmed"
CERTIFIED_BOUND = 1e-4
"""Highest certified error bound of a list that confirms a number without a second issuer."""
BEHAVIOURS = {
    "nuisance": ("nuisance", "骚扰电话"),
    "marketing": ("marketing", "商业营销类"),
    "harassment": ("harassment", "恶意骚扰类"),
    "illegal": ("illegal", "违法犯罪类"),
}
"""Classes of the calls of a listed number, in English and Chinese; all but the first as in `plan_classes.py`."""
KNOWN = frozenset(("called_first", "long_talks"))  # guards: the called person knows the caller
_OF_HISTORY = KNOWN | {"repeated_caller"}  # guards that depend on the history
# The evidence of a rule: facts of the network, a register, the behaviour of the number, or a model's prediction. A
# guard leads to no action; it limits the action of the other rules and of the bands.
NETWORK, REGISTER, BEHAVIOUR, PREDICTED, GUARD = "network", "register", "behaviour", "predicted", "guard"
# In the order of NUMBER_CLASSES.
CLASSES_ZH = (
    "移动号码", "转售移动号码", "卫星号码", "物联网号码", "固定电话", "95服务号码", "95呼叫中心号码", "96号码",
    "400号码", "800号码", "1010号码", "106号码", "公共服务号码", "紧急号码", "境外号码", "不规范号码", "未显示号码",
    "未知号码",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """A rule that a call meets, with the values and the register row behind it.

    Attributes:
        rule: name of the rule.
        en, zh: the fact as a sentence, in English and Chinese.
        value, limit: the value of the call and the limit that it was compared with; NaN if the rule has none.
        register, entry: the register and the name of the row behind the fact; "" if the fact rests on no row.
        valid_from, known_at: start of the row's validity, and since when it is known (both UTC); "" without a row.

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
    """A rule: a named condition and its sentences.

    Attributes:
        name: name of the rule in the policy file.
        kind: NETWORK, REGISTER, BEHAVIOUR, PREDICTED or GUARD.
        when: the condition.
        value, limit: names of the fields of `RuleInput` or `Terms` that the sentences show; "" for none.
        register: the register whose row the fact names, as a name in `RuleInput.rows`; "" for none.
        en, zh: the sentence in English and Chinese, with places for `value` and `limit`.
        table: the table of that row, if it has another name.
    """

    name: str
    kind: str
    when: Callable[[RuleInput, Terms], Any]
    value: str
    limit: str
    register: str
    en: str
    zh: str
    table: str = ""


def _among(value: Any, codes: frozenset[float]) -> Any:
    try:
        return value in codes
    except TypeError:
        import numpy as np  # only for a table of calls

        return np.isin(value, list(codes))


@cache
def _codes(classes: tuple[str, ...]) -> frozenset[float]:
    return frozenset(float(NUMBER_CLASSES.index(name)) for name in classes)


_PROTECTED, _DOMESTIC, _NO_CALLER, _PERSONAL = map(_codes, (PROTECTED, DOMESTIC, NO_CALLER, PERSONAL))
_WITHHELD = _codes(("withheld",))
_SHOWN = _codes(tuple(name for name in NUMBER_CLASSES if name != "withheld"))  # all withheld numbers share one history


def _outside(hour: Any, begin: Any, end: Any) -> Any:
    over_midnight = begin > end
    return ((begin <= end) & ((hour < begin) | (hour >= end))) | (over_midnight & (hour < begin) & (hour >= end))


RULES: tuple[Rule, ...] = (
    Rule(
        "authentication_failed", NETWORK, lambda call, _: call.attestation == ATTESTATIONS.index("failed"), "", "", "",
        "The network could not verify the calling number: authentication failed.",
        "网络未能核实主叫号码：鉴权失败。",
    ),
    Rule(
        "irregular_number", NETWORK, lambda call, _: _among(call.caller_class, _NO_CALLER),
        "caller_class", "", "",
        "The calling number has a form that no caller may show ({value}).",
        "主叫号码不符合规范，不得作为主叫（{value}）。",
    ),
    Rule(
        "own_number", NETWORK, lambda call, _: call.own_number == 1, "", "", "",
        "The caller shows the called person's own number.",
        "来电显示的是被叫用户自己的号码。",
    ),
    Rule(
        "withheld_number", NETWORK, lambda call, _: _among(call.caller_class, _WITHHELD), "", "", "",
        "The caller shows no number.",
        "主叫未显示号码。",
    ),
    Rule(
        "domestic_from_abroad", NETWORK,
        lambda call, _: (call.route == ROUTES.index("international")) & _among(call.caller_class, _DOMESTIC),
        "caller_class", "", "",
        "A domestic number ({value}) came in over an international line, and is not roaming.",
        "境外来话显示境内号码（{value}），且并非漫游。",
    ),
    Rule(
        "shown_number_differs", NETWORK, lambda call, _: call.presented_differs == 1, "", "", "",
        "The number shown is not the number that the network knows the caller by.",
        "显示的号码与网络识别的主叫号码不一致。",
    ),
    Rule(
        "outside_trunk_ranges", REGISTER, lambda call, _: (call.trunk_listed == 1) & (call.on_trunk == 0),
        "", "", "trunks",
        "The trunk that the call came over is not registered for this number.",
        "该号码不在所经中继登记的号码范围内。",
    ),
    Rule(
        "class_against_use", REGISTER, lambda call, _: call.use_allows == 0, "caller_class", "", "trunks",
        "The kind of number ({value}) does not fit the use that was declared for the trunk.",
        "号码类型（{value}）与中继登记的用途不符。",
    ),
    Rule(
        "lapsed_number", REGISTER, lambda call, _: call.lapsed == 1, "", "", "number_resources",
        "The registration of this number has ended.",
        "该号码的登记已到期。",
    ),
    Rule(
        "unregistered_number", REGISTER,
        lambda call, terms: _among(call.caller_class, _codes(terms.must_register)) & (call.campaign == 0),
        "caller_class", "", "",
        "Numbers of this kind ({value}) are to be registered before they call out; this one is not.",
        "此类号码（{value}）外呼须先登记，该号码未登记。",
    ),
    Rule(
        "contract_frequency", REGISTER, lambda call, _: call.calls_24h >= call.calls_per_day,
        "calls_24h", "calls_per_day", "subscribers",
        "This number made {value} calls in the last 24 hours; its contract allows {limit}.",
        "该号码过去24小时已拨出{value}次，合同约定上限为{limit}次。",
    ),
    Rule(
        "outside_hours", REGISTER, lambda call, _: _outside(call.hour, call.hour_from, call.hour_to),
        "hour", "", "campaigns",
        "The call comes at {value}, outside the hours registered for this campaign.",
        "来电时间{value}，不在该业务登记的外呼时段内。",
    ),
    Rule(
        "called_after_refusal", REGISTER, lambda call, _: call.refused == 1, "", "", "refusals",
        "The called person has refused calls of this business.",
        "被叫用户已拒绝此类业务的来电。",
    ),
    Rule(
        "no_consent", REGISTER, lambda call, _: (call.marketing == 1) & (call.consent == 0), "", "", "campaigns",
        "A registered marketing call, and no consent of the called person to this firm is known.",
        "已登记的营销外呼，但未见被叫用户对该企业的同意记录。",
    ),
    Rule(
        "against_preference", REGISTER, lambda call, _: call.rejects == 1, "", "", "preferences",
        "The called person told the operator that calls of this kind are not wanted.",
        "被叫用户已设置不接听此类来电。",
    ),
    Rule(
        "discredited_firm", REGISTER, lambda call, _: call.discredited == 1, "", "", "discredited",
        "The firm that ordered the call, or its agent, is on the list of discredited firms.",
        "该业务的委托主体或受托方已列入失信名单。",
    ),
    Rule(
        "risk_region", REGISTER, lambda call, _: call.risk_region == 1, "", "", "risk_regions",
        "The calling number is of a region for which stricter rules are in force.",
        "主叫号码属于从严管理的重点地区。",
    ),
    Rule(
        "ring_once", BEHAVIOUR,
        lambda call, terms: (call.one_rings_24h >= terms.ring_once_share) & (call.calls_24h >= terms.ring_once_calls),
        "one_rings_24h", "ring_once_share", "",
        "{value} of this number's calls of the last 24 hours were dropped after one ring (limit {limit}).",
        "该号码过去24小时有{value}的呼叫响一声即挂断（界限{limit}）。",
    ),
    Rule(
        "call_bombing", BEHAVIOUR,
        lambda call, terms: (call.callee_calls_1h >= terms.bombing_calls) & _among(call.callee_class, _PERSONAL),
        "callee_calls_1h", "bombing_calls", "",
        "The called person's number was called {value} times in the last hour (limit {limit}).",
        "被叫用户过去1小时内接到{value}次来电（界限{limit}）。",
    ),
    Rule(
        "many_callers", BEHAVIOUR,
        lambda call, terms: (call.callee_callers_1h >= terms.many_callers) & _among(call.callee_class, _PERSONAL),
        "callee_callers_1h", "many_callers", "",
        "The called person's number was called by {value} different numbers in the last hour (limit {limit}).",
        "被叫用户过去1小时内接到{value}个不同号码的来电（界限{limit}）。",
    ),
    Rule(
        "protected_caller", GUARD, lambda call, _: _among(call.caller_class, _PROTECTED) | (call.caller_protected == 1),
        "", "", "protected",
        "An emergency, public-service or registered protected number calls: it is never blocked.",
        "主叫为紧急、公共服务或受保护号码，任何情况下不得拦截。",
    ),
    Rule(
        "protected_callee", GUARD, lambda call, _: _among(call.callee_class, _PROTECTED) | (call.callee_protected == 1),
        "", "", "callee",
        "An emergency, public-service or registered protected number is called: calls to it are never blocked.",
        "被叫为紧急、公共服务或受保护号码，呼叫一律不得拦截。",
        "protected",
    ),
    Rule(
        "accepted_category", GUARD, lambda call, _: call.accepts == 1, "", "", "preferences",
        "The called person told the operator that calls of this kind are welcome.",
        "被叫用户已设置接受此类来电。",
    ),
    Rule(
        "called_first", GUARD, lambda call, _: (call.called_first == 1) & _among(call.caller_class, _SHOWN), "", "", "",
        "The called person called this number in the last 5 days, before this number called them.",
        "被叫用户近5天内先拨打过该号码。",
    ),
    Rule(
        "long_talks", GUARD,
        lambda call, terms: (call.long_talk_days >= terms.known_talk_days) & _among(call.caller_class, _SHOWN),
        "long_talk_days", "known_talk_days", "",
        "The called person and this number talked for a minute or longer on {value} of the last 6 days.",
        "被叫用户近6天内有{value}天与该号码通话达1分钟。",
    ),
    Rule(
        "repeated_caller", GUARD,
        lambda call, terms: (
            (call.pair_calls_1h >= terms.repeat_calls)
            & (call.pair_calls_1h < terms.bombing_calls)
            & _among(call.caller_class, _SHOWN)
        ),
        "pair_calls_1h", "repeat_calls", "",
        "This number rings the called person again: it called {value} times in the last hour (limit {limit}).",
        "该号码再次呼叫被叫用户：过去1小时内已呼叫{value}次（界限{limit}）。",
    ),
    Rule(
        "trusted_caller", GUARD,
        lambda call, _: (
            (call.caller_trusted == 1)
            & (call.attestation != ATTESTATIONS.index("failed"))
            & (call.presented_differs != 1)
        ),
        "", "", "trusted",
        "The owner of the network trusts this number, and nothing shows that it is forged.",
        "该号码为网络所有者列出的可信号码，且未见冒用迹象。",
    ),
    Rule(
        "against_predicted_preference", PREDICTED, lambda call, _: call.unwanted == 1, "", "", "preferences",
        "The call looks like one of a kind that the called person told the operator is not wanted.",
        "该来电疑似被叫用户已设置不接听的类别。",
    ),
    Rule(
        FLAGGED, PREDICTED, lambda call, _: (call.flag_events >= 1) & _among(call.caller_class, _SHOWN),
        "flag_events", "", "",
        "This number is flagged: {value} of its earlier calls looked like nuisance calls.",
        "该号码已被标记：此前有{value}次来电疑似骚扰电话。",
    ),
    Rule(
        LISTED, PREDICTED,
        lambda call, _: (call.list_issuers == 1) & (call.list_bound > CERTIFIED_BOUND)
        & _among(call.caller_class, _SHOWN),
        "list_hours", "", "",
        "This number is on the list of {issuers} for {behaviour} calls, the last of them {value} hours ago.",
        "该号码在{issuers}的名单上（{behaviour}），最近一次在{value}小时前。",
    ),
    Rule(
        LISTED_CONFIRMED, BEHAVIOUR,
        lambda call, _: ((call.list_issuers >= 2) | (call.list_bound <= CERTIFIED_BOUND))
        & _among(call.caller_class, _SHOWN),
        "list_hours", "", "",
        "Two issuers list this number, or one with a certificate: {issuers}, for {behaviour} calls, the last of them "
        "{value} hours ago.",
        "该号码被两个名单列入，或被一个经认证的名单列入：{issuers}（{behaviour}），最近一次在{value}小时前。",
    ),
)  # fmt: skip
ON_LISTS = tuple(rule for rule in RULES if rule.name in (LISTED, LISTED_CONFIRMED))
RULE_BY_NAME = {rule.name: rule for rule in RULES}
ACTION_RULES = tuple(rule.name for rule in RULES if rule.kind != GUARD)
UNREGISTERED = tuple(rule for rule in RULES if rule.kind != REGISTER and rule.register != "preferences")
"""The rules that can hold without registers."""


def matching_rules(call: RuleInput, terms: Terms, rules: tuple[Rule, ...] = RULES) -> tuple[Rule, ...]:
    """Returns the rules that one call meets, in the order of `rules`."""
    return tuple([rule for rule in rules if rule.when(call, terms)])


def collect_facts(
    call: RuleInput,
    terms: Terms,
    registers: Registers | None,
    rules: tuple[Rule, ...] | None = None,
    listing: tuple[str, str] = ("", ""),
) -> tuple[Fact, ...]:
    """Returns the facts of one call, in the order of RULES.

    `rules`: the rules to test; by default all rules that can hold. `listing`: the issuers that list the caller, and the
    class of its calls, for the rules ON_LISTS.
    """
    if rules is None:
        rules = UNREGISTERED if registers is None else RULES
    return tuple([_fact(rule, call, terms, registers, listing) for rule in matching_rules(call, terms, rules)])


@lru_cache(maxsize=1 << 12)
def candidate_rules(
    attestation: int, route: int, caller_class: int, callee_class: int, presented_differs: int, own_number: bool
) -> tuple[Rule, ...]:
    """Returns the rules that a call with these fields of `KeyedCall` may meet without registers, in order.

    Rules of behaviour, and guards of known or repeated callers, stay candidates: they depend on the history. All other
    rules depend on these fields alone. Few combinations of the fields occur, so most calls skip nearly all conditions
    thanks to the cache.
    """
    fields = (attestation, route, caller_class, callee_class, presented_differs)
    call = RuleInput(*(math.nan if value == UNKNOWN else float(value) for value in fields))
    call.own_number = float(own_number)
    by_history = {rule.name for rule in UNREGISTERED if rule.kind == BEHAVIOUR} - {LISTED_CONFIRMED} | _OF_HISTORY
    return tuple(rule for rule in UNREGISTERED if rule.name in by_history or rule.when(call, Terms()))


def _fact(rule: Rule, call: RuleInput, terms: Terms, registers: Registers | None, listing: tuple[str, str]) -> Fact:
    value, limit = (_field(name, call, terms) for name in (rule.value, rule.limit))
    entry, valid_from, known_at = "", "", ""
    row = call.rows.get(rule.register, -1)
    table = rule.table or rule.register
    if registers is not None and row >= 0:
        entry, valid_from, known_at = registers.entry(table, row)
    issuers, behaviour = listing
    in_english, in_chinese = BEHAVIOURS.get(behaviour, ("", ""))
    words = {"limit": _format_value(rule.limit, limit), "issuers": issuers}
    return Fact(
        rule=rule.name,
        en=rule.en.format(value=_format_value(rule.value, value), behaviour=in_english, **words),
        zh=rule.zh.format(value=_format_value(rule.value, value, CLASSES_ZH), behaviour=in_chinese, **words),
        value=value,
        limit=limit,
        register=table if entry else "",
        entry=entry,
        valid_from=valid_from,
        known_at=known_at,
    )


def _field(name: str, call: RuleInput, terms: Terms) -> float:
    if not name:
        return math.nan
    return float(getattr(call, name) if hasattr(call, name) else getattr(terms, name))


def _format_value(name: str, value: float, classes: tuple[str, ...] = NUMBER_CLASSES) -> str:
    """Formats a value for people.

    >>> _format_value("caller_class", 4.0), _format_value("one_rings_24h", 0.75)
    ('fixed', '75%')
    >>> _format_value("calls_24h", 1234.0), _format_value("hour", 8.0)
    ('1,234', '08:00')
    """
    if math.isnan(value):
        return ""
    if name == "caller_class":
        return classes[int(value)].replace("_", " ")
    if name == "hour":
        return f"{value:02.0f}:00"
    return f"{value:.0%}" if name in ("one_rings_24h", "ring_once_share") else f"{value:,.0f}"
