"""What a policies.yaml names that is not there, and ladders that could never wake anybody: refused at load.

Each problem stands at its place, with the cure. Not here: the form of the file (`policies`), what follows from a policy
(`escalation`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from responder.contracts import Notifier
from responder.documents import Document
from responder.mistakes import closest
from responder.policies import SEVERITIES, Level, Owner, Policies, Policy
from responder.problems import Path, Problem
from responder.references import Configured

SHIPPED: Final = "rules/policies.yaml"
"""The file with which every set begins; others may say each of its things differently."""


@dataclass(frozen=True, slots=True)
class Known:
    """What policies may name; `calendars` is None when a file of them could not be read."""

    configured: Configured
    policies: Mapping[str, Policy]
    calendars: Collection[str] | None


def check_policies(document: Document, given: Policies, known: Known) -> Iterator[Problem]:
    """Everything that the policies of `document` name wrongly, or promise in vain."""
    for name, policy in given.policies.items():
        path: Path = ("policies", name)
        yield from _notifiers(document, path, policy, known)
        yield from _calendars(document, path, policy, known)
        yield from _owner(document, path, policy, known)
        for severity, other in policy.by_severity.items():
            if other not in known.policies:
                place = (*path, "by_severity", severity)
                yield document.at_value(place, f"unknown policy {other!r}", closest(other, known.policies))
        for index, level in enumerate(policy.levels):
            yield from _level(document, (*path, "levels", index), level, known)


def _notifiers(document: Document, path: Path, policy: Policy, known: Known) -> Iterator[Problem]:
    notifiers = known.configured.notifiers
    places: list[tuple[Path, tuple[str, ...]]] = [((*path, "chat"), policy.chat), ((*path, "changes"), policy.changes)]
    for index, level in enumerate(policy.levels):
        below: Path = (*path, "levels", index)
        places += [((*below, "page"), level.page), ((*below, "fallback"), level.fallback)]
    for place, names in places:
        for index, name in enumerate(names):
            if name not in notifiers:
                written = (*place, index) if (*place, index) in document.values else place
                yield document.at_value(written, f"unknown notifier {name!r}", closest(name, notifiers))


def _calendars(document: Document, path: Path, policy: Policy, known: Known) -> Iterator[Problem]:
    named: list[tuple[Path, str]] = [
        ((*path, "levels", i, "during"), level.during) for i, level in enumerate(policy.levels) if level.during
    ]
    if policy.hours is not None:
        named.append(((*path, "hours", "calendar"), policy.hours.calendar))
    for place, name in named:
        if known.calendars is not None and name not in known.calendars:
            yield document.at_value(place, f"unknown calendar {name!r}", closest(name, known.calendars))
    if policy.hours is not None:
        yield from _other_hours(document, (*path, "hours", "otherwise"), policy.hours.otherwise, known)


def _other_hours(document: Document, path: Path, name: str, known: Known) -> Iterator[Problem]:
    other = known.policies.get(name)
    if other is None:
        yield document.at_value(path, f"unknown policy {name!r}", closest(name, known.policies))
    elif other.hours is not None:
        hint = "name a policy that holds at any hour"
        yield document.at_value(path, f"policy {name} has hours of its own, so that some could have none", hint)


def _owner(document: Document, path: Path, policy: Policy, known: Known) -> Iterator[Problem]:
    """PagerDuty can only climb what it was told of."""
    if policy.owner is not Owner.PAGERDUTY:
        return
    first = policy.levels[0].page if policy.levels else ()
    kinds = [known.configured.notifiers[name].kind for name in first if name in known.configured.notifiers]
    if "pagerduty" not in kinds:
        hint = "let the first level page a notifier of kind pagerduty, or write `owner: responder`"
        yield document.at_value((*path, "owner"), "PagerDuty is never told, so nobody would climb", hint)


def _level(document: Document, path: Path, level: Level, known: Known) -> Iterator[Problem]:
    for index, name in enumerate(level.fallback):
        if name in level.page:
            place = (*path, "fallback", index) if (*path, "fallback", index) in document.values else (*path, "fallback")
            yield document.at_value(place, f"{name!r} is paged at this level anyway", "name another notifier")
    pagers = [n for name in level.page if (n := known.configured.notifiers.get(name)) is not None]
    able = any(n.kind == "pagerduty" and n.answers for n in pagers)
    if level.escalation_policy is not None and not able:
        hint = "give the level's PagerDuty notifier an `api_token`, or remove this"
        yield document.at_value((*path, "escalation_policy"), "nobody could move the incident there", hint)


def one_way(policies: Mapping[str, Policy], notifiers: Mapping[str, Notifier]) -> Iterator[tuple[str, list[int]]]:
    """Policies, and the numbers of their levels that wake people by one provider alone, `fallback` included: when it is
    down nobody is woken. A level that pages a console only is for `silent-policy`."""
    for name, policy in policies.items():
        found = [n for n, level in enumerate(policy.levels) if len(_ways(level, notifiers)) == 1]
        if found:
            yield name, found


def _ways(level: Level, notifiers: Mapping[str, Notifier]) -> set[tuple[str, str]]:
    """By whom a level wakes people: two keys of one provider fall silent together."""
    named = [notifiers[name] for name in (*level.page, *level.fallback) if name in notifiers]
    return {(n.kind, str(getattr(n, "url", ""))) for n in named if n.pages and n.kind != "console"}


def nobody_told(policies: Policies, notifiers: Mapping[str, Notifier]) -> Mapping[str, list[str | None]]:
    """Policies that alerts without a runbook get, and the severities (None: without one) of which they tell nobody: no
    level wakes anybody, or for those in `chat_only` there is no chat."""
    found: dict[str, list[str | None]] = {}
    for severity in (*SEVERITIES, None):
        for name in sorted(_reached(policies, severity)):
            policy = policies.policies[name]
            wakes = any(notifiers[to].pages for level in policy.levels for to in level.page if to in notifiers)
            if not (policy.chat if severity in policy.chat_only else wakes):
                found.setdefault(name, []).append(severity)
    return found


def _reached(policies: Policies, severity: str | None) -> set[str]:
    """The policies that an alert of this severity may get which no runbook answers, at whatever hour."""
    known, said = policies.policies, severity or ""
    first = {policies.by_severity.get(said, policies.default or ""), *policies.by_platform.values()}
    first |= set(policies.by_env.values())
    names = {known[name].by_severity.get(said, name) for name in first if name in known}
    hours = [known[name].hours for name in names if name in known]
    return {name for name in names | {other.otherwise for other in hours if other is not None} if name in known}
