"""A storm is of one env: staging's wakes nobody of production and holds none of its runs back (docs/adr/0034)."""

from __future__ import annotations

from responder.automation import Automation
from responder.incident import Incident
from responder.scopes import ENVS_KEPT
from tests.acceptance.stage import RISK, Stage, own, playing, risky
from tests.builders import a_runbook, an_alert, call_step

NO_RUN = a_runbook(steps=[], mode="observe", verify=None)
LIMIT = {"incidents": 5, "within": "5m"}


def breaks_out(stage: Stage, env: str, count: int, begin: int = 0, severity: str = "critical") -> None:
    for number in range(begin, begin + count):
        stage.fires(an_alert(alertname=f"Alert{number}", env=env, symbol="", severity=severity))


def storms(stage: Stage) -> dict[str, Incident]:
    return {i.target: i for i in stage.incidents() if i.target.startswith("storm:")}


def paged_for(stage: Stage) -> list[str]:
    """The targets of the incidents that woke somebody."""
    return [s.message.incident.target for s in stage.sent if s.message.kind == "page" and s.destination == "first"]


# --- people -----------------------------------------------------------------------------------------------------------


def test_each_env_of_one_policy_has_its_own_storm_and_its_own_page() -> None:
    with playing(own(NO_RUN, storm=LIMIT)) as stage:
        breaks_out(stage, "staging", 20)
        breaks_out(stage, "prod", 1)
        stage.at("3:00")
        assert set(storms(stage)) == {"storm:ladder:staging"}
        prod = next(i for i in stage.incidents() if i.labels.get("env") == "prod")
        assert prod.storm is None
        assert prod.target in paged_for(stage), "production's first incident is no part of staging's storm"
        breaks_out(stage, "prod", 9, begin=1)
        stage.at("10:00")
        found = storms(stage)
        assert {target: (s.members, s.labels) for target, s in found.items()} == {
            "storm:ladder:staging": (16, {"env": "staging"}),
            "storm:ladder:prod": (6, {"env": "prod"}),
        }
        assert found["storm:ladder:prod"].title == "Many incidents at once: ladder, env prod"
        assert len(paged_for(stage)) == 4 + 1 + 4 + 1


def test_what_says_no_env_is_a_storm_of_its_own() -> None:
    with playing(own(NO_RUN, storm=LIMIT)) as stage:
        breaks_out(stage, "staging", 4)
        breaks_out(stage, "", 4)
        stage.at("1:00")
        assert storms(stage) == {}
        breaks_out(stage, "", 1, begin=4)
        stage.at("2:00")
        assert set(storms(stage)) == {"storm:ladder"}


def test_envs_that_never_end_are_counted_together_and_do_not_drive_production_out() -> None:
    with playing(own(NO_RUN, storm=LIMIT)) as stage:
        breaks_out(stage, "prod", 4)
        for number in range(40):
            breaks_out(stage, f"pr-{number}", 1)
        breaks_out(stage, "prod", 1, begin=4)
        stage.at("3:00")
        assert set(storms(stage)) == {"storm:ladder", "storm:ladder:prod"}
        body = stage.scope("storm:ladder")
        assert body is not None
        assert len(body["envs"]) == ENVS_KEPT
        stage.at("20:00")
        breaks_out(stage, "prod", 1, begin=5)
        again = stage.scope("storm:ladder")
        assert again is not None
        assert set(again["envs"]) == {"prod"}, "what is over is forgotten"


# --- automation -------------------------------------------------------------------------------------------------------


def test_a_storm_of_staging_holds_no_run_of_production_back() -> None:
    each = a_runbook(
        inputs={"symbol": {"label": "symbol", "pattern": "[A-Z]+"}, "env": {"label": "env", "pattern": "[a-z]+"}},
        target="risk-api/{{ env }}/{{ symbol }}",
        steps=[call_step(path="/api/{{ env }}/{{ symbol }}")],
        verify=None,
    )
    rules, config = own(each)
    storm = Automation.model_validate({"storm": {"incidents": 3, "within": "5m", "calm": "5m"}})
    with playing((rules, config.model_copy(update={"automation": storm}))) as stage:
        risky(stage)
        for symbol in "ABCD":
            stage.fires({**RISK, "env": "staging", "symbol": symbol})
        stage.fires({**RISK, "env": "prod", "symbol": "E"})
        stage.at("1:00")
        assert [path for _, path in stage.did] == ["/api/staging/A", "/api/staging/B", "/api/prod/E"]
        assert any("3 incidents or more of env staging began within 5m" in line for line in stage.thread)
        stage.at("11:00")
        assert {path for _, path in stage.did[3:]} == {"/api/staging/C", "/api/staging/D"}
