"""What one runbook names, checked against what there is: actions, services, parameters, inputs, checks, variables.

Every check is a generator of problems over the runbook's document, so that all of them are told at once. What concerns
several runbooks (duplicates, circles, overlaps) is the matter of `loader`, what is only unwise of `lint`.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import JsonValue, ValidationError

from responder.contracts import Action, Catalogue, Notifier, Parameter, Service
from responder.documents import Document
from responder.errors import BadSyntax
from responder.expressions import ExpressionError, parse_expression
from responder.matchers import Matcher, Op
from responder.mistakes import closest, closest_runbook, likely, problem_of, unquoted
from responder.patterns import compile_pattern
from responder.problems import Path, Problem
from responder.recorded import Effect, Mode
from responder.render import (
    Position,
    TemplateError,
    has_placeholder,
    keys_with_placeholders,
    parse_template,
    template_strings,
)
from responder.runbook import Reading, Runbook, Step, Undo, target_inputs
from responder.sandbox import label_hint
from responder.variables import VARIABLES, Scope, position_of

_RESERVED: Final = frozenset({*VARIABLES, "steps", "checks", "value", "before"})
_placeholder = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_label = re.compile(r".*[Ll]abels\.([A-Za-z_]\w*)", re.DOTALL).match
_simple = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}").fullmatch


class Configured(Protocol):
    """What rules may name of the configuration (`config.Config` has it all)."""

    @property
    def services(self) -> Mapping[str, Service]: ...
    @property
    def parameters(self) -> Mapping[str, Parameter]: ...
    @property
    def notifiers(self) -> Mapping[str, Notifier]: ...
    @property
    def types(self) -> Mapping[str, str]: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def roles(self) -> Collection[str]: ...
    @property
    def peers(self) -> Collection[str]: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a runbook is checked against; `runbooks`, `policies` and `calendars` are all names of the set.

    `policies` and `calendars` are None when a file of theirs could not be read: what it holds is not known.
    """

    catalogue: Catalogue
    configured: Configured
    runbooks: Collection[str]
    policies: Collection[str] | None
    calendars: Collection[str] | None = ()


def check_runbook(runbook: Runbook, document: Document, around: Surroundings) -> Iterator[Problem]:
    """Everything that `runbook`, which was read from `document`, names wrongly."""
    checker = _Checker(runbook, document, around)
    yield from checker.inputs()
    yield from checker.target()
    yield from checker.match()
    yield from checker.plain_texts()
    yield from checker.conditions()
    yield from checker.uses()
    yield from checker.steps()
    yield from checker.people()


def check_titles(runbook: Runbook, document: Document, around: Surroundings) -> Iterator[Problem]:
    """Placeholders in titles of evidence, which are refused in new sets only: a kept one was accepted with them."""
    yield from _Checker(runbook, document, around).titles()


class _Checker:
    """One runbook while it is checked. Names come from the document, so that a broken part still counts as there."""

    def __init__(self, runbook: Runbook, document: Document, around: Surroundings) -> None:
        self.runbook = runbook
        self.document = document
        self.around = around
        self.declared = _names(document, "inputs")
        self.in_target = frozenset(target_inputs(runbook))
        self.checks = _names(document, "checks")
        self.pinned = _pinned_envs(runbook, document)
        self.env = runbook.env or min(self.pinned or (), default=None)

    # ------------------------------------------------------------------------------------------------ inputs and match

    def inputs(self) -> Iterator[Problem]:
        types = self.around.configured.types
        for name, given in self.runbook.inputs.items():
            path: Path = ("inputs", name)
            if name in _RESERVED:
                yield self.document.at_key(
                    path,
                    f"{name!r} is taken",
                    f"give it another name; {', '.join(sorted(_RESERVED))} mean something else",
                )
            if [given.type is None, given.pattern is None, not given.one_of].count(False) != 1:
                message = "an input has either a type, a pattern or its values"
                yield self.document.at_key(path, message, "write one of `type:`, `pattern:` and `one_of:`")
            if given.type is not None and given.type not in types:
                yield self.unknown((*path, "type"), "type", given.type, types)
            if given.pattern is not None:
                yield from pattern_problems(self.document, (*path, "pattern"), given.pattern)

    def target(self) -> Iterator[Problem]:
        text, path = self.runbook.target, ("target",)
        for found in _placeholder.finditer(text):
            simple = _simple(found[0])
            place = (1, found.start() + 1)
            if simple is None:
                label = _label(found[0])
                hint = "write {{ name }}" if label is None else label_hint(label[1])
                yield self.document.at_text(path, place, "a target holds inputs only", hint)
            elif simple[1] not in self.declared:
                hint = closest(simple[1], self.declared) if self.declared else "declare it below `inputs:`"
                yield self.document.at_text(path, place, f"there is no input {simple[1]!r}", hint)
        if not text.strip():
            yield self.document.at_value(
                path, "the target is empty", "name what is touched, such as risk-api/kelly_fraction"
            )

    def match(self) -> Iterator[Problem]:
        try:
            matchers = self.runbook.matchers
        except BadSyntax as error:
            yield self.document.at_value(("match",), f"{error.message} in {error.text!r}", error.hint)
            return
        pinned = _envs(matchers)
        if self.runbook.env and pinned and pinned != {self.runbook.env}:
            message = f"env is {self.runbook.env}, but it matches alerts of env {', '.join(sorted(pinned))}"
            known = {service.env for service in self.around.configured.services.values()}
            misspelt = self.runbook.env not in known and pinned <= known
            hint = f"write `env: {min(pinned)}`, as your services say" if misspelt else "make both the same"
            yield self.document.at_value(("env",), message, hint)

    # ------------------------------------------------------------------------------------------------------ conditions

    def conditions(self) -> Iterator[Problem]:
        seen = Scope(frozenset(), open=frozenset({"value"}), told=False)
        for section, given in (("only_if", self.runbook.only_if), ("verify", self.runbook.verify)):
            if given is None:
                continue
            if given.check not in self.checks:
                yield self.unknown((section, "check"), "check", given.check, self.checks)
            yield from self.condition((section, "expect"), given.expect, seen)
        if self.runbook.verify is not None and self.runbook.verify.harmful is not None:
            compared = Scope(frozenset(), open=frozenset({"value", "before"}), told=False)
            yield from self.condition(("verify", "harmful"), self.runbook.verify.harmful, compared)

    def condition(self, path: Path, source: str, scope: Scope) -> Iterator[Problem]:
        try:
            expression = parse_expression(source)
        except ExpressionError as error:
            yield self.document.at_text(path, (1, error.column), error.message, error.hint)
            return
        for name in sorted(expression.paths):
            hint = scope.unknown(name)
            if hint is not None:
                column = source.find(name) + 1
                cure = self.reason(name, scope, unquoted(name, source)) or hint
                yield self.document.at_text(path, (1, column), f"there is no {name!r} here", cure)

    def reason(self, name: str, scope: Scope, otherwise: str = "") -> str:
        """Why a name cannot be used at this place, or how its label becomes an input; "" where that is not known.

        `otherwise` is what is more likely than a label, when the name resembles nothing that is there.
        """
        if name in self.checks:
            return "what the check answers is called `value` here, and `checks.NAME` in steps"
        label = _label_named(name)
        if label in scope.inputs:
            return f"an input is named alone: {label}"
        if label in self.declared and label not in self.in_target:
            return (
                f"steps use only inputs that occur in `target`; put {{{{ {label} }}}} there, or use `each` in evidence"
            )
        root = name.partition(".")[0]
        if likely(root, _RESERVED, cutoff=0.75) is not None:
            return ""
        meant = None if label is None or not scope.told else likely(label, self.declared)
        if meant is not None or otherwise:
            return otherwise if meant is None else f"did you mean {meant!r}?"
        if scope.told and "value" in scope.open and label in (None, name):
            return f"a step's answer is called `value` here: write value.{name}"
        return label_hint(label) if label is not None and scope.told else ""

    def plain_texts(self) -> Iterator[Problem]:
        paths: list[Path] = [("title",), ("impact",)]
        paths += [("steps", index, "title") for index in range(len(self.runbook.steps))]
        for path in paths:
            text = self.document.get(path)
            if isinstance(text, str) and has_placeholder(text):
                yield self.document.at_value(path, "this text is not a template", "write it without {{ }}")

    # ------------------------------------------------------------------------------------------------ uses of actions

    def uses(self) -> Iterator[Problem]:
        always = Scope(self.in_target)
        for name, check in self.runbook.checks.items():
            yield from self.use(("checks", name), check, always, reads=True)
        for index, evidence in enumerate(self.runbook.evidence):
            scope, path = always, ("evidence", index)
            if evidence.each is not None and evidence.each not in self.declared:
                yield self.unknown((*path, "each"), "input", evidence.each, self.declared)
            elif evidence.each is not None:
                scope = Scope(self.in_target | {evidence.each})
            yield from self.use(path, evidence, scope, reads=True)

    def titles(self) -> Iterator[Problem]:
        for index, evidence in enumerate(self.runbook.evidence):
            scope = Scope(self.in_target | ({evidence.each} if evidence.each is not None else set()))
            if evidence.title is not None and has_placeholder(evidence.title):
                yield from self.template(("evidence", index, "title"), evidence.title, Position.TEXT, scope)

    def steps(self) -> Iterator[Problem]:
        before: list[str] = []
        for index, step in enumerate(self.runbook.steps):
            path: Path = ("steps", index)
            if step.id in before:
                yield self.document.at_value((*path, "id"), f"two steps are called {step.id!r}", "give each its own id")
            scope = Scope(self.in_target, frozenset(before), self.checks)
            yield from self.step(path, step, scope)
            before.append(step.id)

    def step(self, path: Path, step: Step, scope: Scope) -> Iterator[Problem]:
        if step.when is not None:
            yield from self.condition((*path, "when"), step.when, scope)
        if step.expect is not None:
            sees = Scope(scope.inputs, scope.steps, scope.checks, frozenset({"value"}))
            yield from self.condition((*path, "expect"), step.expect, sees)
        if step.retry.unless is not None:
            yield from self.unless((*path, "retry", "unless"), step, scope)
        if step.manual is not None and has_placeholder(step.manual):
            yield from self.template((*path, "manual"), step.manual, Position.TEXT, scope)
        if step.action is not None:
            yield from self.use(path, step, scope, reads=False)
        if step.undo is not None and step.undo.action is not None:
            done = Scope(scope.inputs, scope.steps | {step.id}, scope.checks)
            yield from self.use((*path, "undo"), step.undo, done, reads=False)
        yield from self.decided(path, step)
        roles = self.around.configured.roles
        if step.approval is not None and roles and step.approval.role not in roles:
            yield self.unknown((*path, "approval"), "role", step.approval.role, roles)
        for key, given in (("restore", step.restore), ("undo", step.undo)):
            if given is not None and given.approval is not None and roles and given.approval not in roles:
                yield self.unknown((*path, key, "approval"), "role", given.approval, roles)

    def decided(self, path: Path, step: Step) -> Iterator[Problem]:
        """What a person must always decide has its approval, whatever the mode."""
        actions = self.around.catalogue.actions
        uses: list[tuple[Path, Step | Undo, bool]] = [(path, step, step.approval is not None)]
        if step.undo is not None:
            uses.append(((*path, "undo"), step.undo, step.put_back_by is not None))
        for place, use, approved in uses:
            action = actions.get(use.action or "")
            why = "" if action is None or approved else action.asks_a_person(use.with_)
            if why:
                cure = "add `approval:` with the role that decides it"
                yield self.document.at_value((*place, "action"), f"{why}, so a person decides it", cure)

    def unless(self, path: Path, step: Step, scope: Scope) -> Iterator[Problem]:
        """What ends the tries of a reading means nothing where nothing is tried again by its answer."""
        action = self.around.catalogue.actions.get(step.action or "")
        if step.expect is None:
            hint = "add `expect:` with what is waited for, such as value.done"
            yield self.document.at_value(path, "nothing is waited for, so nothing ends the waiting", hint)
        elif action is not None and not only_reads(action, step):
            message = "a change is never done again because of its answer, so this ends nothing"
            yield self.document.at_value(
                path, message, "remove it, or wait for the answer in a reading step of its own"
            )
        sees = Scope(scope.inputs, scope.steps, scope.checks, frozenset({"value"}))
        yield from self.condition(path, step.retry.unless or "", sees)

    def use(self, path: Path, use: Reading | Step | Undo, scope: Scope, *, reads: bool) -> Iterator[Problem]:
        """One use of an action: its name, its parameters, its templates, its services."""
        actions = self.around.catalogue.actions
        if use.timeout <= 0:
            yield self.document.at_value((*path, "timeout"), "a time limit of 0", "every step needs one, such as 10s")
        action = actions.get(use.action or "")
        if action is None:
            yield self.unknown((*path, "action"), "action", use.action or "", actions)
            return
        yield from self.templates((*path, "with"), action, use.with_, scope)
        made, problems = _made(action, use.with_, self.document, (*path, "with"))
        yield from problems
        if reads and not only_reads(action, use):
            message = f"{use.action} may change something, and this place only reads"
            yield self.document.at_value((*path, "action"), message, "put it into a step, or use a reading action")
        yield from self.parameter((*path, "with"), action, use.with_)
        yield from self.services((*path, "with"), action, made, use.with_)

    def templates(
        self, path: Path, action: type[Action], given: Mapping[str, JsonValue], scope: Scope
    ) -> Iterator[Problem]:
        for inner in keys_with_placeholders(given):
            message = "a key is no template: it would be sent as it stands"
            yield self.document.at_key((*path, *inner), message, "write the key out; only values are rendered")
        for inner, text in template_strings(given):
            if not has_placeholder(text):
                continue
            position = position_of(action, inner)
            if position is None:
                hint = "an alert never chooses it; write it out"
                yield self.document.at_value((*path, *inner), "no template may stand here", hint)
                continue
            yield from self.template((*path, *inner), text, position, scope)

    def template(self, path: Path, text: str, position: Position, scope: Scope) -> Iterator[Problem]:
        try:
            template = parse_template(text, position)
        except TemplateError as error:
            yield self.document.at_text(path, (error.line, error.column), error.message, error.hint)
            return
        yield from self.variables(path, text, template.paths, scope)

    def variables(self, path: Path, text: str, names: Collection[str], scope: Scope) -> Iterator[Problem]:
        for name in sorted(names):
            hint = scope.unknown(name)
            if hint is not None:
                place = (1, text.find(name) + 1)
                yield self.document.at_text(path, place, f"there is no {name!r} here", self.reason(name, scope) or hint)

    def parameter(self, path: Path, action: type[Action], given: Mapping[str, JsonValue]) -> Iterator[Problem]:
        name, parameters = given.get("parameter"), self.around.configured.parameters
        if "parameter" not in action.model_fields or not isinstance(name, str) or has_placeholder(name):
            return
        if name not in parameters:
            yield self.unknown((*path, "parameter"), "parameter", name, parameters)
            return
        target, floor = given.get("to"), parameters[name].floor
        if isinstance(target, int | float) and not isinstance(target, bool) and target < floor:
            message = f"{target:g} is below the floor {floor:g} of {name}, so it would always be refused"
            yield self.document.at_value((*path, "to"), message, f"write {floor:g} or more")

    def services(
        self, path: Path, action: type[Action], made: Action | None, given: Mapping[str, Any]
    ) -> Iterator[Problem]:
        configured = self.around.configured
        names = made.services(configured.parameters) if made is not None else _service_named(given)
        names = tuple(name for name in names if not has_placeholder(name))
        key = next((key for key in ("service", "candidates") if key in given), "parameter")
        for name in names:
            service = configured.services.get(name)
            if service is None:
                yield self.unknown((*path, key), "service", name, configured.services)
                continue
            kinds = getattr(action, "kinds", ())
            if kinds and service.kind not in kinds:
                fitting = [n for n, s in configured.services.items() if s.kind in kinds]
                message = f"{name!r} is a service of kind {service.kind}, not {' or '.join(kinds)}"
                yield self.document.at_value((*path, key), message, closest(name, fitting))
            never = service.never_takes(given)
            if never is not None:
                parameter, why, cure = never
                yield self.document.at_value((*path, parameter), why, cure)
            yield from self.environment((*path, key), name, service)

    def environment(self, path: Path, name: str, service: Service) -> Iterator[Problem]:
        """An alert of one env never reaches a service of another (trading-operations.md).

        Where `match` cannot be read or contradicts `env`, that is told, and not once more for each service.
        """
        if service.env is None or self.pinned is None or (self.runbook.env and self.pinned - {self.runbook.env}):
            return
        if self.env is None:
            hint = f'add `env: {service.env}` and match env="{service.env}", best in the folder\'s _defaults.yaml'
            yield self.document.at_value(path, f"{name!r} is of env {service.env}, but the runbook names none", hint)
        elif self.env != service.env:
            same = [
                n for n, s in self.around.configured.services.items() if s.env == self.env and s.kind == service.kind
            ]
            message = f"{name!r} is of env {service.env}, the runbook of env {self.env}"
            yield self.document.at_value(
                path, message, closest(name, same) if same else f"configure one of env {self.env}"
            )
        elif self.runbook.match and not self.pinned:
            message = f"alerts of any env match this runbook, but {name!r} is of env {service.env}"
            yield self.document.at_value(path, message, f'match env="{service.env}" as well')

    # ---------------------------------------------------------------------------------------------------------- people

    def people(self) -> Iterator[Problem]:
        around = self.around
        policy, known = self.runbook.escalation, around.policies
        if policy is not None and known is not None and policy not in known:
            yield self.unknown(("escalation",), "policy", policy, known)
        promises = self.runbook.promises
        for key, promise in self.runbook.unless_fixed.items():
            path: Path = ("unless_fixed", key)
            for name in promise.page:
                if name not in around.configured.notifiers:
                    yield self.unknown((*path, "page"), "notifier", name, around.configured.notifiers)
            if promise.run is not None and promise.run not in around.runbooks:
                hint = closest_runbook(promise.run, around.runbooks, self.runbook.runbook)
                yield self.document.at_value((*path, "run"), f"unknown runbook {promise.run!r}", hint)
            if promise.run is None and not promise.page:
                yield self.document.at_key(path, "nothing follows", "write `page:` or `run:`")
            if promise.countdown > next((at for at, p in promises if p is promise), promise.countdown):
                yield self.document.at_value(
                    (*path, "countdown"),
                    "the countdown is longer than the time before it",
                    f"write {key} or less; the announcement comes that long before",
                )

    def unknown(self, path: Path, what: str, name: str, known: Collection[str]) -> Problem:
        if not known and what in ("service", "parameter"):
            return self.document.at_value(
                path, f"unknown {what} {name!r}", f"configure it below `{what}s:` in responder.yaml"
            )
        return self.document.at_value(path, f"unknown {what} {name!r}", closest(name, known))


def pattern_problems(document: Document, path: Path, pattern: str) -> Iterator[Problem]:
    """A pattern must be readable as RE2, which has no expression that takes exponential time."""
    try:
        compile_pattern(pattern)
    except BadSyntax as error:
        yield document.at_text(path, (1, error.column), error.message, error.hint)


def _label_named(name: str) -> str | None:
    """The label that is probably meant by `symbol`, `labels.symbol` or `alert.labels.symbol`."""
    *above, label = name.split(".")
    return label if set(above) <= {"alert", "alerts", "label", "labels"} else None


def _names(document: Document, section: str) -> frozenset[str]:
    found = document.get((section,))
    return frozenset(found) if isinstance(found, dict) else frozenset()


def _envs(matchers: Iterable[Matcher]) -> frozenset[str]:
    return frozenset(m.value for m in matchers if m.name == "env" and m.op is Op.EQUAL)


def _pinned_envs(runbook: Runbook, document: Document) -> frozenset[str] | None:
    """The envs that its alerts must have: one, or none when `match` does not say; None when it cannot be read."""
    if document.get(("match",)) and not runbook.match:
        return None  # it was left out, being no list of texts
    try:
        return _envs(runbook.matchers)
    except BadSyntax:
        return None


def _service_named(given: Mapping[str, Any]) -> tuple[str, ...]:
    name = given.get("service")
    return (name,) if isinstance(name, str) else ()


def _made(
    action: type[Action], given: Mapping[str, JsonValue], document: Document, path: Path
) -> tuple[Action | None, list[Problem]]:
    """The action's value, and what is wrong with its parameters other than those that templates will fill in."""
    try:
        return action.model_validate(given, by_alias=True, by_name=False), []
    except ValidationError as error:
        templated = [inner for inner, text in template_strings(given) if has_placeholder(text)]
        found = [e for e in error.errors(include_url=False) if not _awaits_rendering(e, templated)]
        return None, [problem_of(e, document, path, action) for e in found]


def only_reads(action: type[Action], use: Reading | Step | Undo) -> bool:
    """Whether this use of the action changes nothing, also while a template still stands in it."""
    if action.reads_only:
        return True
    try:
        return action.model_validate(use.with_, by_alias=True, by_name=False).effect(keyed=False) is Effect.READ
    except ValidationError:  # of a field that a template will fill in, or that is told elsewhere
        return "method" in action.model_fields and str(use.with_.get("method", "GET")).upper() == "GET"


def _awaits_rendering(found: Any, templated: list[Path]) -> bool:
    loc = tuple(found["loc"])
    if found["type"] in ("missing", "extra_forbidden"):
        return False
    return any(loc[: len(path)] == path or path[: len(loc)] == loc for path in templated)
