"""POST /api/v1/runbooks/{name}/plan and /run: what a run by hand would do, and its beginning by whoever confirms it.

`{"inputs": {"symbol": "BTC-USD"}, "reason": "…"}` is answered with the plan and its digest; the same with `"plan":
DIGEST` begins it. `"override": "…"` says why it is to act outside its hours. A plan that has changed meanwhile is
answered 409 with the new one. What a plan is, and what begins, is told in `planning` and `manual_runs`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from responder.contracts import Strict
from responder.manual_runs import Foreseen, Judged, RunPlan, Wish, input_problems
from responder.mistakes import closest
from responder.planning import Planner
from responder.runbook import Approval, Promise
from responder.security import NEEDED, Person
from responder.web.access import Refusal, allowed, as_json, known
from responder.web.asked import asked_body
from responder.web.parts import Parts
from responder.web.shapes import seconds, shown, summary


class AskedRun(Strict):
    """The body: all may be left out, but a run needs the digest of its plan."""

    inputs: dict[str, str] = Field(default_factory=dict)
    reason: str = ""
    override: str | None = None
    plan: str | None = None


class ManualRuns:
    """The handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def plan(self, request: Request) -> Response:
        """What would be done now, and what every gate says. Services are read, and nothing is changed."""
        person = self._person(request, "plan")
        wish = self._wish(request, person, await asked_body(request, AskedRun, "reason", "; inputs are texts"))
        return as_json(shown_plan(await self._planner.plan(wish)))

    async def run(self, request: Request) -> Response:
        """Begin the run of the plan with this digest."""
        person = self._person(request, "run")
        asked = await asked_body(request, AskedRun, "reason", "; inputs are texts")
        wish = self._wish(request, person, asked)
        if asked.plan is None:
            raise Refusal(400, "say which plan you confirm: ask for it with …/plan, and send its digest as `plan`")
        started = await self._planner.start(wish, asked.plan)
        if started.turn is None:
            refused = "; ".join(verdict.reason for verdict in started.plan.refused)
            said = (
                f"it would not go ahead: {refused}" if refused else "the plan has changed since you saw it; look again"
            )
            return as_json({"error": said, "plan": shown_plan(started.plan)}, 409)
        incident = started.turn.incident
        return as_json({"incident": summary(incident), "run": incident.runs[-1].number})

    @property
    def _planner(self) -> Planner:
        performs = self._parts.performs
        if performs is None:
            raise Refusal(503, "this server starts no runs by hand")
        return Planner(self._parts.desk, performs)

    def _person(self, request: Request, doing: str) -> Person:
        person = known(self._parts, request)
        allowed(self._parts, person, f"{doing} runbooks by hand", NEEDED[doing])
        return person

    def _wish(self, request: Request, person: Person, asked: AskedRun) -> Wish:
        rules, name = self._parts.desk.shelf.current, request.path_params["name"]
        runbook = rules.runbooks.get(name)
        if runbook is None:
            raise Refusal(404, f"there is no runbook {name[:80]!r}; {closest(name[:80], rules.runbooks)}")
        problems = input_problems(rules, runbook, asked.inputs)
        if problems:
            raise Refusal(400, "; ".join(problems))
        return Wish(runbook, rules, asked.inputs, person.name, asked.reason.strip(), self._override(person, asked))

    def _override(self, person: Person, asked: AskedRun) -> str:
        if asked.override is None:
            return ""
        allowed(self._parts, person, "let a run act outside its hours", NEEDED["override"])
        if not asked.override.strip():
            raise Refusal(400, "say in `override` why it is to act outside its hours")
        return asked.override.strip()


# --- shapes -----------------------------------------------------------------------------------------------------------


def shown_plan(plan: RunPlan) -> dict[str, Any]:
    """A plan as the API tells it. `goes_ahead`: no gate refuses it as things are now."""
    wish, runbook = plan.wish, plan.wish.runbook
    return {
        "plan": plan.digest,
        "goes_ahead": not plan.refused,
        "runbook": runbook.runbook,
        "title": runbook.title,
        "impact": runbook.impact,
        "target": wish.target,
        "mode": wish.mode.value,
        "brake": plan.brake,
        "inputs": dict(wish.inputs),
        "override": wish.override or None,
        "rules_hash": wish.rules.hash,
        "steps": [_step(one, plan.approvals.get(one.step.id)) for one in plan.steps],
        "checks": [shown(one) for one in plan.checks.values()],
        "verdicts": [_verdict(one) for one in plan.judged],
        "verify": None if runbook.verify is None else f"{runbook.verify.check}: {runbook.verify.expect}",
        "unless_fixed": [_promise(after, promise) for after, promise in runbook.promises],
    }


def _step(one: Foreseen, approval: Approval | None) -> dict[str, Any]:
    plan = one.plan
    return {
        "id": one.step.id,
        "title": one.step.title,
        "action": one.step.action,
        "doing": one.doing.value,
        "text": one.text,
        "params": None if plan is None else plan.params,
        "effect": None if plan is None else plan.effect.value,
        "before": None if plan is None else plan.before,
        "after": None if plan is None else plan.target,
        "approval": None if approval is None else _approval(approval),
    }


def _approval(approval: Approval) -> dict[str, Any]:
    return {"role": approval.role, "people": approval.people, "within": seconds(approval.within)}


def _verdict(one: Judged) -> dict[str, Any]:
    return {"step": one.step or None, **shown(one.verdict)}


def _promise(after: int, promise: Promise) -> dict[str, Any]:
    return {"after": seconds(after), "page": list(promise.page), "run": promise.run}
