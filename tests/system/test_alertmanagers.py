"""Two Alertmanagers, which both tell: however often it is told, one run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.arena import Arena, Layout
from tests.system.outside import REDUCE
from tests.system.patience import eventually
from tests.system.serving import told

LAYOUTS = [
    pytest.param(Layout(peers=2, clustered=True), id="a cluster"),
    pytest.param(Layout(peers=2), id="two that do not know each other"),
]


@pytest.fixture(scope="module", params=LAYOUTS)
def pair(request: pytest.FixtureRequest) -> Iterator[Arena]:
    with Arena(request.param) as started:
        started.begin()
        yield started


def test_two_alertmanagers_make_one_run(pair: Arena, request: pytest.FixtureRequest) -> None:
    pair.outside.breach()
    incident = eventually("the incident closes", pair.responder.incident, lambda seen: seen["status"] == "closed")
    assert [run["result"] for run in incident["runs"]] == ["fixed"], told(incident)
    assert pair.outside.changes == [REDUCE]
    if "cluster" not in request.node.callspec.id:
        received = pair.responder.metric("responder_notifications_received_total")
        assert received >= 4, f"each tells the firing and the end, but only {received:g} notifications came"
