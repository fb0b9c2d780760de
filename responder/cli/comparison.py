"""How the difference of decisions is shown: to a reviewer as `-` and `+` lines in 80 columns, to programs as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Final

from responder.cli.output import count
from responder.cli.replayed import Answered, Replay
from responder.cli.retelling import WIDTH
from responder.decisions import Decision, clock
from responder.differences import Answering, Comparison, Difference, Group, Played, compare
from responder.positions import clean
from responder.story import alert_text
from responder.timing import SECOND

LONGEST: Final = 400
"""Characters of one decision; the whole is in the JSON."""
NAMED: Final = 20
"""Groups about which nothing differs that are named before the rest are counted."""


def compared(configured: Replay, other: Replay) -> Comparison:
    """The difference of decisions between two replays of the same notifications that began at the same time."""
    return compare(_played(configured), _played(other))


def _played(replay: Replay) -> Played:
    return Played(tuple(_answering(one) for one in replay.alerts), replay.tales)


def _answering(one: Answered) -> Answering:
    return Answering(one.alert.fingerprint, alert_text(one.alert.labels), one.runbook, one.target, one.problems)


# --- for people -------------------------------------------------------------------------------------------------------


def as_text(comparison: Comparison) -> str:
    """The summary, then each group that differs, then the others; a `diff` block of a pull request colours it."""
    lines = list(_wrapped(summary(comparison), "", ""))
    if not comparison.same:
        lines += ["- the configured rules", "+ the other rules"]
    for group in comparison.groups:
        if not group.same:
            lines += ["", *_wrapped(f"{group.title}: different", "", "  "), *_group(group)]
    return "\n".join([*lines, *_same([group for group in comparison.groups if group.same])])


def summary(comparison: Comparison) -> str:
    """`3 alerts: 2 the same, 1 different`."""
    same, different = comparison.alerts(same=True), comparison.alerts(same=False)
    parts = [f"{n} {word}" for n, word in ((same, "the same"), (different, "different")) if n]
    said = f"{count(same + different, 'alert')}{': ' if parts else ''}{', '.join(parts)}"
    without = [group for group in comparison.groups if not group.alerts]
    if not without:
        return said
    changed = sum(not group.same for group in without)
    how = f"{changed} different" if changed else "the same"
    return f"{said}; {count(len(without), 'incident')} without an alert: {how}"


def _same(groups: list[Group]) -> Iterator[str]:
    if groups:
        yield ""
    for group in groups[:NAMED]:
        yield from _wrapped(f"{group.title}: the same", "", "  ")
    if len(groups) > NAMED:
        yield f"and {len(groups) - NAMED} more: the same"


def _group(group: Group) -> Iterator[str]:
    incident = ""
    for difference in group.differences:
        if difference.incident != incident:
            incident = difference.incident
            yield from _wrapped(f"Incident of {incident}", "  ", "    ")
        for sign, decision, beside in _sides(difference):
            yield from _decision(sign, decision, beside)


def _sides(difference: Difference) -> Iterator[tuple[str, Decision, Decision | None]]:
    one, two = difference.configured, difference.other
    if one is not None:
        yield "-", one, two
    if two is not None:
        yield "+", two, one


def _decision(sign: str, decision: Decision, beside: Decision | None) -> Iterator[str]:
    at = "" if decision.offset is None else clock(decision.offset)
    text = said(decision, beside)
    shown = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    yield from _wrapped(shown, f"{sign} {at:>8}  ", f"{sign} {'':>8}    ")


def said(decision: Decision, beside: Decision | None = None) -> str:
    """What was decided, with only those details in which it differs from the one `beside` it."""
    told, without = decision.details, list[str]()
    if beside is not None and beside.details != told:
        without = [f"no {name}" for name in beside.details if name not in told]
        told = {name: value for name, value in told.items() if beside.details.get(name) != value}
    named = ", ".join([*([told[""]] if "" in told else []), *(f"{n} {v}" for n, v in told.items() if n), *without])
    note = f" ({decision.note})" if decision.note else ""
    return f"{decision.what}{': ' if named else ''}{named}{note}"


def _wrapped(text: str, first: str, rest: str) -> Iterator[str]:
    plain = " ".join(clean(text).split())
    yield from textwrap.wrap(
        plain, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=True
    ) or [first]


# --- for programs -----------------------------------------------------------------------------------------------------


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Offsets are seconds since the beginning; null for what stands before anything happens."""
    return {
        "same": comparison.same,
        "summary": summary(comparison),
        "alerts": {
            "same": comparison.alerts(same=True),
            "different": comparison.alerts(same=False),
        },
        "groups": [_group_json(group) for group in comparison.groups],
    }


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "same": group.same,
        "alerts": [{"fingerprint": one.fingerprint, "text": one.alert} for one in group.alerts],
        "differences": [_difference_json(difference) for difference in group.differences],
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    decision = difference.configured or difference.other
    return {
        "kind": None if decision is None else decision.subject[0],
        "incident": difference.incident or None,
        "configured": _decision_json(difference.configured),
        "other": _decision_json(difference.other),
    }


def _decision_json(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "offset": None if decision.offset is None else decision.offset / SECOND,
        "text": said(decision),
        "details": {name or "is": value for name, value in decision.details.items()},
        "reason": decision.note,
    }
