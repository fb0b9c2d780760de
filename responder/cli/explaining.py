"""How an explanation is written: for people in 80 columns, the answer first, and for programs as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from responder.cli.output import plain
from responder.explanations import Considered, Explanation, Forecast, question
from responder.runbook import Promise, Runbook, Step
from responder.story import alert_text
from responder.timing import SECOND, format_duration, format_time

WIDTH: Final = 80
FEW: Final = 12
"""Runbooks that do not answer an alert and are told to people; JSON has them all."""
_LONGEST_VALUE: Final = 160


# --- for people -------------------------------------------------------------------------------------------------------


def as_text(explanations: Sequence[Explanation], unreadable: Sequence[str], now: int) -> str:
    """The explanations one after the other; `now` is µs since the epoch."""
    at = format_time(now - now % SECOND)
    told = [f"Explained offline, as of {at[:10]} {at[11:19]} UTC: nothing was asked or touched."]
    told += [line for one in explanations for line in ("", *_alert(one))]
    for fault in unreadable:
        told += ["", *_wrapped(f"This cannot be understood, so it is kept and people are paged: {fault}", "", "  ")]
    if not explanations and not unreadable:
        told += ["", "There is no alert in it."]
    return "\n".join(told)


def _alert(one: Explanation) -> Iterator[str]:
    yield from _wrapped(f"{alert_text(one.alert.labels)}: {_answer(one)}", "", "  ")
    labels = [f"{name}={value}" for name, value in sorted(one.alert.labels.items()) if name != "alertname"]
    yield from _field("labels", ", ".join(labels) or "none")
    if one.runbook is not None:
        yield from _runbook(one, one.runbook)
    yield from _others(one)
    yield from _field("told", _ladder(one))


def _others(one: Explanation) -> Iterator[str]:
    """The runbooks that somebody may have expected; the others are counted only."""
    others = [c for c in one.considered if one.runbook is None or not c.matches]
    near = [c for c in others if not c.elsewhere]
    if others:
        yield "  Other runbooks, the nearest first:" if one.runbook else "  Considered, the nearest first:"
    for considered in near[:FEW]:
        yield from _other(considered)
    if len(near) > FEW:
        yield f"    and {len(near) - FEW} more; --json names them all"
    far, more = len(others) - len(near), " other" * bool(near or one.runbook)
    if far:
        yield f"    {far}{more} runbook{'s answer' if far > 1 else ' answers'} other alerts"


def _answer(one: Explanation) -> str:
    """What a person wants to know first."""
    if not one.alert.firing:
        return "it is resolved, so it starts nothing" + ("" if one.runbook is None else f" ({one.runbook.runbook})")
    if one.runbook is None:
        return f"nothing runs, because {one.problems[0]}"
    name = one.runbook.runbook
    denied = [v for v in one.verdicts if v.answer is Forecast.DENY]
    held = [v for v in one.verdicts if v.answer in (Forecast.WAIT, Forecast.ASK)]
    if denied:
        return f"{name} answers, but changes nothing: {denied[0].reason}"
    if held:
        return f"{name} answers, but not at once: {held[0].reason}"
    return f"{name} answers, and goes on as far as can be known here"


def _runbook(one: Explanation, runbook: Runbook) -> Iterator[str]:
    yield from _field("runbook", f"{runbook.runbook}: {runbook.title}")
    yield from _field("because", ", ".join(map(str, runbook.matchers)))
    for value in one.values:
        use = "" if value.in_target else "; for evidence"
        said = value.problem or f"{value.name} = {value.value} (label {value.label}, {value.wanted}{use})"
        yield from _field("input", said)
    yield from _field("target", one.target)
    if not one.alert.firing:
        return
    yield "  Gates:"
    for verdict in one.verdicts:
        yield from _wrapped(verdict.reason, f"    {verdict.gate:<12}{verdict.answer.value:<9}", " " * 25)
    yield from _following(runbook)


def _following(runbook: Runbook) -> Iterator[str]:
    yield "  Then:"
    for number, step in enumerate(runbook.steps, start=1):
        when = f" (only when {step.when})" if step.when else ""
        yield from _wrapped(f"{number}. {step.title or step.id}: {_doing(step)}{when}{_tries(step)}", "    ", " " * 7)
    if not runbook.steps:
        yield "    no steps: people are told"
    if runbook.verify is not None:
        verify = runbook.verify
        asked = f"{verify.expect}, of {question(runbook.checks[verify.check])}"
        yield from _wrapped(f"verified by {asked}, within {format_duration(verify.within)}", "    ", " " * 7)
    for after, promise in runbook.promises:
        yield from _wrapped(f"unless fixed after {format_duration(after)}: {_promised(promise)}", "    ", " " * 7)


def _tries(step: Step) -> str:
    """What a step is asked again for, as far as the runbook says it: a change only after a temporary failure."""
    expects = f", expects {step.expect}" if step.expect is not None else ""
    often = f", tried up to {step.retry.attempts} times" if step.retry.attempts > 1 else ""
    unless = f" unless {step.retry.unless}" if often and step.retry.unless is not None else ""
    return f"{expects}{often}{unless}"


def _doing(step: Step) -> str:
    if step.manual is not None:
        return f"a person is asked: {step.manual}"
    given = [f"{name}={_short(value)}" for name, value in step.with_.items()]
    return " ".join([str(step.action), *given])


def _short(value: object) -> str:
    text = _flow(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _flow(value: object) -> str:
    """A value as people write it into YAML on one line, without the quotes that only a parser needs."""
    match value:
        case str():
            return value
        case dict():
            return f"{{{', '.join(f'{key}: {_flow(inner)}' for key, inner in value.items())}}}"
        case list() | tuple():
            return f"[{', '.join(map(_flow, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _promised(promise: Promise) -> str:
    parts = [f"{promise.run} runs"] if promise.run else []
    parts += [f"{', '.join(promise.page)} is paged"] if promise.page else []
    told = f", announced {format_duration(promise.countdown)} before" if promise.run and promise.countdown else ""
    return " and ".join(parts) + told


def _ladder(one: Explanation) -> str:
    policy = one.policy
    parts = [f"{', '.join(policy.chat)} at once"] if policy.chat else []
    for level in policy.levels:
        after = max(level.after, policy.grace)
        pages = f" pages {', '.join(level.page)}" if level.page else ""
        parts.append(f"{level.name}{pages} {f'after {format_duration(after)}' if after else 'at once'}")
    return f"policy {one.policy_name}: {'; '.join(parts) or 'nobody'}"


def _other(considered: Considered) -> Iterator[str]:
    words = "matches" if considered.matches else ""
    yield from _wrapped(f"{considered.runbook}{': ' if words else ''}{words}", "    ", "      ")
    for reason in considered.because:
        yield from _wrapped(reason, "      - ", "        ")


def _field(name: str, text: str) -> Iterator[str]:
    yield from _wrapped(text, f"  {name:<9}", " " * 11)


def _wrapped(text: str, first: str, rest: str) -> Iterator[str]:
    yield from textwrap.wrap(
        plain(text), WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    ) or [first]


# --- for programs -----------------------------------------------------------------------------------------------------


def as_json(explanations: Sequence[Explanation], unreadable: Sequence[str]) -> dict[str, Any]:
    """`{"alerts": [ALERT…]}`, durations in seconds (design 8); what cannot be understood is an alert without a name."""
    return {"alerts": [*map(_alert_json, explanations), *map(_unreadable_json, unreadable)]}


def _unreadable_json(fault: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"alertname": "", "fingerprint": "", "labels": {}, "status": "unreadable", "good": False}
    empty |= {"runbook": None, "target": "", "problems": [fault], "inputs": [], "verdicts": [], "considered": []}
    return {**empty, "steps": [], "unless_fixed": [], "policy": None}


def _alert_json(one: Explanation) -> dict[str, Any]:
    return {
        "alertname": one.alert.name,
        "fingerprint": one.alert.fingerprint,
        "labels": dict(one.alert.labels),
        "status": "firing" if one.alert.firing else "resolved",
        "good": one.good,
        "runbook": None if one.runbook is None else one.runbook.runbook,
        "target": one.target,
        "problems": list(one.problems),
        "inputs": [
            {"name": v.name, "label": v.label, "value": v.value, "wanted": v.wanted, "problem": v.problem}
            for v in one.values
        ],
        "verdicts": [{"gate": v.gate, "answer": v.answer.value, "reason": v.reason} for v in one.verdicts],
        "considered": [
            {"runbook": c.runbook, "matches": c.matches, "because": list(c.because)} for c in one.considered
        ],
        "steps": [_step_json(step) for step in one.runbook.steps] if one.runbook else [],
        "unless_fixed": [_promise_json(at, p) for at, p in one.runbook.promises] if one.runbook else [],
        "policy": _policy_json(one),
    }


def _step_json(step: Step) -> dict[str, Any]:
    return {"id": step.id, "action": step.action, "with": dict(step.with_), "manual": step.manual, "when": step.when}


def _promise_json(after: int, promise: Promise) -> dict[str, Any]:
    countdown = promise.countdown / SECOND
    return {"after": after / SECOND, "page": list(promise.page), "run": promise.run, "countdown": countdown}


def _policy_json(one: Explanation) -> dict[str, Any]:
    levels = [
        {"name": level.name, "after": max(level.after, one.policy.grace) / SECOND, "page": list(level.page)}
        for level in one.policy.levels
    ]
    return {"name": one.policy_name, "chat": list(one.policy.chat), "levels": levels}
