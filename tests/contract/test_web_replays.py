"""A replay on a running server, through the whole application: taken in like a live notification, and touching none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from responder.alert import fingerprint
from responder.draft import Intended
from responder.recorded import LIVE, Outcome
from responder.timing import MINUTE
from responder.view import Gather
from responder.web.access import Refusal
from responder.web.bodies import unpacked
from responder.web.replays import Replay, is_replay
from tests.contract.web_parts import START, FakeAlertmanager, Office, alert, notification, serving

COUNTS = {"alerts": 1, "opened": 1, "fired": 1, "resolved": 0, "repeated": 0, "unreadable": 0}


async def replayed(office: Office, content: Any, name: str = "storm", by: str | None = "otto") -> Any:
    return await office.call("POST", f"/replays/{name}/notifications", by, content)


async def live_state(office: Office) -> Any:
    """All that a replay must not touch: what is live, what is shared, and what leaves."""
    store = office.store
    incidents = await store.incidents(namespace=LIVE)
    return {
        "incidents": incidents,
        "events": [await store.events(row.id) for row in incidents],
        "messages": [await store.messages_of(row.id) for row in incidents],
        "scopes": await store.scopes(),
        "dead_letters": await store.dead_letters(None),
        "open": await store.open_incidents(),
        "next_message": await store.next_message_due(),
    }


async def replays(office: Office, name: str = "storm") -> Any:
    answer = await office.call("GET", f"/incidents?namespace=replay/{name}", "anna")
    assert answer.status_code == 200
    return answer.json()["incidents"]


async def test_a_replayed_notification_answers_the_counts_and_is_kept_in_its_namespace(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        answer = await replayed(office, notification(alert()))
        assert (answer.status_code, answer.json()) == (200, {**COUNTS, "namespace": "replay/storm"})
        again = await replayed(office, notification(alert(), alert(firing=False, ends=START, symbol="x")))
        assert again.json() == {
            **COUNTS,
            "alerts": 2,
            "opened": 0,
            "fired": 0,
            "repeated": 2,
            "namespace": "replay/storm",
        }
        rows = await office.store.notifications(0, office.time + 1, 9)
        assert {(row.namespace, row.source) for row in rows} == {("replay/storm", "replay by otto")}
        assert b"VaRBreach" in unpacked(rows[0].body)


async def test_both_dialects_are_replayed(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        content = {**notification(alert()), "version": "1", "orgId": 1}
        assert (await replayed(office, content)).json()["opened"] == 1
        assert [i["target"] for i in await replays(office)] == ["risk-api/kelly_fraction"]


async def test_a_live_incident_of_the_same_fingerprint_and_target_stays_as_it_was(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.post(notification(alert()))
        await office.run_on(Outcome.UNKNOWN)  # the target is locked, a run is counted, a person is awaited
        before = await live_state(office)
        office.time += MINUTE
        resolved = alert(firing=False, ends=office.time)
        for content in (notification(alert()), notification(alert(severity="page")), notification(resolved)):
            assert (await replayed(office, content)).status_code == 200
        assert await live_state(office) == before
        assert before["open"] == 1
        assert len(before["scopes"]) >= 2


async def test_what_is_live_goes_on_while_its_replay_ended(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await replayed(office, notification(alert()))
        assert (await office.post(notification(alert()))).json()["opened"] == 1
        await replayed(office, notification(alert(firing=False, ends=office.time)))
        assert (await office.post(notification(alert()))).json()["repeated"] == 1
        (row,) = await office.store.incidents(namespace=LIVE)
        assert len(row.fold.firing) == 1


async def test_a_replay_observes_and_leaves_nothing_shared(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        nothing = await live_state(office)
        await replayed(office, notification(alert()))
        assert isinstance(office.turns[-1].next, Gather)
        await office.run_on(Outcome.OK)
        turn = office.turns[-1]
        assert not isinstance(turn.next, Intended)
        (run,) = turn.incident.runs
        assert (run.mode, run.result, run.acted) == ("observe", "observed", False)
        assert await office.store.messages_of(turn.incident.id) == []
        assert await live_state(office) == nothing


async def test_people_may_say_everything_about_a_replay_and_nothing_leaves_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.post(notification(alert()))
        await office.run_on(Outcome.OK)  # a live change is in force on the same target
        before = await live_state(office)
        await replayed(office, notification(alert()))
        (found,) = await replays(office)
        said = {}
        for verb in ("ack", "takeover", "done", "settle", "unlock"):
            body = {"reason": "because", **({"applied": True} if verb == "settle" else {})}
            said[verb] = (await office.call("POST", f"/incidents/{found['id']}/{verb}", "otto", body)).status_code
        said["restore"] = (await office.call("POST", f"/incidents/{found['id']}/restore", "otto")).status_code
        assert said == {"ack": 200, "takeover": 200, "done": 409, "settle": 409, "unlock": 409, "restore": 409}
        assert await live_state(office) == before


async def test_replays_are_listed_only_when_they_are_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.post(notification(alert("CacheDown")))
        await replayed(office, notification(alert()))
        await replayed(office, notification(alert("Other")), name="other")

        async def listed(query: str) -> list[str]:
            answer = await office.call("GET", f"/incidents{query}", "anna")
            return [i["target"] for i in answer.json()["incidents"]]

        assert await listed("") == await listed("?namespace=live") == await listed("?status=open") == ["cache"]
        assert await listed("?namespace=replay/storm&status=open") == ["risk-api/kelly_fraction"]
        assert await listed("?namespace=replay/nothing") == []
        (one,) = await replays(office)
        whole = (await office.call("GET", f"/incidents/{one['id']}", "anna")).json()
        assert (whole["namespace"], whole["events"][0]["kind"]) == ("replay/storm", "opened")
        for wrong in ("replay", "replay/", "replay/a%0Ab", "LIVE", "", "other"):
            assert (await office.call("GET", f"/incidents?namespace={wrong}", "anna")).status_code == 400


async def test_the_status_and_the_metrics_do_not_count_replays(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await replayed(office, notification(alert(), alert("Unknown")))
        status = (await office.call("GET", "/status", "anna")).json()
        assert [status[name] for name in ("incidents", "locks", "in_force", "timers")] == [[], [], [], []]
        assert status["next_message_at"] is None
        assert office.count("responder_incidents_opened_total", severity="critical") == 0
        assert office.count("responder_runs_started_total", cause="alert") == 0
        assert office.count("responder_alerts_received_total", status="firing") == 0
        await office.post(notification(alert()))
        assert office.count("responder_incidents_opened_total", severity="critical") == 1


async def test_a_bad_body_is_refused_and_no_dead_letter(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        answer = await replayed(office, {"version": "9"})
        assert answer.status_code == 400
        assert "a dead letter if it were live: version: payload version" in answer.json()["error"]
        assert await office.store.dead_letters(None) == []
        assert await office.store.incidents() == []


async def test_an_alert_that_cannot_be_read_is_counted_and_wakes_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        before = await live_state(office)
        answer = await replayed(office, notification(alert(), {"labels": {}}))
        assert answer.json() == {**COUNTS, "unreadable": 1, "namespace": "replay/storm"}
        assert await live_state(office) == before


async def test_alertmanager_is_not_asked_about_a_replay(tmp_path: Path) -> None:
    manager = FakeAlertmanager()
    async with serving(tmp_path, manager) as office:
        over = alert(firing=False, starts=START, ends=START + MINUTE)
        await replayed(office, notification(alert()))
        await replayed(office, notification(over))
        late = await replayed(office, notification(alert(), truncatedAlerts=3))
        assert (late.status_code, late.json()["fired"]) == (200, 1)
        assert manager.asked == []


async def test_a_replay_does_not_say_which_receiver_we_are(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await replayed(office, notification(alert(), receiver="somebody-else"))
        await office.post(notification(alert()))
        assert await office.store.receivers(0) == {"team.risk"}


@pytest.mark.parametrize(("by", "status"), [(None, 401), ("nobody", 403), ("anna", 403), ("rita", 403), ("otto", 200)])
async def test_replaying_needs_an_operator(tmp_path: Path, by: str | None, status: int) -> None:
    async with serving(tmp_path) as office:
        answer = await replayed(office, notification(alert()), by=by)
        assert answer.status_code == status
        assert len(await office.store.incidents()) == (status == 200)


async def test_where_nobody_is_configured_only_the_local_operator_replays(tmp_path: Path) -> None:
    async with serving(tmp_path, nobody=True) as office:
        assert (await replayed(office, notification(alert()), by=None)).status_code == 401
        assert (await replayed(office, notification(alert()), by="local")).status_code == 200


async def test_the_limits_are_the_webhooks(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"body_bytes": 65_536, "alerts": 2}) as office:
        large = await replayed(office, notification(alert(padding="x" * 65_536)))
        assert (large.status_code, "limits.body_bytes" in large.json()["error"]) == (413, True)
        many = await replayed(office, notification(alert("A"), alert("B"), alert("C")))
        assert (many.status_code, "limit of 2" in many.json()["error"]) == (400, True)
        assert await office.store.incidents() == []


@pytest.mark.parametrize("name", ["live", "LIVE", "a", "2026-11-20_storm.1", "x" * 64])
def test_whatever_its_name_a_replay_is_never_live(name: str) -> None:
    assert Replay(name).namespace != LIVE
    assert is_replay(Replay(name).namespace)


@pytest.mark.parametrize("name", ["", ".", "../live", "a/b", "a\nb", "-a", "x" * 65, "ä"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="no name of a replay"):
        Replay(name)
    assert not is_replay(f"replay/{name}")


async def test_a_bad_name_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        assert (await replayed(office, notification(alert()), name="-a")).status_code == 400
        assert (await office.call("GET", "/replays/a/notifications", "otto")).status_code == 405


# --- what was received ------------------------------------------------------------------------------------------------


async def stored(office: Office, query: str = "", by: str | None = "anna") -> Any:
    answer = await office.call("GET", f"/notifications{query}", by)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_stored_notifications_are_told_as_they_came_oldest_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        odd = b'\xef\xbb\xbf  {"version": "4", "receiver": "r\\\\.x", "alerts": [], "a": 1.50, "b": "\\ud800 %b"}\n'
        await office.post(notification(alert()))
        office.time += MINUTE
        await office.post(odd)
        await replayed(office, notification(alert()))
        first, second = (await stored(office))["notifications"]
        assert first["body"] == notification(alert())
        assert {**second, "id": ""} == {
            "id": "", "received_at": "2027-01-15T08:01:00Z", "source": second["source"], "receiver": "r.x",
            "body": {"version": "4", "receiver": "r\\.x", "alerts": [], "a": 1.5, "b": "\ud800 %b"},
        }  # fmt: skip
        assert second["source"].startswith("alertmanager ")
        raw = (await office.call("GET", "/notifications", "anna")).content
        assert odd.removeprefix(b"\xef\xbb\xbf").strip() in raw


async def test_large_bodies_are_told_unpacked(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        sent = notification(*(alert(f"A{n}") for n in range(50)))
        await office.post(sent)
        assert [n["body"] for n in (await stored(office))["notifications"]] == [sent]


async def test_they_come_in_pages_within_a_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        for name in "ABCDE":
            await office.post(notification(alert(name)))
            office.time += MINUTE

        def names(page: Any) -> str:
            return "".join(n["body"]["alerts"][0]["labels"]["alertname"] for n in page["notifications"])

        span = "?since=2027-01-15T08:01:00Z&until=2027-01-15T09:04:00%2B01:00&limit=2"
        first = await stored(office, span)
        assert (names(first), first["next"]) == ("BC", first["notifications"][-1]["id"])
        last = await stored(office, f"{span}&after={first['next']}")
        assert (names(last), last["next"]) == ("D", None)
        exact = await stored(office, "?since=2027-01-15T08:03:00Z&limit=2")
        assert (names(exact), exact["next"]) == ("DE", None)
        assert await stored(office, "?until=2027-01-15T08:00:00Z") == {"notifications": [], "next": None}


async def test_those_of_an_incident_hold_its_alerts_between_opening_and_closing(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:

        async def post(*alerts: Any) -> str:
            await office.post(notification(*alerts))
            office.time += MINUTE
            return str((await stored(office))["notifications"][-1]["id"])

        down, other = alert("Down"), alert("Other")
        over = alert("Down", firing=False, ends=START + MINUTE)
        await post(alert("Down", firing=False, ends=START - MINUTE))
        opened = await post(down)
        incident = office.turns[-1].incident.id
        await post(other)
        joined = await post(other, down)
        closed = await post(over)
        await post(over)
        await post(alert("Down", starts=office.time))
        found = await stored(office, f"?incident={incident[:6]}")
        assert [n["id"] for n in found["notifications"]] == [opened, joined, closed]
        assert found["next"] is None
        page = await stored(office, f"?incident={incident}&limit=1&after={opened}")
        assert [n["id"] for n in page["notifications"]] == [joined]
        assert page["next"] == joined
        later = await stored(office, f"?incident={incident}&since=2027-01-15T08:03:00Z")
        assert [n["id"] for n in later["notifications"]] == [joined, closed]
        assert fingerprint(down["labels"]) == down["fingerprint"]


async def test_a_page_ends_where_enough_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("responder.web.notifications.LOOKED_AT", 3)
    monkeypatch.setattr("responder.web.notifications.AT_ONCE", 2)
    async with serving(tmp_path) as office:
        await office.post(notification(alert("Down")))
        incident = office.turns[-1].incident.id
        for _ in range(5):
            await office.post(notification(alert("Other")))
            office.time += MINUTE
        await office.post(notification(alert("Down")))
        pages: list[int] = []
        page: Any = {"next": ""}
        while page["next"] is not None:
            page = await stored(office, f"?incident={incident}{page['next'] and '&after=' + page['next']}")
            pages.append(len(page["notifications"]))
        assert pages == [1, 0, 1]


async def test_a_page_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("responder.web.notifications.ANSWER_BYTES", 100)
    async with serving(tmp_path) as office:
        for _ in range(2):
            await office.post(notification(alert("Down")))
        page = await stored(office)
        assert len(page["notifications"]) == 1
        rest = await stored(office, f"?after={page['next']}")
        assert (len(rest["notifications"]), rest["next"]) == (1, None)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?since=yesterday", 400), ("?until=1", 400), ("?limit=0", 400), ("?limit=999", 400), ("?after=%00", 400),
        ("?incident=nothere", 404), ("?incident=%00", 404), ("?incident=REPLAY", 400), ("?after=nothere", 200),
    ],
)  # fmt: skip
async def test_a_bad_question_says_why(tmp_path: Path, query: str, status: int) -> None:
    async with serving(tmp_path) as office:
        await replayed(office, notification(alert()))
        ours = office.turns[-1].incident.id
        answer = await office.call("GET", f"/notifications{query.replace('REPLAY', ours)}", "anna")
        assert answer.status_code == status
        assert status == 200 or answer.json()["error"]


@pytest.mark.parametrize(("by", "status"), [(None, 401), ("nobody", 403), ("rita", 403), ("anna", 200), ("otto", 200)])
async def test_bodies_are_for_people_with_a_role(tmp_path: Path, by: str | None, status: int) -> None:
    async with serving(tmp_path) as office:
        assert (await office.call("GET", "/notifications", by)).status_code == status


async def test_where_nobody_is_configured_bodies_are_for_the_local_operator(tmp_path: Path) -> None:
    async with serving(tmp_path, nobody=True) as office:
        assert (await office.call("GET", "/incidents")).status_code == 200
        assert (await office.call("GET", "/notifications")).status_code == 401
        assert (await office.call("GET", "/notifications", "local")).status_code == 200
