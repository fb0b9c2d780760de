"""The API and the operations pages over a real store: who may do what, and what is told."""

from pathlib import Path
from typing import get_args

import pytest

from responder import facts as f
from responder.errors import BadConfig, BadRules
from responder.recorded import Answer, Outcome, Recorded, Result, Verdict
from responder.scopes import InForce, Lock, Pause
from responder.security import local_operator
from responder.timing import HOUR, MINUTE, SECOND
from responder.web.shapes import DURATIONS, TIMES, overrides
from tests.builders import T0, ended, intended, started, told
from tests.builders import opened as begun
from tests.contract.web_parts import Office, alert, notification, serving

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


def test_an_override_is_shown_until_its_time_is_over_and_what_began_in_it_has_ended() -> None:
    said = f.CalendarOverridden(runbook="cut", until=T0 + MINUTE, hours="shut", note="agreed with the desk")
    passed = Verdict(gate="calendar", answer=Answer.ALLOW, reason="olga lets it", override=True)
    lets = (begun(), started(), said)
    used = (*lets, intended(verdicts=(passed,)), ended(Outcome.OK))
    over = f.RunEnded(run=1, result=Result.FIXED, why="")

    def shown(*facts: f.Fact, at: int) -> list[bool]:
        return [one["finishing"] for one in overrides([told(*facts)], T0 + at)]

    assert shown(begun(), at=0) == []
    assert (shown(*lets, at=MINUTE - 1), shown(*lets, at=MINUTE)) == ([False], [])
    assert (shown(*used, at=MINUTE - 1), shown(*used, at=MINUTE)) == ([False], [True])
    assert shown(*used, f.Verifying(run=1), at=HOUR) == [True]
    assert (shown(*used, over, at=MINUTE - 1), shown(*used, over, at=MINUTE)) == ([False], [])
    assert shown(*used, over, started(number=2), at=MINUTE) == [], "another run does not act by it"


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


@pytest.mark.parametrize("verb", ["ack", "takeover", "done", "override", "settle", "unlock", "restore"])
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
        known = {"paused": True, "actor": "otto", "at": "2027-01-15T08:00:00Z", "reason": "maintenance"}
        assert paused == {**known, "until": None}
        assert (await office.call("POST", "/resume", "otto")).json()["pause"]["paused"] is False
        assert (await office.call("GET", "/status", "anna")).json()["pause"] is None


async def test_one_runbook_or_service_is_paused_for_a_while(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        said = {"reason": "odd", "runbook": "cut", "lasts": 3600}
        paused = (await office.call("POST", "/pause", "otto", said)).json()["pause"]
        assert (paused["paused"], paused["until"]) == (True, "2027-01-15T09:00:00Z")
        status = (await office.call("GET", "/status", "anna")).json()
        assert status["pause"] is None
        assert [(one["what"], one["reason"]) for one in status["paused"]] == [("runbook cut", "odd")]
        await office.call("POST", "/resume", "otto", {"runbook": "cut"})
        assert (await office.call("GET", "/status", "anna")).json()["paused"] == []


async def test_a_pause_that_has_run_out_is_no_pause_to_the_next_shift(tmp_path: Path) -> None:
    async with serving(tmp_path) as office:
        await office.call("POST", "/pause", "otto", {"reason": "odd", "lasts": 3600})
        assert (await office.call("GET", "/handover", "anna")).json()["pause"]["reason"] == "odd"
        office.time += 3600 * SECOND
        assert (await office.call("GET", "/handover", "anna")).json()["pause"] is None
        assert (await office.call("GET", "/status", "anna")).json()["pause"] is None


@pytest.mark.parametrize(
    ("said", "status", "told"),
    [
        ({"runbook": "cutt"}, 404, "there is no runbook 'cutt'; there are"),
        ({"service": "nowhere"}, 404, "there is no service 'nowhere'"),
        ({"runbook": "cut", "service": "x"}, 400, "a runbook or a service, not both"),
    ],
)
async def test_a_pause_of_nothing_is_refused(tmp_path: Path, said: dict[str, str], status: int, told: str) -> None:
    async with serving(tmp_path) as office:
        answer = await office.call("POST", "/pause", "otto", {"reason": "x", **said})
        assert answer.status_code == status
        assert told in answer.json()["error"]


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
    counts = {"run", "number", "round", "index", "epoch", "count", "people", "asked", "tried", "of"}
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
