"""What a runbook says that can never go right: hours, schedules, ways back that cannot be kept; asking what it heals.

Certain mistakes only, which keep the set from being loaded; what is merely unwise is the matter of `lint`, and names
that do not exist are that of `references`.
"""

from collections.abc import Iterator

from responder.contracts import Action
from responder.documents import Document
from responder.mistakes import closest, closest_runbook
from responder.problems import Path, Problem
from responder.references import Surroundings, only_reads
from responder.runbook import Reading, Runbook, Step


def check_soundness(runbook: Runbook, document: Document, around: Surroundings) -> Iterator[Problem]:
    """Everything of `runbook`, which was read from `document`, that could never be honoured."""
    yield from _labels(runbook, document)
    yield from _hours(runbook, document, around)
    yield from _root_causes(runbook, document, around)
    yield from _schedule(runbook, document, around)
    yield from _harm(runbook, document)
    for index, step in enumerate(runbook.steps):
        yield from _way_back(runbook, step, ("steps", index), document, around)
    yield from _asks_what_it_heals(runbook, document, around)


def _labels(runbook: Runbook, document: Document) -> Iterator[Problem]:
    for name, given in runbook.inputs.items():
        if given.label is None and runbook.match:
            yield document.at_key(("inputs", name), "an input of an alert is the value of a label", "add `label:`")


def _hours(runbook: Runbook, document: Document, around: Surroundings) -> Iterator[Problem]:
    hours = runbook.calendar
    if hours is None or around.calendars is None:
        return
    short = isinstance(document.get(("calendar",)), str | list)
    for key, names in (("within", hours.within), ("outside", hours.outside)):
        for index, name in enumerate(names):
            if name in around.calendars:
                continue
            path: Path = ("calendar",) if short else ("calendar", key)
            path = (*path, index) if (*path, index) in document.values else path
            none = "" if around.calendars else "; write it into a calendars.yaml among your rules"
            yield document.at_value(path, f"unknown calendar {name!r}", closest(name, around.calendars) + none)


def _root_causes(runbook: Runbook, document: Document, around: Surroundings) -> Iterator[Problem]:
    for index, name in enumerate(runbook.yields_to):
        path: Path = ("yields_to", index) if ("yields_to", index) in document.values else ("yields_to",)
        if name == runbook.runbook:
            yield document.at_value(path, "a runbook cannot yield to itself: it would never run", "name the root cause")
        elif name not in around.runbooks:
            hint = closest_runbook(name, around.runbooks, runbook.runbook)
            yield document.at_value(path, f"unknown runbook {name!r}", hint)


def _schedule(runbook: Runbook, document: Document, around: Surroundings) -> Iterator[Problem]:
    """A schedule reads and tells; what changes something is started by an alert or a person."""
    if runbook.schedule is None:
        return
    if runbook.match:
        yield document.at_key(
            ("schedule",), "a runbook answers alerts or has a schedule, not both", "write two runbooks"
        )
    if "{{" in runbook.target:
        message = "a schedule knows no labels, so this target stays open"
        yield document.at_value(("target",), message, "write the target out")
    for key, promise in runbook.unless_fixed.items():
        if promise.run is not None:
            message = "a schedule only reads, so it starts no other runbook"
            yield document.at_value(("unless_fixed", key, "run"), message, "write `page:`")
    for index, step in enumerate(runbook.steps):
        action = around.catalogue.actions.get(step.action or "")
        if action is not None and not only_reads(action, step):
            message = f"{step.action} may change something, and a schedule only reads"
            hint = "let an alert start it, or write the step as `manual:`"
            yield document.at_value(("steps", index, "action"), message, hint)


def _harm(runbook: Runbook, document: Document) -> Iterator[Problem]:
    if runbook.verify is not None and runbook.verify.harmful is not None:
        return
    for index, step in enumerate(runbook.steps):
        if step.undo is not None and step.put_back_by is None:
            hint = "say what harm is: `harmful: value > before` below `verify:`"
            message = "nothing ever tells that it did harm, so this is never undone"
            yield document.at_key(("steps", index, "undo"), message, hint)


def _way_back(runbook: Runbook, step: Step, path: Path, document: Document, around: Surroundings) -> Iterator[Problem]:
    """What raises risk needs a person (design 5.6): whatever takes back what a brake did, or what only lowers."""
    actions, undo = around.catalogue.actions, step.undo
    if undo is None:
        return
    action = actions.get(step.action or "")
    if undo.action is None and undo.with_:
        yield document.at_key((*path, "undo", "with"), "`with` belongs to an action", "add `action:` to the undo")
    if step.manual is not None:
        message = "what a person did is undone by a person"
        yield document.at_key((*path, "undo"), message, "write it into the instruction")
    elif undo.action is None and action is not None and action.undo is Action.undo:
        message = f"{step.action} cannot take its own change back"
        yield document.at_key((*path, "undo"), message, "name the `action:` that does, with its own `with:`")
    elif action is not None and only_reads(action, step):
        yield document.at_key((*path, "undo"), "this step only reads, so there is nothing to undo", "remove it")
    if step.restore is not None and undo.approval not in (None, step.restore.approval):
        message = f"`restore` lets {step.restore.approval!r} put it back, and this another role"
        yield document.at_value((*path, "undo", "approval"), message, "name the same role, or leave it out here")
    brake = runbook.brake if step.brake is None else step.brake
    if step.put_back_by is None and (brake or (action is not None and action.lowers_risk)):
        message = "taking back what lowered risk raises it, so a person decides"
        yield document.at_key((*path, "undo"), message, "add `approval:` with the role that may")


def _asks_what_it_heals(runbook: Runbook, document: Document, around: Surroundings) -> Iterator[Problem]:
    """A guard or verification that reads from the very service that is down: it would have no answer when needed."""
    healed = runbook.target.rpartition(":")[2]
    if healed not in around.configured.services:
        return
    named = [(s, given.check) for s, given in (("only_if", runbook.only_if), ("verify", runbook.verify)) if given]
    for section, name in named:
        check: Reading | None = runbook.checks.get(name)
        if check is not None and check.with_.get("service") == healed:
            message = f"check {name!r} asks {healed!r}, which this runbook heals: it cannot answer when it is needed"
            hint = f"ask another service; or say in the target what of it is touched, as in {healed}/limits"
            yield document.at_value((section, "check"), message, hint)
