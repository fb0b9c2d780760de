"""Designs that work and are risky all the same: warnings, which never keep a set from being loaded.

Not here: what is wrong for certain, which `loader` and `references` refuse.
"""

from collections.abc import Iterator

from responder.contracts import Action
from responder.documents import Document
from responder.policies import Policies
from responder.problems import Path, Problem
from responder.references import Configured, Surroundings
from responder.runbook import Runbook


def warnings_of(runbook: Runbook, document: Document, around: Surroundings) -> Iterator[Problem]:
    """What is risky about one runbook that may be loaded."""
    actions = around.catalogue.actions
    changing = any(s.action is not None and not actions[s.action].reads_only for s in runbook.steps)
    if changing and runbook.verify is None:
        hint = "without `verify:` every run ends unverified, and people are paged"
        yield document.at_key(("steps",), "nothing tells whether these steps helped", hint)
    for name, path in _guarding(runbook):
        yield from _without_freshness(name, path, runbook, document, around)
    yield from _silent_pages(runbook, document, around)
    for index, step in enumerate(runbook.steps):
        if step.restore is not None and not around.configured.roles:
            hint = f"give somebody the role {step.restore.approval!r} below `auth: people:` in responder.yaml"
            yield document.at_value(("steps", index, "restore", "approval"), "nobody could put this back", hint)


def unreached(policies: Policies, configured: Configured) -> Iterator[Problem]:
    """Alerts without a runbook that reach the console only, although somebody could be woken."""
    default = policies.policies.get(policies.default or "")
    levels = default.levels if default is not None else ()
    reached = {configured.notifiers[name].kind for level in levels for name in level.page}
    others = [n for n, notifier in configured.notifiers.items() if notifier.pages and notifier.kind != "console"]
    if others and reached <= {"console"}:
        message = f"alerts without a runbook wake nobody: the policy {policies.default!r} reaches the console only"
        hint = "name another policy as `default:` in a policies.yaml of your own"
        yield Problem("policies.yaml", 1, 1, "default", message, hint)


def _guarding(runbook: Runbook) -> Iterator[tuple[str, Path]]:
    named = [given.check for given in (runbook.only_if, runbook.verify) if given is not None]
    for name in dict.fromkeys(named):
        yield name, ("checks", name)


def _without_freshness(
    name: str, path: Path, runbook: Runbook, document: Document, around: Surroundings
) -> Iterator[Problem]:
    """Prometheus answers a query with the last sample for 5 minutes after its exporter died (design 5.6)."""
    check = runbook.checks[name]
    action: type[Action] = around.catalogue.actions[check.action]
    if "freshness" in action.model_fields and not check.with_.get("freshness"):
        hint = "add `freshness:` with the selector of the samples, such as var_pct"
        yield document.at_key(path, "a guard or verification that cannot tell how old its answer is", hint)


def _silent_pages(runbook: Runbook, document: Document, around: Surroundings) -> Iterator[Problem]:
    for key, promise in runbook.unless_fixed.items():
        for name in promise.page:
            if not type(around.configured.notifiers[name]).pages:
                message = f"{name!r} cannot wake anybody"
                yield document.at_value(("unless_fixed", key, "page"), message, "page somebody with a pager")
