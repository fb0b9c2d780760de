"""The series: there from the start, moved by events, none of them dead."""

import re

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from responder import facts as f
from responder import guards
from responder.alert import Limits, parse_notification
from responder.metrics import CODES, DENYING, WAITING, Metrics, Vocabulary
from responder.recorded import Answer, Cause, Effect, Mode, Outcome, Plan, Result, Verdict
from responder.timing import SECOND

WORDS = Vocabulary("1.2.3", ("http.request", "parameter.reduce"), {"risk-chat": "slack", "pager": "pagerduty"})
NOW = 1_800_000_000 * SECOND


def made() -> tuple[Metrics, CollectorRegistry]:
    registry = CollectorRegistry()
    return Metrics(registry, WORDS), registry


def event(fact: f.Fact) -> f.Event:
    return f.Event(id="e", incident="i", seq=1, at=NOW, actor="responder", fact=fact)


PLAN = Plan(params={}, preview="", effect=Effect.SET, prepared_at=NOW)
OPENED = f.Opened(
    id="i",
    runbook=None,
    rules_hash="h",
    policy="p",
    target="t",
    title="",
    severity="critical",
    mode=Mode.AUTO,
    labels={},
    inputs={},
)
STARTED = f.RunStarted(
    number=1, runbook="r", rules_hash="h", target="t", cause=Cause.ALERT, mode=Mode.AUTO, inputs={}, steps=()
)
INTENDED = f.AttemptIntended(
    run=1,
    step="cut",
    attempt="i.1.cut.1",
    number=1,
    action="http.request",
    plan=PLAN,
    key="k",
    deadline=NOW,
    epoch=1,
)


def verdict(gate: str, answer: Answer) -> Verdict:
    return Verdict(gate=gate, answer=answer, reason="")


FACTS: tuple[f.Fact, ...] = (
    OPENED,
    STARTED,
    INTENDED,
    f.AttemptEnded(attempt="i.1.cut.1", outcome=Outcome.OK),
    f.AttemptEnded(attempt="from before the restart", outcome=Outcome.UNKNOWN),
    f.RunEnded(run=1, result=Result.FIXED, why=""),
    f.Refused(run=1, step="cut", verdicts=(verdict("runs", Answer.DENY), verdict("pause", Answer.ALLOW))),
    f.Waiting(run=1, step="cut", verdicts=(verdict("pause", Answer.WAIT),), until=NOW),
    f.LevelReached(round=0, index=1, name="L2", page=("pager",), why=""),
    f.Paged(destination="pager", key="k", why=""),
    f.PageAccepted(destination="pager"),
    f.MessageDead(destination="risk-chat", lane="thread", error=""),
)

MOVED = {
    ("responder_incidents_opened_total", ("critical",)): 1,
    ("responder_incidents_open", ()): 1,
    ("responder_runs_started_total", ("alert",)): 1,
    ("responder_runs_ended_total", ("fixed",)): 1,
    ("responder_attempts_started_total", ("http.request",)): 1,
    ("responder_attempts_ended_total", ("http.request", "ok")): 1,
    ("responder_attempts_ended_total", ("other", "unknown")): 1,
    ("responder_gate_refusals_total", ("runs",)): 1,
    ("responder_gate_waits_total", ("pause",)): 1,
    ("responder_levels_reached_total", ("2",)): 1,
    ("responder_pages_total", ("pagerduty",)): 1,
    ("responder_pages_accepted_total", ("pagerduty",)): 1,
    ("responder_messages_dead_total", ("thread", "slack")): 1,
}


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (s.name, tuple(v for _, v in sorted(s.labels.items()))): s.value for family in families for s in family.samples
    }


def test_events_move_their_series_and_no_other() -> None:
    metrics, _ = made()
    before = samples(metrics)
    metrics.saw(map(event, FACTS))
    after = samples(metrics)
    assert {key: after[key] - before[key] for key in after if after[key] != before[key]} == MOVED


def test_no_series_appears_later() -> None:
    """A series that begins at 1 hides its first step from increase()."""
    metrics, _ = made()
    before = set(samples(metrics))
    metrics.saw(map(event, FACTS))
    metrics.answered(200)
    metrics.refused("api", "role")
    metrics.buried("truncated")
    assert set(samples(metrics)) == before


def test_closing_lowers_the_number_of_open_incidents() -> None:
    metrics, registry = made()
    metrics.open_incidents(7)
    metrics.saw([event(OPENED), event(f.Closed(why="")), event(f.Closed(why=""))])
    assert registry.get_sample_value("responder_incidents_open") == 6
    assert registry.get_sample_value("responder_incidents_closed_total") == 2


def test_an_unknown_action_severity_or_destination_makes_no_series() -> None:
    metrics, registry = made()
    stranger = INTENDED.model_copy(update={"action": "x" * 50})
    metrics.saw(
        [
            event(OPENED.model_copy(update={"severity": "catastrophic"})),
            event(stranger),
            event(f.Paged(destination="gone", key="", why="")),
        ]
    )
    assert registry.get_sample_value("responder_incidents_opened_total", {"severity": "other"}) == 1
    assert registry.get_sample_value("responder_attempts_started_total", {"action": "other"}) == 1
    assert registry.get_sample_value("responder_pages_total", {"notifier": "other"}) == 1


def test_what_a_notification_holds_is_counted() -> None:
    metrics, registry = made()
    body = b"""{"version": "4", "alerts": [{"status": "firing", "labels": {"a": "1"}}, {"labels": {}},
               {"status": "resolved", "labels": {"a": "2"}}, {"status": "firing", "labels": {"a": "3"}}]}"""
    metrics.received(parse_notification(body, Limits()))
    counted = {
        status: registry.get_sample_value("responder_alerts_received_total", {"status": status})
        for status in ("firing", "resolved", "unreadable")
    }
    assert counted == {"firing": 2, "resolved": 1, "unreadable": 1}
    assert registry.get_sample_value("responder_dead_letters_total", {"reason": "alert"}) == 1
    assert registry.get_sample_value("responder_notifications_received_total") == 1


def test_a_failed_reload_keeps_the_time_of_the_last_good_one() -> None:
    metrics, registry = made()
    metrics.reloaded(successful=True, now=NOW)
    metrics.reloaded(successful=False, now=NOW + SECOND)
    assert registry.get_sample_value("responder_config_last_reload_successful") == 0
    assert registry.get_sample_value("responder_config_last_reload_success_timestamp_seconds") == NOW / SECOND


def test_the_oldest_wait_is_asked_at_each_scrape() -> None:
    metrics, registry = made()
    waits = iter((0.5, 1.5))
    metrics.watch(lambda: next(waits))
    assert registry.get_sample_value("responder_store_oldest_wait_seconds") == 0.5
    assert registry.get_sample_value("responder_store_oldest_wait_seconds") == 1.5


def test_the_gates_are_those_that_can_answer_so() -> None:
    assert {*DENYING, *WAITING} == {gate.__name__ for gate in (*guards.LOCAL, *guards.INFORMED)}


def test_names_follow_the_practice() -> None:
    metrics, _ = made()
    for family in text_string_to_metric_families(metrics.text().decode()):
        assert re.fullmatch(r"responder_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        ending = {"counter": "", "histogram": "_seconds"}.get(family.type, "")
        assert family.name.endswith(ending)


def test_every_answer_of_the_webhook_has_a_series() -> None:
    metrics, registry = made()
    for code in CODES:
        metrics.answered(int(code))
        assert registry.get_sample_value("responder_webhook_requests_total", {"code": code}) == 1
