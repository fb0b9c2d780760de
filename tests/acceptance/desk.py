"""A person before the stage, who starts runbooks by hand."""

from __future__ import annotations

from responder.incident import Incident
from responder.manual_runs import RunPlan, Wish, input_problems
from responder.planning import Planner, Started
from responder.recorded import Trigger
from tests.acceptance.stage import Stage


class Desk:
    """A person before the stage, who asks for plans and confirms them."""

    def __init__(self, stage: Stage, name: str = "otto", override: str = "") -> None:
        self.stage = stage
        self.name = name
        self.override = override

    def wish(self, runbook: str, reason: str = "", **inputs: str) -> Wish:
        rules = self.stage._alive.desk.shelf.current
        found = rules.runbooks[runbook]
        assert input_problems(rules, found, inputs) == ()
        return Wish(found, rules, inputs, self.name, reason, self.override)

    def plans(self, runbook: str, **inputs: str) -> RunPlan:
        return self.stage._run(self._planner.plan(self.wish(runbook, **inputs)))

    def starts(self, runbook: str, reason: str = "", digest: str | None = None, **inputs: str) -> Started:
        """Confirm the plan as it is now, or the one with this digest."""
        shown = self.plans(runbook, **inputs).digest if digest is None else digest
        started = self.stage._run(self._planner.start(self.wish(runbook, reason, **inputs), shown))
        self.stage.after("1s")
        return started

    @property
    def _planner(self) -> Planner:
        return Planner(self.stage._alive.desk, lambda: self.stage.performs)


def by_hand(stage: Stage) -> Incident:
    """The only incident that a person opened."""
    (found,) = [incident for incident in stage.incidents() if incident.trigger is Trigger.PERSON]
    return found


def reasons(plan: RunPlan) -> str:
    return "; ".join(verdict.reason for verdict in plan.refused)
