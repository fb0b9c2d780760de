"""Two sets of rules before the same notifications: what a reviewer of a pull request is told."""

from __future__ import annotations

import json
from typing import Any

from responder.answers import Script
from responder.assumptions import Assumption
from responder.cli.comparison import as_json, as_text, compared, summary
from responder.cli.rehearsal import Stage, plot_of, rehearse
from responder.cli.replayed import Replay
from responder.config import Config
from responder.differences import Comparison
from responder.recordings import Recording
from responder.rules import Rules
from responder.timing import HOUR
from tests.acceptance.stage import RISK, START, alert, own, templates, unverified
from tests.builders import a_runbook, an_alert, cut_step

RuleSet = tuple[Rules, Config]


def cut(to: float, **parts: Any) -> dict[str, Any]:
    with_ = {"parameter": "risk-api/kelly_fraction", "to": to, "reason": "too much risk"}
    return a_runbook(steps=[cut_step(**{"with": with_})], **parts)


def replayed(rules: RuleSet, assume: str, body: bytes) -> Replay:
    stage = Stage(rules[1], templates().render, rules[0])
    recordings = (Recording("n1", START, body),)
    return rehearse(plot_of(recordings, Script(), Assumption(assume), 2 * HOUR, [stage], START), stage)


def between(one: RuleSet, two: RuleSet, *alerts: dict[str, str], assume: str = "unfixed") -> Comparison:
    firing = [{"status": "firing", "labels": labels} for labels in alerts]
    body = json.dumps({"version": "4", "alerts": firing}).encode()
    return compared(replayed(one, assume, body), replayed(two, assume, body))


def changed(comparison: Comparison) -> list[str]:
    """The lines with a sign, each in one piece."""
    lines: list[str] = []
    for line in as_text(comparison).splitlines()[3:]:
        if line[:1] in "+-" and line[:1]:
            if line[12] != " ":
                lines.append(" ".join(line.split()))
            else:
                lines[-1] += f" {line[1:].strip()}"
    return lines


PAGED = {"1m": {"page": "boss"}}
LATER = {"2m": {"page": "boss"}}


def test_the_same_rules_decide_the_same() -> None:
    rules = own(cut(0.1, unless_fixed=PAGED), unverified("NoOrders", target="orders"))
    for assume in Assumption:
        comparison = between(rules, rules, RISK, alert("NoOrders"), alert("Nobody"), assume=assume.value)
        assert comparison.same, as_text(comparison)
        assert as_text(comparison).splitlines()[0] == "3 alerts: 3 the same"


def test_other_words_and_names_are_no_difference() -> None:
    one = own(cut(0.1, title="Too much risk", impact="Loss"))
    two = own(cut(0.1, title="Risk is high", links={"graph": "http://graph"}))
    assert between(one, two, RISK).same


def test_what_a_person_wants_to_know_about_new_rules() -> None:
    one = own(cut(0.1, unless_fixed=PAGED), unverified("NoOrders", target="orders"))
    two = own(cut(0.08, unless_fixed=LATER))
    comparison = between(one, two, RISK, alert("NoOrders"), alert("Nobody"))
    text = as_text(comparison)
    assert summary(comparison) == "3 alerts: 1 the same, 2 different"
    assert max(map(len, text.splitlines())) <= 80
    lines = changed(comparison)
    assert lines[:6] == [
        "- +0:00 cut.cut: to 0.1",
        "+ +0:00 cut.cut: to 0.08",
        "- +1:00 pages boss (not fixed in time)",
        "+ +2:00 pages boss (not fixed in time)",
        "- answered by: noorders on orders",
        "+ answered by: no runbook (no runbook matches this alert)",
    ]
    assert "- +0:00 starts: noorders, on orders, mode auto" in lines
    assert text.splitlines()[-1] == "Nobody: the same"


def test_rules_that_only_observe() -> None:
    lines = changed(between(own(cut(0.1)), own(cut(0.1, mode="observe")), RISK))
    assert lines[:2] == ["- +0:00 starts: mode auto", "+ +0:00 starts: mode observe"]
    assert any(line.startswith("+ +0:00 cut.cut would do:") for line in lines)
    assert any(line.startswith("+ +0:00 cut ends: observed") for line in lines)


def test_a_target_for_each_symbol_cuts_incidents_apart() -> None:
    inputs = {"symbol": {"label": "symbol", "type": "currency_pair"}}
    one = own(a_runbook(inputs=inputs, verify=None, steps=[{"id": "look", "manual": "Look"}]))
    two = own(
        a_runbook(inputs=inputs, verify=None, steps=[{"id": "look", "manual": "Look"}], target="book/{{ symbol }}")
    )
    pairs = [an_alert(alertname="TooMuchRisk", symbol=symbol) for symbol in ("BTC-USD", "ETH-USD")]
    comparison = between(one, two, *pairs)
    lines = changed(comparison)
    assert summary(comparison) == "2 alerts: 2 different"
    assert "- 1 incident: TooMuchRisk (symbol BTC-USD), TooMuchRisk (symbol ETH-USD)" in lines
    assert "+ 2 incidents: TooMuchRisk (symbol BTC-USD) | TooMuchRisk (symbol ETH-USD)" in lines
    assert "- +0:00 starts: on risk-api/kelly_fraction, no symbol" in lines


def test_a_refusal_tells_which_gate_and_why() -> None:
    two = own(cut(0.1, limits={"runs": "1 per 6h"}, only_if={"check": "risk", "expect": "value > 5"}))
    comparison = between(own(cut(0.1)), two, RISK, assume="missing")
    why = "check risk: no data (assumed); acts only on evidence"
    assert changed(comparison)[1] == f"+ +0:00 cut.cut is refused: gate only_if refuses ({why})"


def test_a_hostile_label_stays_on_its_line() -> None:
    evil = an_alert(alertname="TooMuchRisk", symbol="\x1b[2J\u202e\n+ +0:00 pages nobody" + "x" * 300)
    text = as_text(between(own(cut(0.1)), own(cut(0.2)), evil))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\n+ +0:00 pages nobody" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_for_programs() -> None:
    one = own(cut(0.1, unless_fixed=PAGED))
    told = as_json(between(one, own(cut(0.08, unless_fixed=LATER)), RISK))
    assert json.loads(json.dumps(told)) == told
    assert (told["same"], told["alerts"]) == (False, {"same": 0, "different": 1})
    (group,) = told["groups"]
    assert group["alerts"][0]["text"] == "TooMuchRisk"
    attempt, page = group["differences"]
    assert (attempt["kind"], attempt["configured"]["details"]["to"], attempt["other"]["details"]["to"]) == (
        "attempt", "0.1", "0.08",
    )  # fmt: skip
    assert [round(page[side]["offset"]) for side in ("configured", "other")] == [60, 120]


def test_many_alerts_about_which_nothing_differs_are_counted() -> None:
    many = [an_alert(alertname=f"Nobody{n}") for n in range(30)]
    rules = own(cut(0.1))
    text = as_text(between(rules, rules, *many))
    assert text.splitlines()[0] == "30 alerts: 30 the same"
    assert text.splitlines()[-1] == "and 10 more: the same"
    assert len(text.splitlines()) == 23


def test_what_nobody_understands_is_compared_too() -> None:
    rules = own(cut(0.1))
    replay = replayed(rules, "fixed", b"{}")
    assert summary(compared(replay, replay)) == "no alerts; 1 incident without an alert: the same"
