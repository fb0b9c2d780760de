"""The main job: a breach is answered, told and closed; outages and reloads lose nothing and double nothing."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator

import pytest

from tests.fakes.slack import Posted
from tests.system.arena import Arena, Layout
from tests.system.outside import REDUCE
from tests.system.patience import eventually, throughout
from tests.system.serving import told


@pytest.fixture(scope="module")
def servers() -> Iterator[Arena]:
    with Arena(Layout()) as started:
        yield started


@pytest.fixture
def arena(servers: Arena) -> Arena:
    servers.begin()
    return servers


def closed(incident: dict[str, object]) -> bool:
    return incident["status"] == "closed"


def assert_cut_once_and_fixed(arena: Arena) -> dict[str, object]:
    """The end that all these stories have; answers the incident."""
    incident = eventually("the incident closes", arena.responder.incident, closed)
    assert incident["result"] == "fixed", told(incident)
    assert [run["result"] for run in incident["runs"]] == ["fixed"], told(incident)
    assert arena.outside.changes == [REDUCE]
    assert arena.outside.status["kelly_fraction"] == 0.1
    return incident


def test_a_breach_is_answered_told_and_closed(arena: Arena) -> None:
    arena.outside.breach()
    incident = assert_cut_once_and_fixed(arena)
    assert incident["target"] == "risk-api/kelly_fraction"
    assert max(arena.outside.status["var_pct"].values()) < 1.7

    def of_it() -> Posted:
        """The incident's own root message; the start was announced in the channel too."""
        roots = arena.outside.slack.roots
        (found,) = [r for r in roots if r.metadata["event_payload"]["incident"] == incident["id"]]
        return found

    def story() -> str:
        root = of_it()
        return html.unescape("\n".join(arena.outside.slack.thread(root.ts)))

    thread = eventually("Slack hears of the end", story, lambda text: "Closed after" in text)
    root = of_it()
    eventually("the root message shows the end", lambda: root.text, lambda text: "closed" in text)
    assert root.updates >= 1
    for told_of in ("var-breach acts on", "0.25 → 0.1", "Evidence", "< 1.7"):
        assert told_of in thread, f"the thread does not tell {told_of!r}:\n{thread}"
    assert len(set(arena.outside.slack.thread(root.ts))) == len(arena.outside.slack.thread(root.ts))
    assert arena.outside.pagerduty.pages == [], "it was fixed within the grace, and nobody had to wake up"


def test_an_alert_that_fires_while_the_responder_is_down_is_delivered_and_answered_once(arena: Arena) -> None:
    arena.responder.kill()
    arena.outside.breach()
    eventually("Prometheus fires", arena.firing, lambda count: count == 2)
    assert arena.outside.changes == []

    arena.responder.start()
    assert_cut_once_and_fixed(arena)


def _told_of_a_cut(arena: Arena) -> bool:
    return arena.outside.changes == [REDUCE]


def _verifying(arena: Arena) -> bool:
    return bool(arena.responder.incident()["status"] == "verifying")


@pytest.mark.parametrize(
    ("withheld", "moment"),
    [
        pytest.param(True, _told_of_a_cut, id="the cut has happened and its answer is on the way"),
        pytest.param(False, _verifying, id="while it verifies"),
    ],
)
def test_a_kill_in_the_middle_of_a_run_doubles_nothing(
    arena: Arena, withheld: bool, moment: Callable[[Arena], bool]
) -> None:
    if withheld:
        arena.outside.withhold()
    arena.outside.breach()
    eventually("the moment to kill it", lambda: moment(arena), bool)
    arena.responder.kill()
    arena.outside.answer()

    arena.responder.start()
    assert_cut_once_and_fixed(arena)


def test_a_reload_that_changes_the_grouping_makes_no_second_run(arena: Arena) -> None:
    arena.outside.withhold()  # the run is under way for as long as that
    arena.outside.breach()
    eventually("the run is under way", lambda: arena.outside.changes, lambda seen: seen == [REDUCE])
    before = arena.responder.metric("responder_notifications_received_total")
    alertmanager = arena.alertmanagers[0]
    alertmanager.configure(arena.routing(group_by=["alertname", "symbol"]))
    alertmanager.reload()
    eventually(
        "it tells everything again, by symbol",
        lambda: arena.responder.metric("responder_notifications_received_total"),
        lambda count: count >= before + 2,
    )
    arena.outside.answer()

    incident = eventually("the incident closes", arena.responder.incident, lambda seen: seen["status"] == "closed")
    assert [run["result"] for run in incident["runs"]] == ["fixed"], told(incident)
    throughout("nothing follows", lambda: arena.outside.changes, lambda seen: seen == [REDUCE], seconds=1)
