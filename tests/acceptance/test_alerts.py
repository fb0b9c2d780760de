"""What alerts do to incidents: joining, ending, coming back, and what no runbook answers."""

from __future__ import annotations

import json
from dataclasses import replace

from responder.recorded import Result
from tests.acceptance.stage import RISK, own, playing, risky
from tests.builders import a_runbook, an_alert, call_step, cut_step

MANY = a_runbook(
    inputs={"symbol": {"label": "symbol", "type": "currency_pair"}},
    verify={"check": "risk", "expect": "value < 1", "within": "2m", "hold": "30s"},
)


def symbol(name: str) -> dict[str, str]:
    return an_alert(alertname="TooMuchRisk", symbol=name)


def test_an_alert_that_resolves_before_the_change_cancels_it() -> None:
    with playing(own(a_runbook(steps=[{"id": "look", "manual": "Look at the book"}, cut_step()]))) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.resolves(RISK)
        stage.world.numbers["risk"] = lambda: 0.5
        stage.at("2:00")
        assert stage.last_run.result is Result.CANCELLED
        assert stage.world.changes == []
        assert stage.incident.closed
        assert stage.pages == []


def test_resolved_without_evidence_is_not_over() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage, helps=False)
        stage.fires(RISK)
        stage.at("1:00")
        stage.world.dark = True
        stage.resolves(RISK)
        stage.at("10:00")
        assert not stage.incident.closed
        assert [to for _, to in stage.pages] == ["first"]
        stage.world.dark = False
        risky(stage)
        stage.at("11:00")
        assert stage.incident.closed


def test_a_newcomer_during_verification_must_be_verified_too() -> None:
    with playing(own(MANY)) as stage:
        risky(stage)
        stage.fires(symbol("BTC-USD"))
        stage.at("0:20")
        stage.fires(symbol("ETH-USD"))
        stage.at("0:45")
        assert stage.last_run.active
        stage.at("0:56")
        assert stage.incident.result is Result.FIXED
        assert stage.did == [("0:00", "/api/risk/emergency-reduce")]


def test_what_comes_back_after_a_fix_starts_the_clock_and_a_new_run() -> None:
    steps = [call_step()]
    again = a_runbook(steps=steps, unless_fixed={"5m": {"page": "boss"}})
    with playing(own(again)) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("0:01")
        assert stage.incident.result is Result.FIXED
        stage.at("10:00")
        stage.world.numbers["risk"] = lambda: 2.0
        stage.at("10:31")
        assert stage.told("relapsed") == ["10:00"] or stage.told("relapsed") == ["10:30"]
        assert len(stage.incident.runs) == 2
        assert len(stage.did) == 2
        assert stage.pages == []
        stage.at("16:00")
        assert "boss" in [to for _, to in stage.pages]


def test_one_that_joins_after_a_fix_is_looked_at_and_nothing_is_done_when_the_check_holds() -> None:
    with playing(own(MANY)) as stage:
        risky(stage)
        stage.fires(symbol("BTC-USD"))
        stage.at("1:00")
        assert stage.incident.result is Result.FIXED
        stage.fires(symbol("ETH-USD"))
        stage.at("5:00")
        assert len(stage.incident.runs) == 1
        stage.resolves(symbol("BTC-USD"))
        assert not stage.incident.closed
        stage.resolves(symbol("ETH-USD"))
        assert stage.incident.closed


def test_one_that_joins_after_an_ineffective_run_starts_another() -> None:
    with playing(own(MANY)) as stage:
        risky(stage, helps=False)
        stage.fires(symbol("BTC-USD"))
        stage.at("3:00")
        assert stage.incident.result is Result.INEFFECTIVE
        stage.fires(symbol("ETH-USD"))
        assert [run.cause.value for run in stage.incident.runs] == ["alert", "relapse"]


def test_told_again_and_again_it_is_one_run() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        for _ in range(5):
            stage.fires(RISK)
            stage.after("1m")
        assert len(stage.incident.runs) == 1
        assert len(stage.did) == 1


def test_a_closed_incident_that_fires_again_is_a_new_one() -> None:
    with playing(own(a_runbook())) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.at("1:00")
        stage.resolves(RISK)
        stage.at("5:00")
        stage.fires(RISK)
        assert len(stage.incidents()) == 2


def test_without_a_runbook_its_severity_says_how_urgent_it_is() -> None:
    with playing(own(a_runbook())) as stage:
        stage.fires(an_alert(alertname="Other", severity="info"))
        stage.at("1:59")
        assert stage.pages == []
        stage.at("2:01")
        assert stage.pages == [("2:00", "first")]
        assert any("no runbook matches" in line for line in stage.thread)


def test_without_runbook_and_severity_it_pages_at_once() -> None:
    with playing(own(a_runbook())) as stage:
        stage.fires(an_alert(alertname="Other", severity=""))
        assert stage.pages == [("0:00", "first")]


def test_without_a_runbook_it_closes_when_it_resolves() -> None:
    with playing(own(a_runbook())) as stage:
        stage.fires(an_alert(alertname="Other"))
        stage.at("1:00")
        stage.resolves(an_alert(alertname="Other"))
        assert stage.incident.closed
        stage.at("1:00:00")
        assert stage.pages == []


def test_two_runbooks_that_match_both_stay_and_people_come() -> None:
    one, config = own(a_runbook(runbook="one"))
    other, _ = own(a_runbook(runbook="other"))
    both = replace(one, runbooks={**one.runbooks, **other.runbooks})  # the loader refuses what it can prove
    with playing((both, config)) as stage:
        risky(stage)
        stage.fires(symbol("BTC-USD"))
        stage.at("1:00")
        assert stage.world.changes == []
        assert stage.pages == [("0:00", "first")]
        assert stage.incident.runbook is None
        assert "one, other" in stage.incident.problems[0]


def test_a_bad_input_in_the_target_pages_and_nothing_is_done() -> None:
    each = a_runbook(
        inputs={"symbol": {"label": "symbol", "type": "currency_pair"}},
        target="risk-api/limit/{{ symbol }}",
        steps=[call_step()],
    )
    with playing(own(each)) as stage:
        risky(stage)
        stage.fires(symbol("../../etc"))
        stage.at("1:00")
        assert stage.incident.runs == ()
        assert stage.world.changes == []
        assert stage.pages == [("0:00", "first")]
        stage.resolves(symbol("../../etc"))
        assert stage.incident.closed


def test_a_bad_input_for_evidence_pages_and_the_run_goes_on() -> None:
    read = {"action": "prometheus.query", "with": {"service": "metrics", "query": 'x{symbol="{{ symbol }}"}'}}
    with playing(own({**MANY, "evidence": [{"each": "symbol", "title": "x", **read}]})) as stage:
        risky(stage)
        stage.fires(symbol("not a pair"))
        stage.at("1:00")
        assert stage.did == [("0:00", "/api/risk/emergency-reduce")]
        assert stage.pages == [("0:00", "first")]
        assert stage.incident.result is Result.FIXED


def test_a_replay_never_acts_and_never_pages() -> None:
    with playing(own(a_runbook(brake=True))) as stage:
        risky(stage, helps=False)
        stage.fires(RISK, namespace="replay-1")
        stage.at("1:00:00")
        assert stage.last_run.result is Result.OBSERVED
        assert stage.world.changes == []
        assert [s for s in stage.sent if s.destination != "console"] == []
        stage.fires(RISK)
        assert len(stage.incidents()) == 2, "the real one does not join it"


def test_a_body_that_nobody_understands_pages_until_somebody_has_seen_it() -> None:
    with playing(own(a_runbook())) as stage:
        stage.post(b"{not json")
        assert stage.pages == [("0:00", "first")]
        assert stage.incident.target == "responder:unreadable"
        stage.post(b"[]")
        assert len(stage.incident.problems) == 2
        stage.at("1:00")
        stage.person("ack", "alice")
        assert stage.incident.closed


def test_a_bad_alert_in_a_batch_does_not_stop_the_others() -> None:
    good = {"status": "firing", "labels": RISK, "startsAt": "2026-11-20T17:00:00Z"}
    body = json.dumps({"version": "4", "alerts": [{"status": "firing", "labels": "none"}, good]}).encode()
    with playing(own(a_runbook())) as stage:
        risky(stage)
        stage.post(body)
        assert {i.runbook for i in stage.incidents()} == {"cut", None}
        assert stage.did == [("0:00", "/api/risk/emergency-reduce")]
        assert [to for _, to in stage.pages] == ["first"]


def test_a_run_keeps_its_rules_through_a_reload_and_a_restart() -> None:
    before = own(a_runbook(steps=[{"id": "look", "manual": "Look"}, call_step(path="/api/old")]))
    after = own(a_runbook(steps=[{"id": "look", "manual": "Look"}, call_step(path="/api/new")]))
    with playing(before) as stage:
        risky(stage)
        stage.fires(RISK)
        stage.reload(after[0])
        stage.at("1:00")
        stage.restart()
        stage.person("done", "alice", "seen")
        assert stage.did == [("1:00", "/api/old")]
        stage.at("2:00")
        stage.resolves(RISK)
        stage.at("20:00")
        stage.fires(RISK)
        stage.person("done", "alice")
        assert stage.did[-1] == ("20:00", "/api/new")
