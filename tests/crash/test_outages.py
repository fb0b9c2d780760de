"""The database fails at its n-th operation (C5) or goes away (C6), the clock jumps (C13): no harm.

`CRASH_FAULTS`, `CRASH_JUMPS` (strides) and `CRASH_RESTARTS` (a count) make the campaigns larger.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.crash.running import Campaign
from tests.provision import find

STRIDE = os.environ.get("CRASH_FAULTS", "120")
JUMPS = os.environ.get("CRASH_JUMPS", "40")
RESTARTS = os.environ.get("CRASH_RESTARTS", "8")


def tally_of(name: str, campaign: Campaign) -> dict[str, Any]:
    """What it counted, printed; no failure is allowed."""
    try:
        tally = campaign.tally()
    finally:
        campaign.end()
    counts = f"{tally['cycles']} lives, {tally['failed']} faults, {tally['lost']} lost, {tally['doubled']} doubled"
    print(f"crash: {name}: {counts}, ended as {tally['ends']}")  # noqa: T201  what it is for
    assert not tally["failures"], "\n".join(tally["failures"])
    return tally


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_operations_that_fail(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = "sqlite" if store == "sqlite" else request.getfixturevalue("database")
    campaign = Campaign(url, tmp_path, "--short", "--stride", STRIDE, module="tests.crash.faulty")
    tally = tally_of(f"operations fail on {store}", campaign)
    assert tally["failed"] > tally["cycles"] >= 18
    assert tally["operations"]["EveryEffect"] > 60


def test_the_database_is_stopped_at_once_and_comes_back(tmp_path: Path) -> None:
    find("postgres")
    tally = tally_of("restarts", Campaign("", tmp_path, "--count", RESTARTS, module="tests.crash.restarts"))
    assert tally["failed"] == tally["cycles"] == int(RESTARTS)


def test_a_process_that_starts_at_another_time(tmp_path: Path) -> None:
    campaign = Campaign("sqlite", tmp_path, "--short", "--stride", JUMPS, module="tests.crash.clocks")
    tally = tally_of("clock jumps", campaign)
    assert tally["cycles"] >= 16
