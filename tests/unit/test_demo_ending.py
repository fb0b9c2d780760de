"""When the demo counts as good: every promise of a scenario fails it by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder.demo.ending import HALT, PAUSE, REDUCE, RESET, Course, ended, findings, paged, times
from responder.demo.imagined import ON_CALL, RISK_MANAGER, Wished
from responder.demo.observer import Call, Seen, news
from responder.demo.scenario import Scenario
from responder.timing import parse_time

BROKE = parse_time("2026-11-20T17:00:00Z")
CUT = Call(REDUCE, 200, {"kelly_fraction": 0.1})
STOP = Call(HALT, 200, None)


def event(kind: str, **fact: object) -> dict[str, object]:
    return {"kind": kind, "fact": fact}


def incident(result: str, *events: dict[str, object]) -> dict[str, Any]:
    attempt = {"outcome": "ok", "ended_at": "2026-11-20T17:00:02.5Z"}
    return {
        "id": "a1", "status": "closed", "result": result, "events": list(events),
        "opened_at": "2026-11-20T17:00:02Z", "closed_at": "2026-11-20T17:00:06Z",
        "runs": [{"result": result, "ended_at": "2026-11-20T17:00:05Z", "steps": [{"attempts": [attempt]}]}],
    }  # fmt: skip


BEFORE = Seen(
    kelly_fraction=0.25, var_pct=1.2, alert_pct=1.8, trading=True, calls=(), incidents=(), messages_wait=False
)
FIXED = replace(BEFORE, kelly_fraction=0.1, var_pct=0.86, calls=(CUT,), incidents=(incident("fixed"),))
HALTED = (
    event("page_accepted", destination="pm"),
    event("page_accepted", destination="quant"),
    event("machine_announced"),
    event("run_started", runbook="halt-trading"),
    event("page_accepted", destination="cro"),
    event("page_accepted", destination="cro"),
)
UNFIXED = replace(FIXED, var_pct=0.0, trading=False, calls=(CUT, STOP), incidents=(incident("contained", *HALTED),))


def course(scenario: Scenario, last: Seen) -> Course:
    return Course(scenario, BEFORE, 2.16, last, BROKE)


def bad(scenario: Scenario, last: Seen) -> list[str]:
    return [finding.wanted for finding in findings(course(scenario, last)) if not finding.good]


def test_what_ends_as_promised_is_good() -> None:
    assert bad(Scenario.VAR_BREACH, FIXED) == []
    assert bad(Scenario.VAR_BREACH_UNFIXED, UNFIXED) == []
    assert paged(UNFIXED) == ("pm", "quant", "cro")


@pytest.mark.parametrize(
    "last",
    [
        replace(FIXED, calls=(CUT, CUT)),
        replace(FIXED, calls=(CUT, STOP)),
        replace(FIXED, calls=(replace(CUT, status=422),)),
        replace(FIXED, calls=()),
        replace(FIXED, kelly_fraction=0.25),
        replace(FIXED, var_pct=1.9),
        replace(FIXED, incidents=()),
        replace(FIXED, incidents=(*FIXED.incidents, *FIXED.incidents)),
        replace(FIXED, incidents=(incident("unverified"),)),
        replace(FIXED, incidents=({**incident("fixed"), "status": "open"},)),
    ],
)
def test_each_broken_promise_of_the_cut_fails_it(last: Seen) -> None:
    assert bad(Scenario.VAR_BREACH, last)


@pytest.mark.parametrize("lost", [0, 1, 2, 4])
def test_each_missing_page_and_announcement_fails_the_halt(lost: int) -> None:
    events = list(UNFIXED.incidents[0]["events"])
    gone = events[lost]
    kept = [one for one in events if one != gone]
    assert bad(Scenario.VAR_BREACH_UNFIXED, replace(UNFIXED, incidents=(incident("contained", *kept),)))


@pytest.mark.parametrize(
    "last",
    [
        replace(UNFIXED, trading=True),
        replace(UNFIXED, calls=(STOP, CUT)),
        replace(UNFIXED, calls=(CUT, STOP, STOP)),
        replace(UNFIXED, incidents=(incident("fixed", *UNFIXED.incidents[0]["events"]),)),
    ],
)
def test_each_broken_promise_of_the_halt_fails_it(last: Seen) -> None:
    assert bad(Scenario.VAR_BREACH_UNFIXED, last)


def test_the_summary_says_what_was_wrong() -> None:
    lines = list(ended(course(Scenario.VAR_BREACH, replace(FIXED, calls=(CUT, CUT))), "built-in", None).told())
    assert f"✘ one change reached the platform, and only one: received {REDUCE}, {REDUCE}" in lines
    assert lines[0].endswith("0.25 → 0.10")
    assert ended(course(Scenario.VAR_BREACH, BEFORE), "built-in", None).as_json(Scenario.VAR_BREACH)["good"] is False


def test_times_count_from_the_break() -> None:
    assert times(incident("fixed"), BROKE) == {"fired": 2.0, "acted": 2.5, "verified": 5.0, "closed": 6.0}
    assert set(times({}, BROKE).values()) == {None}


def test_it_is_over_when_all_is_closed_and_told() -> None:
    assert FIXED.over
    assert not BEFORE.over, "nothing has happened yet"
    assert not replace(FIXED, messages_wait=True).over
    assert not replace(FIXED, incidents=({**incident("fixed"), "status": "open"},)).over


def test_the_platforms_own_news() -> None:
    high = replace(BEFORE, var_pct=2.1)
    assert list(news(BEFORE, high)) == ["VaR passes the alert's 1.80 % and rises"]
    halted = replace(high, trading=False, var_pct=0.5, kelly_fraction=0.1, calls=(replace(CUT, status=401), STOP))
    assert list(news(high, halted)) == [
        f"receives POST {REDUCE}, answered 401",
        f"receives POST {HALT}",
        "Kelly fraction is 0.10 now, was 0.25",
        "trading is halted",
        "VaR is back below 1.80 %",
    ]
    assert list(news(halted, halted)) == []


def test_the_news_of_the_other_stories() -> None:
    worse = replace(BEFORE, breaker="OPEN", redis_p99_us=9000.0)
    better = replace(worse, breaker="HALF_OPEN", redis_p99_us=900.0, routing=False)
    assert list(news(BEFORE, worse)) == [
        "the circuit breaker is OPEN, was CLOSED",
        "Redis' latency passes the alert's 5000 µs and rises",
    ]
    assert list(news(worse, better)) == [
        "the router is paused",
        "the circuit breaker is HALF_OPEN, was OPEN",
        "Redis' latency is back below 5000 µs",
    ]
    assert list(news(better, replace(better, routing=True))) == ["the router runs again"]


# --- the stories with people and Redis --------------------------------------------------------------------------------


def of(runbook: str, *events: dict[str, object], **parts: Any) -> dict[str, Any]:
    return {**incident("fixed", *events), "runbook": runbook, **parts}


PAUSED = replace(
    BEFORE,
    routing=False,
    calls=(Call(PAUSE, 200, None),),
    incidents=(of("model-switching", {"kind": "evidence_gathered", "text": 'Evidence: {"lstm, tcn": 10}'}),),
)
RESTARTED = replace(
    BEFORE,
    redis_p99_us=901.0,
    incidents=(
        of(
            "redis-latency",
            {"kind": "manual_asked", "text": "Likely cause: commands (6 slow commands)"},
            {"kind": "evidence_gathered", "text": "Evidence: EVAL"},
            {"kind": "manual_done", "actor": ON_CALL},
        ),
    ),
)
ASKED: dict[str, object] = {"kind": "approval_asked", "at": "2026-11-20T17:00:08Z"}
APPROVED: dict[str, object] = {"kind": "approved", "actor": RISK_MANAGER}
RESETTED = replace(
    BEFORE,
    breaker="HALF_OPEN",
    calls=(CUT, Call(RESET, 200, None)),
    incidents=(of("circuit-breaker", ASKED, APPROVED), of("var-breach")),
)
HIGH = Wished(1.66, goes_ahead=False, refused=("value 1.66 <= 1.5 is false",), status=409)
CALM = Wished(1.2, goes_ahead=True, refused=())
STORIES = {
    Scenario.MODEL_SWITCHING: PAUSED,
    Scenario.REDIS_LATENCY: RESTARTED,
    Scenario.BREAKER_RESET: RESETTED,
    Scenario.HOT_RELOAD_REFUSED: BEFORE,
}


def told(scenario: Scenario, last: Seen, *wished: Wished, redis: bool = True) -> list[str]:
    """What was not as promised."""
    whole = Course(scenario, BEFORE, 2.16, last, BROKE, wished or (HIGH, CALM), redis)
    return [finding.wanted for finding in findings(whole) if not finding.good]


@pytest.mark.parametrize("scenario", STORIES)
def test_the_other_stories_as_promised_are_good(scenario: Scenario) -> None:
    assert told(scenario, STORIES[scenario]) == []
    assert all(
        line.isprintable()
        for line in ended(Course(scenario, BEFORE, 2.16, STORIES[scenario], BROKE), "built-in", None).told()
    )


def test_without_a_redis_its_evidence_is_not_promised() -> None:
    silent = replace(PAUSED, incidents=(of("model-switching"),))
    assert told(Scenario.MODEL_SWITCHING, silent, redis=False) == []
    assert told(Scenario.MODEL_SWITCHING, silent) == ["the last switches were shown by models"]


@pytest.mark.parametrize(
    ("scenario", "last"),
    [
        (Scenario.MODEL_SWITCHING, replace(PAUSED, routing=True)),
        (Scenario.MODEL_SWITCHING, replace(PAUSED, calls=())),
        (Scenario.REDIS_LATENCY, replace(RESTARTED, redis_p99_us=9000.0)),
        (Scenario.REDIS_LATENCY, replace(RESTARTED, calls=(CUT,))),
        (Scenario.REDIS_LATENCY, replace(RESTARTED, incidents=(of("redis-latency"),))),
        (Scenario.BREAKER_RESET, replace(RESETTED, breaker="OPEN")),
        (Scenario.BREAKER_RESET, replace(RESETTED, calls=RESETTED.calls[::-1])),
        (Scenario.BREAKER_RESET, replace(RESETTED, incidents=RESETTED.incidents[:1])),
        (Scenario.BREAKER_RESET, replace(RESETTED, incidents=(of("circuit-breaker", ASKED), of("var-breach")))),
        (
            Scenario.BREAKER_RESET,
            replace(RESETTED, incidents=(RESETTED.incidents[0], of("var-breach", closed_at="2026-11-20T17:01:00Z"))),
        ),
        (Scenario.HOT_RELOAD_REFUSED, replace(BEFORE, calls=(CUT,))),
        (Scenario.HOT_RELOAD_REFUSED, replace(BEFORE, incidents=(of("hot-reload"),))),
    ],
)
def test_each_broken_promise_of_the_other_stories_fails_it(scenario: Scenario, last: Seen) -> None:
    assert told(scenario, last)


@pytest.mark.parametrize(
    "wished",
    [
        (CALM,),
        (HIGH,),
        (replace(HIGH, goes_ahead=True), CALM),
        (replace(HIGH, status=200), CALM),
        (replace(HIGH, refused=("no",)), CALM),
        (HIGH, replace(CALM, goes_ahead=False)),
    ],
)
def test_each_broken_promise_of_the_refusal_fails_it(wished: tuple[Wished, ...]) -> None:
    assert told(Scenario.HOT_RELOAD_REFUSED, BEFORE, *wished)
