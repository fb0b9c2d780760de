"""The webhook over a real store: what it answers, and what is stored by then."""

import asyncio
import json
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder.ingest import UNREADABLE
from responder.timing import MINUTE
from responder.web.bodies import LARGE, packed, unpacked
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


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_other_methods_are_told_what_to_do(tmp_path: Path, method: str) -> None:
    """A followed redirect arrives as a GET; a 200 to it would count as delivered (contracts.md A2)."""
    async with serving(tmp_path, webhook=["hook"]) as office:
        answer = await office.client.request(method, HOOK)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST, PUT")
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
        told, unfetched = await office.store.dead_letters()
        assert told.body == b""
        assert told.reason.startswith("413")
        assert "no Alertmanager is configured" in unfetched.reason
        office.time += QUIET
        assert (await send(office, 80 * 1024)).status_code == 413
        assert len(await office.store.dead_letters()) == 4
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


async def test_what_fires_for_us_is_fetched_when_a_body_was_too_large(tmp_path: Path) -> None:
    groups = [group(alert(symbol="A"), alert(symbol="B")), group(alert("Other"), receiver="pager")]
    async with serving(tmp_path, FakeAlertmanager(groups=groups), limits={"body_bytes": 65_536}) as office:
        await office.post(notification(alert("Known")))
        assert (await announced(office, 80 * 1024)).status_code == 413
        fired = {e.labels["alertname"] for row in await office.store.incidents() for e in row.fold.firing}
        assert fired == {"Known", "VaRBreach"}, "groups of other receivers are not ours to answer"
        assert len(await office.store.dead_letters()) == 1


async def test_a_fetched_alert_that_cannot_be_stored_is_set_aside_like_any_other(tmp_path: Path) -> None:
    groups = [group(alert(symbol="A"), alert(symbol="\0"), {"labels": {}})]
    async with serving(tmp_path, FakeAlertmanager(groups=groups)) as office:
        answer = await office.post(notification(alert(symbol="B"), truncatedAlerts=2))
        assert answer.json()["fired"] == 2
        reasons = sorted(letter.reason for letter in await office.store.dead_letters())
        assert ["labels" in reason or "label " in reason for reason in reasons] == [True, True]


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
