"""What is risky about one runbook that may be loaded, each risk with the code by which people can allow it.

A risk is told only where a good runbook would be written differently: whoever is warned without need stops reading.
Not here: comments that allow one, and what runbooks do to each other (`lint`); what is wrong for certain
(`references`, `soundness`).
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from responder.contracts import Action
from responder.documents import Document
from responder.expressions import evaluate, parse_expression
from responder.lookback import lookback
from responder.mistakes import closest
from responder.problems import Path, Problem
from responder.recorded import Effect
from responder.references import Surroundings
from responder.render import has_placeholder, template_strings
from responder.runbook import Runbook, Step, Verify, target_inputs
from responder.selectors import unscoped
from responder.services import AlertmanagerService
from responder.timing import format_duration, parse_duration


class Code(StrEnum):
    """The name of a warning, for `# lint: allow CODE reason`."""

    NO_VERIFICATION = "no-verification"
    """Steps change something, and no `verify` tells whether it helped."""
    NO_FRESHNESS = "no-freshness"
    """A check of `only_if` or `verify` has no `freshness`, so an old answer counts as a new one."""
    UNSCOPED_QUERY = "unscoped-query"
    """A selector of a query has no `env`, so staging can decide what is done in prod; only its own braces are read."""
    NO_TIMEOUT = "no-timeout"
    """A change has no `timeout` of its own: after the usual 10s its outcome is unknown."""
    NO_COOLDOWN = "no-cooldown"
    """An alert that comes back starts the next run at once."""
    NO_RUN_LIMIT = "no-run-limit"
    """Nothing limits how often it runs."""
    NO_ESCALATION = "no-escalation"
    """Nothing says who is told."""
    UNSAFE_STEP = "unsafe-step"
    """When the answer to a change is lost, nothing can find out whether it happened."""
    UNHEARD_SILENCE = "unheard-silence"
    """It silences alerts in an Alertmanager that is not among `alertmanagers`, so their end is never heard."""
    ACTS_BLIND = "acts-blind"
    """`act_and_page` on what is no brake: it acts without data."""
    ANY_ALERT = "any-alert"
    """It changes something for alerts of any name, also of those that come tomorrow."""
    UNRELATED_TARGET = "unrelated-target"
    """No step, service or parameter has to do with the target, so its lock guards nothing."""
    SHORT_VERIFICATION = "short-verification"
    """The query looks back further than `verify` waits, so what was before still counts."""
    ALREADY_VERIFIED = "already-verified"
    """A value with which it acts is one that `verify` accepts, so doing nothing would count as fixed."""
    EARLY_MACHINE = "early-machine"
    """`unless_fixed` runs the next runbook while verification may still succeed."""
    GRACE_TOO_SHORT = "grace-too-short"
    """The policy pages in the very moment in which verification can first hold."""
    DEAD_PROMISE = "dead-promise"
    """A `run` of `unless_fixed` that never comes, because nothing was tried or nothing is checked."""
    SILENT_PAGE = "silent-page"
    """A `page` of `unless_fixed` names a notifier that wakes nobody."""
    NOBODY_RESTORES = "nobody-restores"
    """A change waits for a role that nobody has."""
    BRAKE_YIELDS = "brake-yields"
    """A brake with `yields_to` waits, and lowers no risk meanwhile."""
    BRAKE_BEHIND = "brake-behind"
    """A brake stands behind a change that the gates may refuse, and is never reached then."""
    UNUSED_INPUT = "unused-input"
    """Nothing uses an input, but a bad value of it pages."""
    UNUSED_EACH = "unused-each"
    """`each` reads the same for every value."""
    NEVER_STARTED = "never-started"
    """No alert, schedule or other runbook starts it."""
    UNHEARD_PROMISES = "unheard-promises"
    """`unless_fixed` of a runbook that only others start: only the promises of those count."""
    SPLIT_LOCK = "split-lock"
    """One parameter is changed under several targets, so twice at the same time."""
    SILENT_POLICY = "silent-policy"
    """No level of the policy can wake anybody."""
    NOBODY_WOKEN = "nobody-woken"
    """Alerts without a runbook reach the console only."""
    NOBODY_TOLD = "nobody-told"
    """Alerts without a runbook get a policy that, for some severity, wakes nobody, or has no chat to tell it."""
    ONE_WAY = "one-way"
    """Levels of a policy page by one provider alone: when it is down nobody is woken."""
    USELESS_ALLOW = "useless-allow"
    """A comment that allows nothing."""


@dataclass(frozen=True)
class Subject:
    """The runbook that is looked at, the document it was read from, and what it may name."""

    runbook: Runbook
    document: Document
    around: Surroundings

    @cached_property
    def changing(self) -> tuple[tuple[int, Step], ...]:
        """The steps that may change something, with their index. What a person does is the person's."""
        steps = enumerate(self.runbook.steps)
        return tuple((i, s) for i, s in steps if s.action is not None and self.effect(s) is not Effect.READ)

    @property
    def brakes(self) -> bool:
        """Whether every change can only lower risk."""
        return all(self.brake(step) for _, step in self.changing)

    def brake(self, step: Step) -> bool:
        """Whether the step can only lower risk."""
        return self.runbook.brake if step.brake is None else step.brake

    def effect(self, step: Step) -> Effect:
        """What repeating the step means, with the service that it names."""
        action = self.around.catalogue.actions[step.action or ""]
        if action.reads_only:
            return Effect.READ
        made, configured = _made(action, step), self.around.configured
        services = (configured.services.get(name) for name in made.services(configured.parameters))
        return made.effect(keyed=any(getattr(service, "idempotency_keys", False) for service in services))


def _made(action: type[Action], step: Step) -> Action:
    try:
        return action.model_validate(step.with_, by_alias=True, by_name=False)
    except ValidationError:  # of a field that a template will fill in; none of them decides the effect
        return action.model_construct(None, **step.with_)


def risks_of(subject: Subject) -> Iterator[Problem]:
    """Every risk of one runbook, each with its code."""
    for code, risk in _RISKS:
        for problem in risk(subject):
            yield replace(problem, code=code)


# --- changes ----------------------------------------------------------------------------------------------------------


def _no_verification(subject: Subject) -> Iterator[Problem]:
    if subject.changing and subject.runbook.verify is None:
        hint = "without `verify:` every run ends unverified, and people are paged"
        yield subject.document.at_key(("steps",), "nothing tells whether these steps helped", hint)


def _no_timeout(subject: Subject) -> Iterator[Problem]:
    for index, _ in subject.changing:
        if subject.document.get(("steps", index, "timeout")) is None:
            message = "a change without a `timeout` of its own: after the usual 10s its outcome counts as unknown"
            hint = "write how long this service may take, such as `timeout: 10s`"
            yield subject.document.at_value(("steps", index, "id"), message, hint)


def _unsafe_step(subject: Subject) -> Iterator[Problem]:
    for index, step in subject.changing:
        if subject.effect(step) is Effect.UNSAFE:
            message = "if the answer to this is lost, nobody knows whether it happened, and the target stays locked"
            hint = "add a `probe:` that tells, or `idempotency_keys: true` to the service if it honours them"
            if "repeatable" in subject.around.catalogue.actions[step.action or ""].model_fields:
                hint = "say `repeatable: true` if doing it twice does the same as doing it once"
            yield subject.document.at_value(("steps", index, "action"), message, hint)


def _no_cooldown(subject: Subject) -> Iterator[Problem]:
    if subject.changing and not subject.brakes and subject.runbook.limits.cooldown == 0:
        message = "without a cooldown an alert that comes back starts the next run at once"
        yield subject.document.at_key(_limits(subject), message, "add `cooldown:` below `limits:`, such as 10m")


def _no_run_limit(subject: Subject) -> Iterator[Problem]:
    limits = subject.runbook.limits
    if not subject.changing or limits.runs is not None or limits.ineffective is not None:
        return
    if subject.brakes and limits.cooldown:
        return
    message = "nothing limits how often this runs" + (", so nobody hears that it runs again and again" * subject.brakes)
    yield subject.document.at_key(_limits(subject), message, "add `runs:` below `limits:`, such as 3 per 6h")


def _limits(subject: Subject) -> Path:
    return ("limits",) if ("limits",) in subject.document.keys else ("runbook",)


def _unrelated_target(subject: Subject) -> Iterator[Problem]:
    """Locks hang on the target's text, so one that is spelled wrong locks nothing (design 4)."""
    runbook, configured = subject.runbook, subject.around.configured
    if not subject.changing or target_inputs(runbook):
        return
    known = [*configured.parameters, *configured.services]
    texts = [*known, *(text for step in runbook.steps for _, text in template_strings(step.with_))]
    if not any(word in text for word in re.findall(r"[\w.-]{2,}", runbook.target) for text in texts):
        message = "no step, service or parameter has to do with this target, so its lock guards nothing"
        yield subject.document.at_value(("target",), message, closest(runbook.target, known))


# --- evidence ---------------------------------------------------------------------------------------------------------


def _no_freshness(subject: Subject) -> Iterator[Problem]:
    """Prometheus answers a query with the last sample for 5 minutes after its exporter died (design 5.6)."""
    runbook = subject.runbook
    for name in dict.fromkeys(given.check for given in (runbook.only_if, runbook.verify) if given is not None):
        check = runbook.checks[name]
        action = subject.around.catalogue.actions[check.action]
        if "freshness" in action.model_fields and not check.with_.get("freshness"):
            message = "a guard or verification that cannot tell how old its answer is"
            hint = "add `freshness:` with the selector of the samples, such as var_pct"
            yield subject.document.at_key(("checks", name), message, hint)


def _unscoped_query(subject: Subject) -> Iterator[Problem]:
    """Prod and staging may share one Prometheus: a healthy staging must not hide a prod that is down."""
    env = subject.runbook.env
    if env is None:
        return
    for path, action, fields in _readings(subject.runbook):
        for name, query in _promql(subject, action, fields):
            astray = dict.fromkeys(selector.name or "a selector" for selector in unscoped(query, env))
            if astray:
                message = f'{", ".join(astray)} may be of another env: nothing says env="{env}"'
                hint = f'write env="{env}" into the braces of each; allow it where the series have no such label'
                yield subject.document.at_value((*path, "with", name), message, hint)


def _readings(runbook: Runbook) -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    """Whatever asks something: where it stands, its action and the fields of that."""
    for name, check in runbook.checks.items():
        yield ("checks", name), check.action, check.with_
    for index, step in enumerate(runbook.steps):
        if step.action is not None:
            yield ("steps", index), step.action, step.with_
    for index, evidence in enumerate(runbook.evidence):
        yield ("evidence", index), evidence.action, evidence.with_


def _promql(subject: Subject, action: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Those of an action's fields that hold PromQL."""
    positions = subject.around.catalogue.actions[action].positions
    return ((n, text) for n, text in fields.items() if positions.get(n) == "promql" and isinstance(text, str))


def _unheard_silence(subject: Subject) -> Iterator[Problem]:
    """Alertmanager tells nothing of what is silenced, its end neither: only who asks it hears of that."""
    configured = subject.around.configured
    for index, step in subject.changing:
        service = configured.services.get(str(step.with_.get("service")))
        if not isinstance(service, AlertmanagerService) or _place(service.url) in map(_place, configured.peers):
            continue
        message = "the end of an alert that it silences is never heard: this one is not among `alertmanagers`"
        hint = f"add `- url: {service.url}` below `alertmanagers:` in responder.yaml"
        yield subject.document.at_value(("steps", index, "with", "service"), message, hint)


def _place(url: str) -> tuple[str, str | None, int | None, str]:
    """What two addresses of one API have in common."""
    found = urlsplit(url)
    return found.scheme, found.hostname, found.port, found.path.rstrip("/")


def _acts_blind(subject: Subject) -> Iterator[Problem]:
    given = subject.runbook.only_if
    if given is not None and given.if_missing == "act_and_page" and subject.changing and not subject.brakes:
        message = "without data this acts all the same, although it is no brake"
        hint = "leave `if_missing` out, so that people decide; or say `brake: true` if it can only lower risk"
        yield subject.document.at_value(("only_if", "if_missing"), message, hint)


def _short_verification(subject: Subject) -> Iterator[Problem]:
    """A rate over 5 minutes goes on seeing what was before the change for as long (field.md 20)."""
    verify = subject.runbook.verify
    longest = 0 if verify is None else _lookback_of(subject, verify)
    if verify is not None and longest > verify.within - verify.hold:
        wanted = format_duration(longest + verify.hold)
        message = f"the query looks back {format_duration(longest)}, so what was before the change still counts then"
        hint = f"write `within: {wanted}` or more, or query a shorter range"
        yield subject.document.at_value(("verify", "within"), message, hint)


def _lookback_of(subject: Subject, verify: Verify) -> int:
    check = subject.runbook.checks[verify.check]
    return max((lookback(query) for _, query in _promql(subject, check.action, check.with_)), default=0)


def _already_verified(subject: Subject) -> Iterator[Problem]:
    given, verify = subject.runbook.only_if, subject.runbook.verify
    if given is None or verify is None or given.check != verify.check:
        return
    both = _satisfying(given.expect, verify.expect)
    if both is not None:
        message = f"at {both:g} it acts and counts as fixed already: `only_if` and `verify` overlap"
        yield subject.document.at_value(
            ("verify", "expect"), message, "let `verify` hold only where `only_if` does not"
        )


# --- people and promises ----------------------------------------------------------------------------------------------


def _no_escalation(subject: Subject) -> Iterator[Problem]:
    runbook = subject.runbook
    if runbook.escalation is None and (runbook.match or runbook.schedule):
        message = "nothing says who is told: it falls to the policy of the alert's severity, or to the default one"
        hint = "add `escalation:`, best in the folder's _defaults.yaml"
        yield subject.document.at_key(("runbook",), message, hint)


def _silent_page(subject: Subject) -> Iterator[Problem]:
    notifiers = subject.around.configured.notifiers
    for key, promise in subject.runbook.unless_fixed.items():
        for name in promise.page:
            if not type(notifiers[name]).pages:
                path: Path = ("unless_fixed", key, "page")
                yield subject.document.at_value(path, f"{name!r} cannot wake anybody", "page somebody with a pager")


def _nobody_restores(subject: Subject) -> Iterator[Problem]:
    if subject.around.configured.roles:  # then an unknown one is an error
        return
    for index, step in enumerate(subject.runbook.steps):
        for key, given in (("restore", step.restore), ("undo", step.undo)):
            if given is not None and given.approval is not None:
                hint = f"give somebody the role {given.approval!r} below `auth: people:` in responder.yaml"
                path: Path = ("steps", index, key, "approval")
                yield subject.document.at_value(path, "nobody could put this back", hint)


def _early_machine(subject: Subject) -> Iterator[Problem]:
    verify = subject.runbook.verify
    for key, promise in subject.runbook.unless_fixed.items():
        if promise.run is not None and verify is not None and parse_duration(key) < verify.within:
            message = f"{promise.run} would run while verification may still succeed"
            hint = f"give it more time than `within: {format_duration(verify.within)}` and the steps need"
            yield subject.document.at_key(("unless_fixed", key), message, hint)


def _dead_promise(subject: Subject) -> Iterator[Problem]:
    """A machine's next step needs a run that acted, and a check that says it did not help (design 5.7)."""
    runbook = subject.runbook
    if runbook.steps and runbook.verify is not None:
        return
    lacking = "a check in `verify:`" if runbook.steps else "a step that was tried"
    for key, promise in runbook.unless_fixed.items():
        if promise.run is not None:
            message = f"{promise.run} would never run: a machine's next step needs {lacking}"
            hint = "add it, or let `page:` call people who decide"
            yield subject.document.at_value(("unless_fixed", key, "run"), message, hint)


# --- beginnings -------------------------------------------------------------------------------------------------------


def _any_alert(subject: Subject) -> Iterator[Problem]:
    names = [matcher for matcher in subject.runbook.matchers if matcher.name == "alertname"]
    if subject.runbook.match and subject.changing and all(matcher.accepts(_ANOTHER) for matcher in names):
        message = "this answers alerts of any name, also those that somebody adds tomorrow"
        yield subject.document.at_key(("match",), message, 'name the alerts, or match alertname=~"VaR.*"')


_ANOTHER: Final = "AnotherAlert42"


def _brake_yields(subject: Subject) -> Iterator[Problem]:
    if subject.runbook.brake and subject.runbook.yields_to:
        message = "a brake that waits: while an incident of the root cause is open, it lowers no risk"
        yield subject.document.at_key(("yields_to",), message, "let a brake act at once; leave `yields_to` out")


def _brake_behind(subject: Subject) -> Iterator[Problem]:
    """Cooldown, limits, hours and locks judge a run's first change; refused, the run ends before the brake."""
    held = next((step for _, step in subject.changing if not subject.brake(step)), None)
    behind = itertools.dropwhile(lambda one: one[1] is not held, subject.changing)
    for index, step in behind if held is not None else ():
        if subject.brake(step) and held is not None:
            message = f"this brake stands behind {held.id}: where a limit refuses that one, it is never reached"
            hint = f"write it before {held.id}, or say `brake: true` there too, if {held.id} can only lower risk"
            yield subject.document.at_value(("steps", index, "id"), message, hint)


def _unused_input(subject: Subject) -> Iterator[Problem]:
    runbook = subject.runbook
    used = {*target_inputs(runbook), *(evidence.each for evidence in runbook.evidence)}
    for name in runbook.inputs:
        if name not in used:
            message = "nothing uses this input, but a bad value of it pages"
            yield subject.document.at_key(("inputs", name), message, "put it into `target`, an `each`, or remove it")


def _unused_each(subject: Subject) -> Iterator[Problem]:
    for index, evidence in enumerate(subject.runbook.evidence):
        templates = [text for _, text in template_strings(evidence.with_) if has_placeholder(text)]
        if evidence.each is not None and not any(evidence.each in text for text in templates):
            message = f"the same is read for each {evidence.each}: nothing in `with` depends on it"
            hint = f"use {{{{ {evidence.each} }}}}, or leave `each` out"
            yield subject.document.at_value(("evidence", index, "each"), message, hint)


Risk = Callable[[Subject], Iterator[Problem]]
_RISKS: Final[tuple[tuple[Code, Risk], ...]] = (
    (Code.NO_VERIFICATION, _no_verification),
    (Code.NO_FRESHNESS, _no_freshness),
    (Code.UNSCOPED_QUERY, _unscoped_query),
    (Code.NO_TIMEOUT, _no_timeout),
    (Code.NO_COOLDOWN, _no_cooldown),
    (Code.NO_RUN_LIMIT, _no_run_limit),
    (Code.NO_ESCALATION, _no_escalation),
    (Code.UNSAFE_STEP, _unsafe_step),
    (Code.UNHEARD_SILENCE, _unheard_silence),
    (Code.ACTS_BLIND, _acts_blind),
    (Code.ANY_ALERT, _any_alert),
    (Code.UNRELATED_TARGET, _unrelated_target),
    (Code.SHORT_VERIFICATION, _short_verification),
    (Code.ALREADY_VERIFIED, _already_verified),
    (Code.EARLY_MACHINE, _early_machine),
    (Code.DEAD_PROMISE, _dead_promise),
    (Code.SILENT_PAGE, _silent_page),
    (Code.NOBODY_RESTORES, _nobody_restores),
    (Code.BRAKE_YIELDS, _brake_yields),
    (Code.BRAKE_BEHIND, _brake_behind),
    (Code.UNUSED_INPUT, _unused_input),
    (Code.UNUSED_EACH, _unused_each),
)


# --- reading conditions ----------------------------------------------------------------------------------------------

_number = re.compile(r"(?<![\w.])[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def _satisfying(*sources: str) -> float | None:
    """A number with which all conditions over `value` alone hold; None when none is found.

    Their answers change only at the numbers that stand in them, so those, what lies between and what lies beyond are
    all that can differ. Conditions over other names are left alone.
    """
    conditions = [parse_expression(source) for source in sources]
    if any(condition.paths != {"value"} for condition in conditions):
        return None
    plain = {float(number) for c in conditions for number in _number.findall(c.source)}
    edges = sorted({*plain, *(-number for number in plain)})
    between = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    found = [*edges, *between, *(edges[:1] and [edges[0] - 1, edges[-1] + 1])]
    for value in sorted(found, key=lambda number: (number < 0, number)):
        if all(evaluate(condition, {"value": value}).holds for condition in conditions):
            return value
    return None
