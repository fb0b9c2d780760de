"""The case that a gate judges: for the tests of fuses and scopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from responder.automation import Automation
from responder.cases import Case, Touched
from responder.incident import Incident
from responder.recorded import Recorded
from tests.builders import T0, a_plan, a_runbook, fired, opened, rules_of, started, told


def case(scopes: Mapping[str, Recorded] | None = None, **parts: Any) -> Case:
    """The first step of the first run, about to change risk-api."""
    runbook = rules_of(a_runbook(**parts)).runbooks["cut"]
    bodies = {name: body.model_dump_json() for name, body in (scopes or {}).items()}
    incident: Incident = told(opened(), fired(), started())
    return Case(
        incident,
        incident.runs[0],
        runbook,
        runbook.steps[0],
        a_plan(),
        bodies.get,
        lambda _: None,
        {},
        T0,
        Automation(),
        touched=(Touched("risk-api"),),
    )
