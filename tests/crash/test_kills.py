"""kill -9 before and after every commit and outside call: nothing lost, nothing doubled, `unknown` where it must be.

`CRASH_PAIRS` and `CRASH_STRIDE` make the campaigns larger (`CRASH_STRIDE=1 CRASH_PAIRS=2000`), `CRASH_SEED` others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.crash.running import PAIRS, STRIDE, Campaign


def judge(name: str, tally: dict[str, Any]) -> None:
    """Print the counts; no failure is allowed, and every kind of end must have been met."""
    unknown = f"{tally['unknown']} unknown (expected {tally['unknown_expected']})"
    counts = f"{tally['kills']} kills on {name}, {tally['lost']} lost, {tally['doubled']} doubled, {unknown}"
    print(f"crash: {counts}, {tally['cycles']} cycles, kill points {tally['points']}")  # noqa: T201  what it is for
    assert not tally["failures"], "\n".join(tally["failures"])
    assert tally["unknown"] == tally["unknown_expected"] > 0
    assert tally["kills"] > tally["points"]["EveryEffect"] > 60


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """Under way while the other one runs: each keeps one processor busy."""
    campaign = Campaign("sqlite", tmp_path_factory.mktemp("sqlite"), "--pairs", PAIRS, "--stride", STRIDE)
    yield campaign
    campaign.end()


@pytest.mark.usefixtures("sqlite")
def test_kills_at_every_point_on_postgresql(database: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    campaign = Campaign(database, tmp_path_factory.mktemp("postgresql"), "--pairs", PAIRS, "--stride", STRIDE)
    try:
        judge("postgresql", campaign.tally())
    finally:
        campaign.end()


def test_kills_at_every_point_on_sqlite(sqlite: Campaign) -> None:
    judge("sqlite", sqlite.tally())
