"""Designs that work and are risky all the same: warnings, which never keep a set from being loaded.

What is risky about one runbook is told by `risks`; here is what only the whole set shows, and the comments by which
people say that a risk is meant: `# lint: allow CODE reason`, on the line of the warning or on its own above it. Not
here: what is wrong for certain, which `loader` and `references` refuse.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from responder.conflicts import Entry
from responder.documents import Document
from responder.ladders import SHIPPED, nobody_told, one_way
from responder.mistakes import closest
from responder.policies import Policies
from responder.problems import Mark, Problem, draw, lines_of
from responder.recorded import Mode
from responder.references import Configured, Surroundings
from responder.risks import Code, Subject, risks_of
from responder.runbook import Runbook, target_inputs
from responder.timing import SECOND, format_duration


def warnings(
    entries: Sequence[Entry], policies: Policies, around: Surroundings, ladders: Sequence[Document] = ()
) -> tuple[Problem, ...]:
    """What is risky about a set that may be loaded, without what its comments allow; each once, by file and line.
    `ladders`: the files of the policies."""
    found = [p for entry in entries for p in risks_of(Subject(entry.runbook, entry.document, around))]
    for code, problems in _between(entries, policies, around):
        found += [replace(problem, code=code) for problem in problems]
    found += [replace(p, code=Code.ONE_WAY) for p in _one_way(ladders, policies, around.configured)]
    found += [replace(p, code=Code.NOBODY_TOLD) for p in _nobody_told(ladders, policies, around.configured)]
    texts = {**_texts(entries), **{file: text for one in ladders for file, text in one.texts.items()}}
    allowances = list(_allowances(texts))
    kept = [problem for problem in found if not any(a.allows(problem) for a in allowances)]
    useless = [a.useless() for a in allowances if not any(a.allows(problem) for problem in found)]
    told = sorted({*kept, *useless}, key=lambda p: (p.file, p.line, p.column, p.code))
    return (*told, *unreached(policies, around.configured))


# --- what only the set shows ------------------------------------------------------------------------------------------


def unreached(policies: Policies, configured: Configured) -> Iterator[Problem]:
    """Alerts without a runbook that reach the console only, although somebody could be woken."""
    default = policies.policies.get(policies.default or "")
    levels = default.levels if default is not None else ()
    reached = {configured.notifiers[name].kind for level in levels for name in level.page}
    others = [n for n, notifier in configured.notifiers.items() if notifier.pages and notifier.kind != "console"]
    if others and reached <= {"console"}:
        message = f"alerts without a runbook wake nobody: the policy {policies.default!r} reaches the console only"
        hint = "name another policy as `default:` in a policies.yaml of your own"
        yield Problem("policies.yaml", 1, 1, "default", message, hint, code=Code.NOBODY_WOKEN)


def _between(
    entries: Sequence[Entry], policies: Policies, around: Surroundings
) -> Iterator[tuple[Code, Iterator[Problem]]]:
    yield Code.NEVER_STARTED, _never_started(entries)
    yield Code.UNHEARD_PROMISES, _unheard_promises(entries)
    yield Code.SPLIT_LOCK, _split_locks(entries)
    yield Code.SILENT_POLICY, _silent_policies(entries, policies, around.configured)
    yield Code.GRACE_TOO_SHORT, _short_graces(entries, policies)


def _started(entries: Iterable[Entry]) -> frozenset[str]:
    promises = (promise for entry in entries for promise in entry.runbook.unless_fixed.values())
    return frozenset(promise.run for promise in promises if promise.run is not None)


def _by_another(runbook: Runbook) -> bool:
    """Neither an alert nor a schedule starts it."""
    return not runbook.match and runbook.schedule is None


def _never_started(entries: Sequence[Entry]) -> Iterator[Problem]:
    started = _started(entries)
    for entry in entries:
        if _by_another(entry.runbook) and entry.runbook.runbook not in started:
            hint = "add `match:` or `schedule:`, or name it as `run:` below another runbook's `unless_fixed:`"
            yield entry.document.at_value(("runbook",), "nothing starts this runbook", hint)


def _unheard_promises(entries: Sequence[Entry]) -> Iterator[Problem]:
    """The run of a machine's next step belongs to the incident of the runbook that promised it (design 5.7)."""
    started = _started(entries)
    for entry in entries:
        name, promised = entry.runbook.runbook, entry.runbook.unless_fixed
        if _by_another(entry.runbook) and name in started and promised:
            message = "these are never kept: another runbook starts this one, and only its promises count then"
            hint = f"write them below `unless_fixed:` of the runbook that runs {name}"
            yield entry.document.at_key(("unless_fixed",), message, hint)


def _split_locks(entries: Sequence[Entry]) -> Iterator[Problem]:
    """A lock is on the target's text: what is changed under two targets may be changed twice at the same time."""
    for parameter, users in _users(entries).items():
        targets = {entry.runbook.target for entry in users}
        for entry in users:
            others = sorted(targets - {entry.runbook.target})
            if others or target_inputs(entry.runbook):
                who = f"this and the target {others[0]!r}" if others else "incidents with different inputs"
                message = f"{who} change {parameter} under different locks, so at the same time"
                hint = f"write `target: {parameter}` wherever it is changed"
                yield entry.document.at_value(("target",), message, hint)


def _users(entries: Iterable[Entry]) -> Mapping[str, list[Entry]]:
    """The runbooks that change each parameter."""
    users: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        for parameter in {step.with_.get("parameter") for step in entry.runbook.steps}:
            if isinstance(parameter, str):
                users[parameter].append(entry)
    return users


def _silent_policies(entries: Iterable[Entry], policies: Policies, configured: Configured) -> Iterator[Problem]:
    for entry in entries:
        policy = policies.policies.get(entry.runbook.escalation or "")
        if policy is None:
            continue
        paged = {name for level in policy.levels for name in level.page}
        if not any(type(configured.notifiers[name]).pages for name in paged):
            message = f"the policy {entry.runbook.escalation!r} has no level that can wake anybody"
            yield entry.document.at_value(("escalation",), message, "page somebody with a pager on one of its levels")


def _one_way(ladders: Iterable[Document], policies: Policies, configured: Configured) -> Iterator[Problem]:
    """At the policy, once: what one provider carries falls silent as a whole."""
    found = dict(one_way(policies.policies, configured.notifiers))
    for document in ladders:
        written = document.get(("policies",))
        for name in written if isinstance(written, dict) else ():
            if name in found:
                told = ", ".join(repr(policies.policies[name].levels[n].name) for n in found[name])
                message = f"{told}: one provider alone wakes people, so when it is down nobody is"
                hint = "name a pager of another provider as `fallback:`, such as Opsgenie or an SMS gateway (webhook)"
                yield document.at_key(("policies", name), message, hint)


def _nobody_told(ladders: Iterable[Document], policies: Policies, configured: Configured) -> Iterator[Problem]:
    """Where the policy is written that counts. What is shipped for an env matters where a service is of that env."""
    envs = {service.env for service in configured.services.values()}
    used = {env: name for env, name in policies.by_env.items() if env in envs}
    written: dict[str, Document] = {}
    for document in sorted(ladders, key=lambda one: one.file != SHIPPED):
        named = document.get(("policies",))
        written |= dict.fromkeys(named if isinstance(named, dict) else (), document)
    found = nobody_told(policies, configured.notifiers)
    shipped = nobody_told(policies.model_copy(update={"by_env": used}), configured.notifiers)
    if any(unreached(policies, configured)):
        found = {name: severities for name, severities in found.items() if name != policies.default}
    for name, severities in found.items():
        place = written.get(name)
        if place is None or (place.file == SHIPPED and name not in shipped):
            continue
        told = ", ".join(one if one is not None else "none" for one in severities)
        message = f"alerts without a runbook that get this policy reach nobody by it if their severity is {told}"
        hint = "give it a level with a pager, and a chat for what is `chat_only`, in a policies.yaml of your own"
        yield place.at_key(("policies", name), message, hint)


_SLACK: Final = 10 * SECOND
"""For the steps themselves, and for the check, which is asked every few seconds."""


def _short_graces(entries: Iterable[Entry], policies: Policies) -> Iterator[Problem]:
    """Who pages at once (no grace) means it; a grace is there so that what helps wakes nobody (design 5.7)."""
    for entry in entries:
        runbook, policy = entry.runbook, policies.policies.get(entry.runbook.escalation or "")
        verify = runbook.verify
        if policy is None or verify is None or not runbook.steps or runbook.mode is not Mode.AUTO:
            continue
        first = min((max(policy.grace, level.after) for level in policy.levels if level.page), default=0)
        earliest = verify.settle + verify.hold
        if policy.grace and first <= earliest + _SLACK:
            paged, needed = format_duration(first), format_duration(earliest)
            message = f"the policy {runbook.escalation!r} pages after {paged}, and verification takes {needed} at least"
            hint = f"give it a longer `grace:`; up to `within: {format_duration(verify.within)}` it may still be fixed"
            yield entry.document.at_key(("verify",), message, hint)


# --- comments that allow ----------------------------------------------------------------------------------------------

_comment = re.compile(r"(?:^|\s)#\s*lint:\s*allow\b[ \t]*(?P<code>[^\s#]*)[ \t]*(?P<reason>.*)")


@dataclass(frozen=True, slots=True)
class _Allowance:
    """One comment: what it allows, why, and where it stands; it covers the lines from its own to `last`."""

    mark: Mark
    code: str
    reason: str
    last: int
    text: str

    def allows(self, problem: Problem) -> bool:
        """Without a reason it allows nothing: the next reader could not tell whether it is still meant."""
        here = problem.file == self.mark.file and self.mark.line <= problem.line <= self.last
        return here and problem.code == self.code and bool(self.reason)

    def useless(self) -> Problem:
        """Why this comment allows nothing."""
        if self.code not in list(Code):
            message, hint = f"there is no warning {self.code!r} to allow", closest(self.code, list(Code))
        elif not self.reason:
            message, hint = "this allows nothing: it gives no reason", f"write `# lint: allow {self.code} because …`"
        else:
            message, hint = f"nothing here is warned of as {self.code}", "remove the comment, or move it to the line"
        snippet = draw(self.mark, self.text)
        return Problem(*self.mark[:3], "", message, hint, snippet, Code.USELESS_ALLOW)


def _texts(entries: Iterable[Entry]) -> dict[str, str]:
    return {file: text for entry in entries for file, text in entry.document.texts.items()}


def _allowances(texts: Mapping[str, str]) -> Iterator[_Allowance]:
    for file, text in texts.items():
        if "allow" not in text:
            continue
        lines = lines_of(text)
        for number, line in enumerate(lines, start=1):
            found = _comment.search(line)
            if found is not None:
                mark = Mark(file, number, line.index("#", found.start()) + 1)
                yield _Allowance(mark, found["code"], found["reason"].strip(), _covered(lines, number), text)


def _covered(lines: Sequence[str], number: int) -> int:
    """The last line that a comment on this line speaks of: its own, or the first below comments that stand alone."""
    while number < len(lines) and lines[number - 1].lstrip().startswith("#"):
        number += 1
    return number
