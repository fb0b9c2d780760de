"""When the demo counts as good: every promise of a scenario fails it by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from responder.demo.ending import HALT, REDUCE, Course, as_json, findings, paged, seconds, summary
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
    lines = list(summary(course(Scenario.VAR_BREACH, replace(FIXED, calls=(CUT, CUT)))))
    assert f"✘ one change reached the platform, and only one: received {REDUCE}, {REDUCE}" in lines
    assert lines[0].endswith("0.25 → 0.10")
    assert as_json(course(Scenario.VAR_BREACH, BEFORE), "built-in", None)["good"] is False


def test_times_count_from_the_break() -> None:
    assert seconds(course(Scenario.VAR_BREACH, FIXED)) == {"fired": 2.0, "acted": 2.5, "verified": 5.0, "closed": 6.0}
    assert set(seconds(course(Scenario.VAR_BREACH, BEFORE)).values()) == {None}


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
