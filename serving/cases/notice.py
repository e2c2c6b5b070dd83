"""The notice to a person whose call did not pass: one page in plain words, in English or Chinese.

It names the case, the action, the reasons, how to appeal and by when an appeal is answered. After a decision it states
the decision and its reason. It contains no token, no score and no technical term.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from callsieve.features.files.dates import time_zone

from .case_rules import CaseRules
from .store import Case
from .tables import OPEN, OVERTURNED, Clearance

LANGUAGES = ("en", "zh")

_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "title": "About a call from your number\n\nYour case number: {case}",
        "what": "WHAT HAPPENED",
        "label": "On {at}, a call was made from your number. The person called saw a warning.",
        "screen": "On {at}, a call was made from your number. The caller was first asked who was calling and why.",
        "block": "On {at}, a call was made from your number. It was not put through.",
        "program": "A computer program did this. It looks at how a number is used. It does not hear what is said. "
        "It can be wrong.",
        "why": "WHY",
        "reasons": "These facts counted most:",
        "no_reasons": "The program gave no single fact that counted most.",
        "do": "WHAT YOU CAN DO",
        "appeal": "If this is wrong, tell us your case number. It costs nothing. A person will look at your case "
        "within {hours} hours.",
        "open": "You told us on {appealed} that this is wrong. A person will look at your case and answer by {due}.",
        "overturned": "A person looked at your case on {decided} and agrees with you: it was wrong. Your calls pass "
        "again without a mark, until {until}. Your calls will not be used to teach the program.",
        "upheld": "A person looked at your case on {decided} and found that it was right.",
        "reason_given": "The reason: {why}",
        "again": "If you do not agree, you can tell us again, up to {times} times in {days} days. "
        "You can also turn to {redress}.",
        "ended": "On {ended}, a person ended this. From then on your calls are checked again. The reason: {why}",
    },
    "zh": {
        "title": "关于用您的号码拨出的一通电话\n\n您的案件编号：{case}",
        "what": "发生了什么",
        "label": "{at}，您的号码拨出了一通电话，对方的手机上显示了提醒。",
        "screen": "{at}，您的号码拨出了一通电话，系统先请来电人说明身份和事由，再决定是否接通。",
        "block": "{at}，您的号码拨出了一通电话，这通电话没有接通。",
        "program": "这是电脑程序做的判断。它只看号码的使用情况，不听通话内容。它也会出错。",
        "why": "为什么",
        "reasons": "主要依据是：",
        "no_reasons": "程序没有给出特别突出的依据。",
        "do": "您可以怎么做",
        "appeal": "如果判断错了，请把案件编号告诉我们，不收任何费用。工作人员会在{hours}小时内亲自查看。",
        "open": "您在{appealed}告诉我们判断有误。工作人员会亲自查看，最晚在{due}答复您。",
        "overturned": "工作人员在{decided}查看后认为您说得对：判断错了。您的电话恢复正常，不再被标记，有效期到{until}。"
        "您的通话不会再用来训练程序。",
        "upheld": "工作人员在{decided}查看后认为判断没有错。",
        "reason_given": "理由：{why}",
        "again": "如果您不同意，可以再次告诉我们，{days}天内最多{times}次。您也可以联系{redress}。",
        "ended": "工作人员在{ended}结束了上述处理，之后您的电话会重新接受检查。理由：{why}",
    },
}


def notice(
    case: Case, rules: CaseRules, language: str, zone: str = "Asia/Shanghai", last_clearance: Clearance | None = None
) -> str:
    """Returns the current notice of a case."""
    if language not in LANGUAGES:
        raise ValueError(f"language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    texts, clock = _TEXTS[language], time_zone(zone)

    def text(name: str, **values: Any) -> str:
        return texts[name].format(**values)

    def date(moment: int) -> str:
        return _format_moment(datetime.fromtimestamp(moment / 1000, clock), language)

    record = case.record
    facts = [fact for fact in (*record.rules, *record.reasons) if isinstance(fact, dict) and language in fact]
    reasons = [f"  - {fact[language]}" for fact in facts]
    parts = [
        text("title", case=record.case),
        f"{text('what')}\n{text(record.action, at=date(record.at))} {text('program')}",
        "\n".join([text("why"), text("reasons" if reasons else "no_reasons"), *reasons]),
    ]
    last = case.appeals[-1] if case.appeals else None
    lines = [text("do")]
    if last is None:
        lines.append(text("appeal", hours=f"{rules.answer_hours:g}"))
    elif last.state == OPEN:
        lines.append(text("open", appealed=date(last.at), due=date(last.due)))
    else:
        final = last.decisions[-1]
        lines.append(text(last.state, decided=date(final.at), until=date(final.at + rules.clearance)))
        lines.append(text("reason_given", why=final.why))
        ended = None if last_clearance is None else last_clearance.ended_at
        if last_clearance is not None and ended is not None:
            lines.append(text("ended", ended=date(ended), why=last_clearance.ended_why))
        if last.state != OVERTURNED or ended is not None:
            limits = {"times": rules.limits.per_number, "days": f"{rules.limits.days:g}"}
            lines.append(text("again", redress=getattr(rules.redress, language), **limits))
    return "\n\n".join([*parts, "\n".join(lines)]) + "\n"


def _format_moment(moment: datetime, language: str) -> str:
    if language == "zh":
        return f"{moment.year}年{moment.month}月{moment.day}日{moment:%H:%M}"
    return f"{moment.day} {moment:%B %Y at %H:%M}"
