"""The n-th operation of the database fails, once and for a while: nothing is lost, and nothing done twice (C5).

`CRASH_FAULTS` is the stride: 1 fails every operation in turn.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.crash.running import Campaign

STRIDE = os.environ.get("CRASH_FAULTS", "120")


def judge(name: str, tally: dict[str, Any]) -> None:
    """Print the counts; no failure is allowed, and faults of each kind must have struck."""
    counts = f"{tally['cycles']} lives, {tally['failed']} operations failed on {name}"
    print(f"crash: {counts}, {tally['lost']} lost, {tally['doubled']} doubled")  # noqa: T201  what it is for
    assert not tally["failures"], "\n".join(tally["failures"])
    assert tally["failed"] > tally["cycles"] >= 18
    assert tally["operations"]["EveryEffect"] > 60


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_operations_that_fail(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = "sqlite" if store == "sqlite" else request.getfixturevalue("database")
    campaign = Campaign(url, tmp_path, "--short", "--stride", STRIDE, module="tests.crash.faulty")
    try:
        judge(store, campaign.tally())
    finally:
        campaign.end()
