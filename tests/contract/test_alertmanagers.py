"""What several Alertmanagers say about an alert, asked at the wire: who is believed, and about what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from responder.alert import fingerprint
from responder.alertmanagers import NOBODY, SETTLED, Alertmanagers
from responder.incident import Episode
from responder.recorded import AlertState, AlertView
from responder.timing import MINUTE, SECOND
from tests.builders import T0, an_alert
from tests.fakes.alertmanager import FakeAlertmanager

FIRING, SILENCED, INHIBITED, GONE, UNCLEAR = AlertState
BTC, ETH = an_alert(symbol="BTC-USD"), an_alert(symbol="ETH-USD")


def episode(labels: dict[str, str]) -> Episode:
    return Episode(fingerprint=fingerprint(labels), labels=labels, annotations={}, severity=None, firing=True, since=T0)


@pytest.fixture
def pair() -> Iterator[tuple[FakeAlertmanager, FakeAlertmanager]]:
    both = FakeAlertmanager(lambda: T0, "http://am-1"), FakeAlertmanager(lambda: T0, "http://am-2")
    yield both
    assert [one.unexpected for one in both] == [[], []]


def asking(*peers: FakeAlertmanager) -> Alertmanagers:
    return Alertmanagers([peer.connection() for peer in peers], lambda: T0)


async def view(*peers: FakeAlertmanager) -> AlertView:
    """About BTC."""
    views = await asking(*peers).views([episode(BTC)])
    return views[fingerprint(BTC)]


Pair = tuple[FakeAlertmanager, FakeAlertmanager]


async def test_whoever_lists_it_as_active_is_right(pair: Pair) -> None:
    first, second = pair
    second.fires(BTC)
    assert (await view(*pair)).state is FIRING
    first.fires(BTC)
    first.silences(BTC)
    assert (await view(*pair)).state is FIRING, "the silence has not reached the other one"
    first.down = True
    assert (await view(*pair)).state is FIRING


async def test_a_silence_is_told_with_who_made_it(pair: Pair) -> None:
    first, _ = pair
    first.fires(BTC)
    first.silences(BTC, by="anna", comment="planned\nwork")
    found = await view(*pair)
    assert (found.state, found.why) == (SILENCED, "silence s1 by anna: planned work")


async def test_a_silence_that_cannot_be_read_is_told_by_its_id(pair: Pair) -> None:
    pair[0].fires(BTC, silencedBy=["unknown"])
    assert (await view(*pair)).why == "silence unknown"


async def test_an_inhibited_alert(pair: Pair) -> None:
    pair[1].fires(BTC)
    pair[1].inhibits(BTC)
    assert (await view(*pair)).state is INHIBITED


async def test_what_is_only_muted_at_this_hour_fires(pair: Pair) -> None:
    pair[0].fires(BTC, mutedBy=["nights"])
    assert (await view(*pair)).state is FIRING


async def test_it_is_gone_when_every_one_says_so(pair: Pair) -> None:
    pair[0].fires(ETH)
    assert (await view(*pair)).state is GONE
    assert await asking(*pair).gone([]) == frozenset()


@pytest.mark.parametrize("trouble", ["down", "new"])
async def test_one_that_cannot_be_believed_makes_it_unclear(pair: Pair, trouble: str) -> None:
    if trouble == "down":
        pair[1].down = True
    else:
        pair[1].started = T0 - SETTLED + SECOND
    found = await view(*pair)
    assert found.state is UNCLEAR
    assert ("503" if trouble == "down" else "started 4m59s ago") in found.why
    pair[1].down, pair[1].started = False, T0 - SETTLED
    assert (await view(*pair)).state is GONE


async def test_one_that_has_just_started_is_believed_about_what_it_lists(pair: Pair) -> None:
    pair[0].restarts()
    pair[0].fires(BTC)
    assert (await view(*pair)).state is FIRING


async def test_without_any_nobody_can_tell() -> None:
    found = await view()
    assert (found.state, found.why) == (UNCLEAR, NOBODY)
    seen = await asking().seen([episode(BTC)])
    assert (seen.nobody, seen.others) == (NOBODY, ())


async def test_what_is_kept_are_those_that_do_not_plainly_fire(pair: Pair) -> None:
    pair[0].fires(BTC)
    seen = await asking(*pair).seen([episode(BTC), episode(ETH)])
    assert (seen.observed_at, seen.asked, seen.nobody) == (T0, 2, "")
    assert [(v.fingerprint, v.state) for v in seen.others] == [(fingerprint(ETH), GONE)]


async def test_one_list_serves_very_many_names(pair: Pair) -> None:
    many = [an_alert(alertname=f"A{n}") for n in range(9)]
    pair[0].fires(*many)
    views = await asking(*pair).views([episode(labels) for labels in many])
    assert {v.state for v in views.values()} == {FIRING}
    assert pair[0].asked == ["/api/v2/alerts", "/api/v2/status"]


async def test_before_028_what_may_be_muted_goes_to_nobody(pair: Pair) -> None:
    old, new = pair
    old.fires(BTC)
    new.fires(BTC, mutedBy=[])
    routed = [peer.listed[fingerprint(BTC)].receivers for peer in await asking(*pair).peers()]
    assert routed == [("responder",), ("responder",)]
    old.config = new.config = "route: {receiver: responder, routes: [{mute_time_intervals: [nights]}]}"
    routed = [peer.listed[fingerprint(BTC)].receivers for peer in await asking(*pair).peers()]
    assert routed == [(), ("responder",)]


async def test_its_start_is_asked_for_last() -> None:
    """A list of one that was started in between would be empty, and believed."""
    one = FakeAlertmanager(lambda: T0)
    await asking(one).views([episode(BTC)])
    assert one.asked == ["/api/v2/alerts", "/api/v2/status"]
    one.started = T0 - MINUTE
    assert (await view(one)).state is UNCLEAR
