"""Runbooks with which nobody but people is called."""

from __future__ import annotations

from typing import Any

from tests.builders import a_runbook, call_step

NO_RUN = a_runbook(steps=[], mode="observe", verify=None)
"""Nothing is done: people alone."""
STORM = {"incidents": 5, "within": "5m"}


def approving(**parts: Any) -> dict[str, Any]:
    return a_runbook(steps=[call_step(approval={"role": "risk-manager", "within": "10m", **parts})])
