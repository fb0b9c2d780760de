"""The whole web application over a real store: what it answers, and what is stored by then."""

import asyncio
import json
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder import facts as f
from responder.errors import BadConfig, BadRules
from responder.ingest import UNREADABLE
from responder.recorded import Outcome, Recorded
from responder.scopes import InForce, Lock, Pause
from responder.security import local_operator
from responder.timing import MINUTE, SECOND
from responder.web.bodies import LARGE, packed, unpacked
from responder.web.shapes import DURATIONS, TIMES
from responder.web.webhook import QUIET
from tests.contract.web_parts import HOOK, START, FakeAlertmanager, Office, alert, notification, serving

# --- the webhook: storing ---------------------------------------------------------------------------------------------


async def stored(office: Office) -> list[bytes]:
    return [unpacked(row.body) for row in await office.store.notifications(0, office.time + 1, 100)]


async def test_a_notification_is_stored_with_its_incident_before_it_is_acknowledged(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        answer = await office.post(notification(alert()))
        assert answer.status_code == 200
        assert answer.json() == {"alerts": 1, "opened": 1, "fired": 1, "resolved": 0, "repeated": 0, "unreadable": 0}
        assert [row.fold.runbook for row in await office.store.incidents()] == ["cut"]
        assert [json.loads(body)["receiver"] for body in await stored(office)] == ["team\\.risk"]
        assert [turn.incident.runbook for turn in office.turns] == ["cut"]


async def test_a_large_body_is_stored_compressed_and_comes_back_exactly(tmp_path: Path) -> None:
    body = json.dumps(notification(*(alert(symbol=f"S{i}") for i in range(60)))).encode()
    async with serving(tmp_path) as office:
        assert (await office.post(body)).json()["fired"] == 60
        (row,) = await office.store.notifications(0, office.time + 1, 10)
        assert len(row.body) < len(body) / 4
        assert unpacked(row.body) == body


@pytest.mark.parametrize("body", [b"", b"{}", b" {}", b"[" + b"1," * LARGE + b"1]", b'{"a": "' + b"x" * LARGE + b'"}'])
def test_packing_loses_nothing(body: bytes) -> None:
    assert unpacked(packed(body)) == body


async def test_a_repeated_notification_opens_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.post(notification(alert()))
        again = (await office.post(notification(alert()))).json()
        assert (again["opened"], again["repeated"]) == (0, 1)
        assert office.count("responder_alerts_received_total", status="firing") == 2


async def test_an_unreadable_alert_does_not_stop_the_others(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        answer = (await office.post(notification({"status": "firing", "labels": {}}, alert()))).json()
        assert (answer["fired"], answer["unreadable"]) == (1, 1)
        assert [letter.body for letter in await office.store.dead_letters()] == [b'{"status": "firing", "labels": {}}']


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense"])
async def test_any_content_type_is_taken(tmp_path: Path, content_type: str) -> None:
    async with serving(tmp_path) as office:
        answer = await office.post(notification(alert()), **{"content-type": content_type})
        assert answer.status_code == 200
        assert answer.json()["opened"] == 1


async def test_a_trailing_slash_is_no_redirect(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        answer = await office.client.post(f"{HOOK}/", json=notification(alert()))
        assert answer.json()["opened"] == 1
        assert (await office.client.get("/api/v1/status/")).status_code == 404


# --- the webhook: refusing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"not JSON", b"\xff", b"[]", b'{"version": "5", "alerts": []}', b'{"version": "4"}']
)
async def test_a_body_that_cannot_be_understood_is_kept_and_told(tmp_path: Path, body: bytes) -> None:
    async with serving(tmp_path) as office:
        answer = await office.post(body)
        (letter,) = await office.store.dead_letters()
        assert answer.status_code == 200
        assert answer.json()["dead_letter"] == letter.id
        assert letter.body == body
        assert [row.fold.target for row in await office.store.incidents()] == [UNREADABLE.target]
        assert office.count("responder_dead_letters_total", reason="body") == 1
        assert office.emergencies == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_are_told_what_to_do(tmp_path: Path, method: str) -> None:
    """A followed redirect arrives as a GET; a 200 to it would count as delivered (contracts.md A2)."""
    async with serving(tmp_path, webhook=["hook"]) as office:
        answer = await office.client.request(method, HOOK)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert "webhook_config" in answer.json()["error"]
        assert office.count("responder_webhook_requests_total", code="405") == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 403),
        ({"authorization": "Bearer anna-token"}, 403),
        ({"authorization": "Bearer old"}, 200),
        ({"authorization": "Bearer new"}, 200),
        ({"authorization": "Bearer new", "origin": "http://elsewhere"}, 200),
    ],
)
async def test_credentials_of_the_webhook(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async with serving(tmp_path, webhook=["old", "new"]) as office:
        answer = await office.post(notification(alert()), **headers)
        assert answer.status_code == status
        assert len(await office.store.incidents()) == (status == 200)
        assert office.count("responder_webhook_requests_total", code=str(status)) == 1


async def test_a_web_page_cannot_post_where_nobody_needs_a_credential(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        assert (await office.post(notification(alert()), origin="http://elsewhere")).status_code == 403
        assert await office.store.incidents() == []


async def announced(office: Office, size: int) -> httpx.Response:
    return await office.post(b"x" * size)


async def streamed(office: Office, size: int) -> httpx.Response:
    """The sender writes the whole body, or it would see a broken connection instead of the answer."""
    written = 0

    async def chunks() -> Any:
        nonlocal written
        for _ in range(size // 1024):
            written += 1024
            yield b"x" * 1024

    answer = await office.client.post(HOOK, content=chunks())
    assert written == size
    return answer


@pytest.mark.parametrize("send", [announced, streamed])
async def test_a_body_above_the_limit_pages_once_in_ten_minutes(tmp_path: Path, send: Any) -> None:
    async with serving(tmp_path, limits={"body_bytes": 65_536}) as office:
        for _ in range(3):
            assert (await send(office, 80 * 1024)).status_code == 413
        (letter,) = await office.store.dead_letters()
        assert letter.body == b""
        assert letter.reason.startswith("413")
        office.time += QUIET
        assert (await send(office, 80 * 1024)).status_code == 413
        assert len(await office.store.dead_letters()) == 2
        assert (await send(office, 64 * 1024)).status_code == 200


async def test_a_store_that_is_gone_is_503_and_an_emergency(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.store.close()
        answer = await office.post(notification(alert()))
        assert answer.status_code == 503
        assert len(office.emergencies) == 1
        assert (await office.post(b"not JSON")).status_code == 503


async def test_an_overloaded_store_is_503_without_an_emergency(tmp_path: Path) -> None:
    """Another process holds the database's write lock, so an operation waits for longer than is allowed."""
    async with serving(tmp_path, limits={"waiting": "1us"}) as office:
        held = sqlite3.connect(tmp_path / "responder.db", isolation_level=None)
        held.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(office.post(notification(alert())))
        while office.store.oldest_wait() == 0.0:
            await asyncio.to_thread(lambda: None)
        assert (await office.post(notification(alert("Other")))).status_code == 503
        held.execute("ROLLBACK")
        held.close()
        assert (await first).status_code == 200
        assert office.emergencies == []


async def test_a_mistake_of_ours_is_a_dead_letter_and_not_an_error(tmp_path: Path) -> None:
    """A pattern that no loader lets through makes the operation itself fail."""
    body = json.dumps(notification(alert("Broken"))).encode()
    async with serving(tmp_path) as office:
        answer = await office.post(body)
        assert answer.status_code == 200
        assert "internal error" in answer.json()["reason"]
        assert [letter.body for letter in await office.store.dead_letters()] == [body]
        assert office.count("responder_dead_letters_total", reason="internal") == 1
        assert (await office.post(notification(alert()))).json()["opened"] == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["receiver", "groupKey", "truncatedAlerts", "groupLabels", "status", "externalURL", "version"])
alert_fields = st.sampled_from(["labels", "annotations", "status", "startsAt", "endsAt", "fingerprint", "generatorURL"])
alerts = st.lists(st.dictionaries(alert_fields, json_values).map(lambda changes: {**alert(), **changes}), max_size=3)
payloads = st.builds(
    lambda changes, listed: json.dumps({**notification(*listed), **changes}).encode(),
    st.dictionaries(fields, json_values, max_size=3),
    alerts,
)
bodies = st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()) | payloads


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(bodies, min_size=1, max_size=12))
def test_any_body_is_taken_in_or_kept(sent: list[bytes]) -> None:
    """No 5xx for a bad body, no exception, and nothing that was acknowledged is missing."""

    async def check(path: Path) -> None:
        async with serving(path) as office:
            answers = [await office.post(body) for body in sent]
            assert [a.status_code for a in answers] == [200] * len(sent)
            letters = {letter.id: letter.body for letter in await office.store.dead_letters()}
            kept = await stored(office)
            for body, answer in zip(sent, answers, strict=True):
                assert body in kept or letters[answer.json()["dead_letter"]] == body
            assert office.emergencies == []

    with TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))


# --- the webhook: asking Alertmanager ---------------------------------------------------------------------------------

OLD = alert(starts=START - 10 * MINUTE)
ENDED = alert(firing=False, starts=START - 10 * MINUTE, ends=START - MINUTE)


async def after_its_end(office: Office) -> dict[str, int]:
    """A firing of an episode that has ended comes late."""
    await office.post(notification(OLD))
    await office.post(notification(ENDED))
    counts: dict[str, int] = (await office.post(notification(OLD))).json()
    return counts


async def test_a_late_firing_that_no_alertmanager_knows_starts_nothing(tmp_path: Path) -> None:
    first, second = FakeAlertmanager(), FakeAlertmanager()
    async with serving(tmp_path, first, second) as office:
        assert (await after_its_end(office))["fired"] == 0
        assert any("alertname%3D%22VaRBreach%22" in url for url in first.asked)
        assert second.asked


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FakeAlertmanager(alerts=[OLD]), FakeAlertmanager()),
        (FakeAlertmanager(), FakeAlertmanager(broken=True)),
        (FakeAlertmanager(), FakeAlertmanager(started=START - MINUTE)),
        (FakeAlertmanager(), FakeAlertmanager(alerts=["nonsense"])),
    ],
    ids=["one lists it", "one is broken", "one has just started", "one answers nonsense"],
)
async def test_a_late_firing_that_is_listed_or_unclear_fires(
    tmp_path: Path, first: FakeAlertmanager, second: FakeAlertmanager
) -> None:
    async with serving(tmp_path, first, second) as office:
        assert (await after_its_end(office))["fired"] == 1


async def test_a_late_firing_fires_where_nobody_can_be_asked(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        assert (await after_its_end(office))["fired"] == 1


def group(*listed: Any, receiver: str = "team.risk", **labels: str) -> Any:
    predicted = "2027-01-15T09:00:00.000Z"
    entries = [{**a, "endsAt": predicted, "status": {"state": "active", "silencedBy": []}} for a in listed]
    return {"labels": labels or {"alertname": "VaRBreach"}, "receiver": {"name": receiver}, "alerts": entries}


async def test_truncated_alerts_are_fetched_from_their_group(tmp_path: Path) -> None:
    silenced = {**alert(symbol="C"), "status": {"state": "suppressed", "silencedBy": ["s"]}}
    right = group(alert(symbol="A"), alert(symbol="B"))
    right["alerts"].append(silenced)
    groups = [group(alert("Other")), right]
    groups[0]["labels"] = {"alertname": "Other"}
    groups.append(group(alert(symbol="D"), receiver="other"))
    async with serving(tmp_path, FakeAlertmanager(broken=True), FakeAlertmanager(groups=groups)) as office:
        answer = await office.post(notification(alert(symbol="A"), truncatedAlerts=1, status="resolved"))
        assert answer.json()["fired"] == 2
        (row,) = await office.store.incidents()
        assert sorted(e.labels["symbol"] for e in row.fold.episodes.values()) == ["A", "B"]
        assert all(e.firing for e in row.fold.episodes.values())
        assert await office.store.dead_letters() == []
        fetched = json.loads((await stored(office))[1])
        assert [a["labels"]["symbol"] for a in fetched["alerts"]] == ["B"]


@pytest.mark.parametrize(
    "managers",
    [[], [FakeAlertmanager(broken=True)], [FakeAlertmanager(groups=[])], [FakeAlertmanager(groups=["nonsense"])]],
    ids=["none", "broken", "no such group", "nonsense"],
)
async def test_people_are_told_once_when_truncated_alerts_cannot_be_had(
    tmp_path: Path, managers: list[FakeAlertmanager]
) -> None:
    async with serving(tmp_path, *managers) as office:
        for _ in range(2):
            answer = await office.post(notification(alert(), truncatedAlerts=3))
            assert answer.status_code == 200
        (letter,) = await office.store.dead_letters()
        assert "3 alerts" in letter.reason
        assert "max_alerts: 0" in letter.reason
        assert {row.fold.target for row in await office.store.incidents()} == {
            "risk-api/kelly_fraction",
            UNREADABLE.target,
        }


# --- the API: reading -------------------------------------------------------------------------------------------------


async def test_incidents_are_listed_newest_first_in_pages(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        for name in ("A", "B", "C"):
            await office.post(notification(alert(name)))
            office.time += SECOND
        first = (await office.call("GET", "/incidents?limit=2", "anna")).json()
        assert [i["target"] for i in first["incidents"]] == ["alert:C", "alert:B"]
        assert first["next"] == first["incidents"][-1]["id"]
        rest = (await office.call("GET", f"/incidents?limit=2&before={first['next']}", "anna")).json()
        assert [i["target"] for i in rest["incidents"]] == ["alert:A"]
        assert rest["next"] is None
        assert first["incidents"][0]["opened_at"] == "2027-01-15T08:00:02Z"
        one = (await office.call("GET", "/incidents?target=alert:B&status=open", "anna")).json()
        assert [i["target"] for i in one["incidents"]] == ["alert:B"]
        assert (await office.call("GET", "/incidents?status=closed", "anna")).json()["incidents"] == []


async def test_an_incident_is_shown_with_its_journal(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.post(notification(alert()))
        incident = office.turns[0].incident
        whole = (await office.call("GET", f"/incidents/{incident.id[:5]}", "anna")).json()
        assert whole["id"] == incident.id
        kinds = [e["kind"] for e in whole["events"]]
        assert kinds[:3] == ["opened", "alert_fired", "run_started"]
        fired = whole["events"][1]
        assert fired["text"] == "story/alert_fired.txt.j2"
        assert fired["fact"]["starts_at"] == "2027-01-15T08:00:00Z"
        assert [r["phase"] for r in whole["runs"]] == ["acting"]
        assert whole["agenda"]
        assert all(due["at"].endswith("Z") for due in whole["agenda"])
        later = (await office.call("GET", f"/incidents/{incident.id}?after=2", "anna")).json()
        assert later["events"][0]["seq"] == 3


async def test_the_status_says_what_everything_waits_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.post(notification(alert("CacheDown")))
        await office.post(notification(alert()))
        await office.run_on(Outcome.UNKNOWN)
        await office.call("POST", "/pause", "otto", {"reason": "maintenance"})
        status = (await office.call("GET", "/status", "anna")).json()
        waits = {i["target"]: i["waits_for"] for i in status["incidents"]}
        assert waits["cache"] == "a person to do step look"
        assert status["pause"]["reason"] == "maintenance"
        assert [lock["target"] for lock in status["locks"]] == ["risk-api/kelly_fraction"]
        assert status["rules"] == {"hash": "rules-1", "runbooks": 3}


@pytest.mark.parametrize(
    "path",
    ["?limit=0", "?limit=x", "?limit=9999", "?status=odd", "?target=%00", "?before=%00", "/x?after=y"],
)
async def test_a_bad_question_is_400_and_says_why(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as office:
        await office.post(notification(alert()))
        known = f"/incidents{path}".replace("/x?", f"/{office.turns[0].incident.id}?")
        answer = await office.call("GET", known, "anna")
        assert answer.status_code == 400
        assert answer.json()["error"]


@pytest.mark.parametrize("path", ["/incidents/nothere", "/incidents/%00", "/incidents/a%20b", "/nowhere"])
async def test_what_is_not_there_is_404(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as office:
        assert (await office.call("GET", path, "anna")).status_code == 404


@pytest.mark.parametrize(("by", "status"), [(None, 401), ("nobody", 403), ("rita", 200)])
async def test_reading_needs_any_credential_where_people_are_configured(
    tmp_path: Path, by: str | None, status: int
) -> None:
    async with serving(tmp_path) as office:
        for path in ("/incidents", "/status"):
            assert (await office.call("GET", path, by)).status_code == status


async def test_without_configured_people_all_may_read_and_the_local_operator_may_change(tmp_path: Path) -> None:
    async with serving(tmp_path, nobody=True) as office:
        assert (await office.call("GET", "/status")).status_code == 200
        assert (await office.call("POST", "/pause", None, {"reason": "x"})).status_code == 401
        assert (await office.call("POST", "/pause", "local", {"reason": "x"})).json()["pause"]["actor"] == "local"


# --- the API: changing ------------------------------------------------------------------------------------------------


async def opened(office: Office, name: str = "VaRBreach") -> str:
    await office.post(notification(alert(name)))
    return office.turns[-1].incident.id


async def test_an_acknowledgement_is_recorded_with_its_person(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        incident = await opened(office)
        answer = await office.call("POST", f"/incidents/{incident[:6]}/ack", "anna", {"note": "on it"})
        assert answer.json()["incident"]["acknowledged_by"] == "anna"
        event = (await office.store.events(incident))[-1]
        assert (event.actor, event.fact) == ("anna", f.Acknowledged(note="on it"))
        assert office.turns[-1].incident.acknowledged is not None


async def test_a_manual_step_is_done_and_a_second_time_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        incident = await opened(office, "CacheDown")
        assert (await office.call("POST", f"/incidents/{incident}/done", "anna", {"step": "look"})).status_code == 200
        again = await office.call("POST", f"/incidents/{incident}/done", "anna")
        assert again.status_code == 409
        assert "waits for no manual step" in again.json()["error"]


async def test_an_unknown_change_is_settled_by_an_operator(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        incident = await opened(office)
        await office.run_on(Outcome.UNKNOWN)
        path, body = f"/incidents/{incident}/settle", {"applied": True, "reason": "seen in the risk API"}
        assert (await office.call("POST", path, "anna", body)).status_code == 403
        assert (await office.call("POST", path, "otto", {"reason": "no answer"})).status_code == 409
        assert (await office.call("POST", path, "otto", body)).status_code == 200
        settled = [e.fact for e in await office.store.events(incident) if isinstance(e.fact, f.Settled)]
        assert [s.reason for s in settled] == ["seen in the risk API"]


async def test_a_change_is_put_back_only_by_the_role_that_its_step_names(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        incident = await opened(office)
        await office.run_on(Outcome.OK)
        path = f"/incidents/{incident}/restore"
        for person in ("anna", "otto"):
            refused = await office.call("POST", path, person)
            assert refused.status_code == 403
            assert "risk-manager" in refused.json()["error"]
        assert (await office.call("POST", path, "rita")).status_code == 200
        events = await office.store.events(incident)
        assert any(isinstance(e.fact, f.RunStarted) and e.actor == "rita" for e in events)


async def test_without_a_change_in_force_there_is_nothing_to_put_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        incident = await opened(office)
        assert (await office.call("POST", f"/incidents/{incident}/restore", "rita")).status_code == 403
        assert (await office.call("POST", f"/incidents/{incident}/restore", "otto")).status_code == 409


@pytest.mark.parametrize("verb", ["ack", "takeover", "done", "settle", "unlock", "restore"])
@pytest.mark.parametrize(("by", "status"), [(None, 401), ("nobody", 403), ("rita", 403)])
async def test_no_verb_without_a_credential_and_its_role(
    tmp_path: Path, verb: str, by: str | None, status: int
) -> None:
    async with serving(tmp_path) as office:
        incident = await opened(office)
        before = await office.store.events(incident)
        assert (await office.call("POST", f"/incidents/{incident}/{verb}", by)).status_code == status
        assert await office.store.events(incident) == before


async def test_an_unknown_verb_is_told_which_there_are(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        answer = await office.call("POST", "/incidents/x/explode", "otto")
        assert answer.status_code == 404
        assert "takeover" in answer.json()["error"]
        assert (await office.call("GET", "/incidents/x/ack", "otto")).status_code == 405


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"note": 1}', b'{"other": "x"}', b'{"note": "\\u0000"}', b'{"applied": "maybe"}', b"\xff",
             b'{"note": "' + b"x" * 5000 + b'"}'],
)  # fmt: skip
async def test_a_bad_body_is_400_and_never_repeated(tmp_path: Path, body: bytes) -> None:
    async with serving(tmp_path) as office:
        incident = await opened(office)
        headers = {"authorization": "Bearer otto-token"}
        answer = await office.client.post(f"/api/v1/incidents/{incident}/ack", content=body, headers=headers)
        assert answer.status_code == 400
        assert "maybe" not in answer.json()["error"]


async def test_pause_and_resume(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        assert (await office.call("POST", "/pause", "anna", {"reason": "x"})).status_code == 403
        assert (await office.call("POST", "/pause", "otto")).status_code == 400
        paused = (await office.call("POST", "/pause", "otto", {"reason": "maintenance"})).json()["pause"]
        assert paused == {"paused": True, "actor": "otto", "at": "2027-01-15T08:00:00Z", "reason": "maintenance"}
        assert (await office.call("POST", "/resume", "otto")).json()["pause"]["paused"] is False
        assert (await office.call("GET", "/status", "anna")).json()["pause"] is None


# --- operations -------------------------------------------------------------------------------------------------------


async def test_healthy_and_ready(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        assert (await office.client.get("/-/healthy")).status_code == 200
        assert (await office.client.get("/-/ready")).status_code == 200
        office.unready.append("the timers have stopped")
        answer = await office.client.get("/-/ready")
        assert (answer.status_code, answer.text) == (503, "the timers have stopped\n")


async def test_a_reload_needs_an_operator_and_tells_every_problem(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        otto, anna = ({"authorization": f"Bearer {n}-token"} for n in ("otto", "anna"))
        assert (await office.client.post("/-/reload")).status_code == 401
        assert (await office.client.post("/-/reload", headers=anna)).status_code == 403
        assert (await office.client.post("/-/reload", headers=otto)).text == "2 runbooks, nothing changed\n"
        office.reload_error = BadRules(["a.yaml:1: bad", "b.yaml:2: worse"])
        answer = await office.client.post("/-/reload", headers=otto)
        assert answer.status_code == 400
        assert "a.yaml:1: bad\nb.yaml:2: worse\n" in answer.text


async def test_the_metrics_page_tells_how_late_the_work_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await opened(office)
        office.time += MINUTE
        page = await office.client.get("/metrics")
        assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'responder_webhook_requests_total{code="200"} 1.0' in page.text
        assert office.count("responder_messages_lateness_seconds") == 60
        assert office.count("responder_store_up") == 1
        assert office.count("responder_incidents_open") == 1


async def test_a_failure_that_nobody_foresaw_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        office.reload_error = ZeroDivisionError("a mistake")
        answer = await office.client.post("/-/reload", headers={"authorization": "Bearer otto-token"})
        assert answer.status_code == 500
        assert "ZeroDivisionError" in answer.json()["error"]


# --- what stands beside -----------------------------------------------------------------------------------------------


def test_every_number_of_a_fact_is_a_time_a_duration_or_a_count() -> None:
    """A new field in microseconds must be named in `TIMES` or `DURATIONS`, or the API would show it raw."""
    counts = {"run", "number", "round", "index", "epoch", "count"}
    found, waiting = set(), [*get_args(get_args(f.Fact)[0]), Lock, Pause, InForce]
    seen: set[type[Recorded]] = set()
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, info in model.model_fields.items():
            kinds = (info.annotation, *get_args(info.annotation))
            found |= {name} if int in kinds and str not in kinds else set()
            waiting += [k for k in kinds if isinstance(k, type) and issubclass(k, Recorded)]
    assert found == counts | TIMES | DURATIONS


def test_the_local_operator_has_a_file_that_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "operator.token"
    first, again = local_operator(path), local_operator(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.tokens[0].reveal() == again.tokens[0].reveal() == path.read_text().strip()
    assert len(first.tokens[0].reveal()) >= 32
    assert first.person.may({"risk-manager"})
    path.chmod(0o644)
    with pytest.raises(BadConfig, match="chmod 600"):
        local_operator(path)
