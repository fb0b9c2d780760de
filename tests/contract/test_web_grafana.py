"""Grafana at the webhook over a real store: what it posts, how it signs, and that an Alertmanager is not asked."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from responder import config
from responder.ingest import UNREADABLE
from responder.timing import MINUTE, SECOND
from tests.contract.web_parts import HOOK, START, FakeAlertmanager, Office, alert, notification, secret, serving

PAYLOADS = Path(__file__).parents[1] / "unit" / "payloads"
SIGNATURE = "X-Grafana-Alerting-Signature"
TIME = "X-Grafana-Alerting-Timestamp"
BODY = (PAYLOADS / "grafana-12.json").read_bytes()

PLAIN = config.Credential(hmac=config.Hmac(secret=secret("key")))
STAMPED = config.Credential(hmac=config.Hmac(secret=secret("key"), timestamp_header=TIME))
NAMED = config.Credential(hmac=config.Hmac(secret=secret("next"), header="X-Signed-By"))


def signed(*parts: bytes, key: str = "key") -> str:
    return hmac.new(key.encode(), b"".join(parts), hashlib.sha256).hexdigest()


def stamped(body: bytes, at: int) -> dict[str, str]:
    """The headers of a body that was signed at a time (µs)."""
    seconds = str(at // SECOND)
    return {SIGNATURE: signed(f"{seconds}:".encode(), body), TIME: seconds}


def grafana(*alerts: Any, **changes: Any) -> Any:
    """The same as Grafana writes it: another version, and fields of its own."""
    more = {"orgId": 1, "state": "alerting", "title": "[FIRING:1]", "message": "", "receiver": "risk"}
    links = {"silenceURL": "", "dashboardURL": "https://grafana/d/risk", "panelURL": "", "values": None}
    return notification(*({**a, **links} for a in alerts), **{**more, "version": "1", **changes})


async def sources(office: Office) -> list[tuple[str, str]]:
    return [(row.source, row.receiver) for row in await office.store.notifications(0, office.time + 1, 100)]


# --- taking in --------------------------------------------------------------------------------------------------------


async def test_a_mixed_notification_fires_and_resolves(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        firing = json.loads(BODY)
        for entry in firing["alerts"]:
            entry |= {"status": "firing", "endsAt": "0001-01-01T00:00:00Z"}
        assert (await office.post(firing)).json()["fired"] == 2
        answer = (await office.post(BODY)).json()
        assert (answer["alerts"], answer["repeated"], answer["resolved"]) == (2, 1, 1)
        (row,) = await office.store.incidents()
        assert [e.labels["symbol"] for e in row.fold.firing] == ["BTC-USD"]
        assert row.fold.links["runbook"] == "https://wiki.risk.example/var"
        assert row.fold.links["dashboard"].startswith("https://grafana.risk.example/d/risk-desk/risk")


async def test_it_is_stored_as_grafanas_and_its_contact_point_is_no_receiver_of_alertmanager(tmp_path: Path) -> None:
    """Or a receiver of that name would be taken for us, and what fires for others be fetched (design 5.1)."""
    async with serving(tmp_path) as office:
        await office.post(BODY)
        await office.post(notification(alert()))
        assert sorted(await sources(office)) == [("alertmanager 127.0.0.1", "team.risk"), ("grafana 127.0.0.1", "")]


async def test_alerts_about_its_sources_open_incidents(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        answer = (await office.post((PAYLOADS / "grafana-9-no-data.json").read_bytes())).json()
        assert (answer["fired"], answer["unreadable"]) == (2, 0)
        names = {e.labels["alertname"] for row in await office.store.incidents() for e in row.fold.firing}
        assert names == {"DatasourceNoData", "DatasourceError"}


async def test_put_is_taken_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        assert (await office.client.put(HOOK, content=BODY)).json()["fired"] == 1


async def test_a_get_is_told_that_it_brings_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, webhook=[PLAIN]) as office:
        answer = await office.client.get(HOOK, headers={SIGNATURE: signed()})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST, PUT")
        assert "contact point with the method POST: other methods bring no body" in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b'{"text": "by a template"}', b"[FIRING:1] VaRBreach"])
async def test_a_custom_payload_is_a_dead_letter(tmp_path: Path, body: bytes) -> None:
    async with serving(tmp_path, webhook=[PLAIN]) as office:
        answer = await office.post(body, **{SIGNATURE: signed(body)})
        assert answer.status_code == 200
        (letter,) = await office.store.dead_letters()
        assert letter.body == body
        assert [row.fold.target for row in await office.store.incidents()] == [UNREADABLE.target]


async def test_after_a_restart_an_older_start_fires_whatever_alertmanager_says(tmp_path: Path) -> None:
    """Grafana comes back with the start that it had; an Alertmanager that never heard of the alert cannot end it."""
    begun, manager = START - 10 * MINUTE, FakeAlertmanager()
    async with serving(tmp_path, manager) as office:
        await office.post(grafana(alert(starts=begun)))
        await office.post(grafana(alert(firing=False, starts=begun, ends=START - MINUTE)))
        answer = (await office.post(grafana(alert(starts=begun)))).json()
        assert (answer["fired"], answer["repeated"]) == (1, 0)
        assert manager.asked == []


async def test_a_resolve_that_comes_first_is_no_mistake(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        assert (await office.post(grafana(alert(firing=False, ends=START)))).json()["repeated"] == 1
        assert (await office.post(grafana(alert()))).json()["fired"] == 1


async def test_people_are_told_of_truncated_alerts_and_no_alertmanager_is_asked(tmp_path: Path) -> None:
    manager = FakeAlertmanager(groups=[{"labels": {"alertname": "VaRBreach"}, "receiver": {"name": "risk"}}])
    async with serving(tmp_path, manager) as office:
        await office.post(grafana(alert(), truncatedAlerts=3))
        await office.post(grafana(alert(), truncatedAlerts=3))
        (letter,) = await office.store.dead_letters()
        assert "3 alerts" in letter.reason
        assert "Max Alerts to 0" in letter.reason
        assert letter.source == "grafana 127.0.0.1"
        assert manager.asked == []
        await office.post(notification(alert(), truncatedAlerts=1))
        assert len(await office.store.dead_letters()) == 2, "an equal group of Alertmanager is another group"


# --- signatures -------------------------------------------------------------------------------------------------------


async def refused(office: Office, answer: httpx.Response, status: int, reason: str) -> str:
    """Nothing is kept of whom nobody knows; it is counted, and nobody is paged."""
    assert answer.status_code == status
    assert await office.store.incidents() == []
    assert await office.store.dead_letters() == []
    assert office.count("responder_credentials_refused_total", door="webhook", reason=reason) == 1
    assert office.count("responder_webhook_requests_total", code=str(status)) == 1
    return str(answer.json()["error"])


@pytest.mark.parametrize("header", [SIGNATURE, "X-Grafana-Alert-Signature"])
async def test_a_right_signature_comes_in(tmp_path: Path, header: str) -> None:
    async with serving(tmp_path, webhook=[PLAIN]) as office:
        assert (await office.post(BODY, **{header: signed(BODY)})).json()["fired"] == 1


async def test_a_large_signed_body_comes_in(tmp_path: Path) -> None:
    body = json.dumps(grafana(*(alert(symbol=f"S{i}", pad="x" * 1000) for i in range(1200)))).encode()
    assert len(body) > 1_048_576
    async with serving(tmp_path, webhook=[PLAIN]) as office:
        assert (await office.post(body, **{SIGNATURE: signed(body)})).json()["fired"] == 1200


@pytest.mark.parametrize(
    "wrong", [signed(BODY, key="guess"), signed(BODY, b" "), "", signed(b"1800000000:", BODY), f"sha256={signed(BODY)}"]
)
async def test_a_wrong_signature_is_refused(tmp_path: Path, wrong: str) -> None:
    async with serving(tmp_path, webhook=[PLAIN]) as office:
        said = await refused(office, await office.post(BODY, **{SIGNATURE: wrong}), 401, "wrong")
        assert "wrong signature" in said
        assert "the secret must be equal here and there" in said


async def test_a_missing_signature_is_told_where_to_set_it(tmp_path: Path) -> None:
    async with serving(tmp_path, webhook=[PLAIN]) as office:
        said = await refused(office, await office.post(BODY), 401, "missing")
        assert "HMAC signature in header x-grafana-alerting-signature" in said


async def test_an_old_signature_is_refused_and_a_fresh_one_is_not(tmp_path: Path) -> None:
    async with serving(tmp_path, webhook=[STAMPED]) as office:
        headers = stamped(BODY, office.time)
        office.time += 5 * MINUTE + SECOND
        assert "set the clocks" in await refused(office, await office.post(BODY, **headers), 401, "wrong")
        assert (await office.post(BODY, **stamped(BODY, office.time))).json()["fired"] == 1


async def test_a_signature_without_its_time_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, webhook=[STAMPED]) as office:
        answer = await office.post(BODY, **{SIGNATURE: signed(BODY)})
        assert TIME.lower() in await refused(office, answer, 401, "wrong")


async def test_while_a_secret_is_rotated_both_are_right_and_so_is_alertmanagers_token(tmp_path: Path) -> None:
    async with serving(tmp_path, webhook=["hook", PLAIN, NAMED]) as office:
        assert (await office.post(BODY, **{SIGNATURE: signed(BODY)})).status_code == 200
        assert (await office.post(BODY, **{"X-Signed-By": signed(BODY, key="next")})).status_code == 200
        assert (await office.post(notification(alert()), authorization="Bearer hook")).status_code == 200
        assert (await office.post(BODY, **{SIGNATURE: signed(BODY, key="next")})).status_code == 401
        assert (await office.post(BODY, authorization="Bearer wrong")).status_code == 403


async def test_a_body_above_the_limit_pages_nobody_while_nobody_knows_whose_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path, webhook=[PLAIN], limits={"body_bytes": 65_536}) as office:
        answer = await office.post(b"x" * 80 * 1024, **{SIGNATURE: signed(b"guess")})
        assert answer.status_code == 413
        assert "raise limits.body_bytes" in answer.json()["error"]
        assert await office.store.dead_letters() == []
        assert office.emergencies == []
