"""What a shipped runbook reads on the stage, what it has done there, and what it asks of people."""

from __future__ import annotations

from responder.commands import pending_approval
from tests.acceptance.catalogues import loaded
from tests.acceptance.stage import Stage


def query_of(platform: str, runbook: str, check: str, **inputs: str) -> str:
    """The query of a check, as it is asked with these inputs."""
    query = str(loaded(platform)[0].runbooks[runbook].checks[check].with_["query"])
    for name, value in inputs.items():
        query = query.replace(f"{{{{ {name} }}}}", value)
    return query


def reads(stage: Stage, platform: str, runbook: str, check: str, *values: float | None, **inputs: str) -> None:
    """The check answers the first value until something is changed, and the last one from then on."""
    query = query_of(platform, runbook, check, **inputs)
    stage.world.numbers[query] = lambda: values[-1] if stage.did else values[0]


def acted(stage: Stage) -> list[str]:
    return [what for _, what in stage.did]


def asked_for(stage: Stage) -> str:
    """The step that waits for a yes, or nothing."""
    asked = pending_approval(stage.incident)
    return "" if asked is None else asked.step


def statuses(stage: Stage) -> list[str]:
    """Of the steps of the only incident's first run."""
    return [step.status.value for step in stage.incident.runs[0].steps]
