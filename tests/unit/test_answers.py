"""The answers file: what it says, and what is said about each mistake in it."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from responder.answers import Answers, BadAnswers, Fate, Nameable, Script, nameable, phase_at, read_answers
from responder.problems import Problem
from responder.timing import MINUTE, SECOND
from tests.builders import a_runbook, call_step, cut_step, rules_of

RULES = rules_of(
    a_runbook(steps=[cut_step(), call_step(), {"id": "look", "manual": "Look at the book"}]),
    a_runbook(runbook="other", match="Other", target="t"),
)
PARAMETER = "risk-api/kelly_fraction"


def known() -> Nameable:
    return nameable([RULES], [PARAMETER], ["risk-api", "metrics"])


def read(text: str) -> Script:
    return read_answers("answers.yaml", text.encode(), known())


def mistakes(text: str) -> list[Problem]:
    with pytest.raises(BadAnswers) as caught:
        read(text)
    return list(caught.value.problems)


# --- what a file says -------------------------------------------------------------------------------------------------


def test_a_list_is_given_in_order_and_one_answer_needs_no_list() -> None:
    script = read("checks:\n  risk: [2.1, {missing: gone, times: 2}, 1.6]\n  other.risk: 3\n")
    (phase,) = script.checks["risk"]
    assert [(cue.answer.value, cue.answer.missing) for cue in phase.cues] == [
        (2.1, None), (None, "gone"), (None, "gone"), (1.6, None),
    ]  # fmt: skip
    assert [cue.answer.value for cue in script.checks["other.risk"][0].cues] == [3]


def test_every_answer_knows_its_place() -> None:
    script = read("checks:\n  risk:\n    - 2.1\n    - 1.6\n  other.risk: 3\nsteps: {cut: ok}\n")
    assert [(cue.place, cue.number) for cue in script.checks["risk"][0].cues] == [
        ("answers.yaml:3", 1), ("answers.yaml:4", 2),
    ]  # fmt: skip
    assert script.checks["other.risk"][0].cues[0].place == "answers.yaml:5"
    assert script.steps["cut"][0].cues[0].place == "answers.yaml:6"


def test_a_time_begins_a_phase_of_its_own() -> None:
    phases = read("checks: {risk: [2, 3, {after: 90s, value: 1}, 0]}").checks["risk"]
    assert [phase_at(phases, offset) for offset in (0, 90 * SECOND - 1, 90 * SECOND, MINUTE * 60)] == [0, 0, 1, 1]
    assert [[cue.answer.value for cue in phase.cues] for phase in phases] == [[2, 3], [1, 0]]


def test_nothing_is_said_before_the_first_time() -> None:
    phases = read("checks: {risk: [{after: 90s, value: 1}]}").checks["risk"]
    assert phase_at(phases, 89 * SECOND) is None


def test_a_bare_null_is_no_data() -> None:
    (phase,) = read("checks: {risk: [null, 2]}").checks["risk"]
    assert phase.cues[0].answer.missing == "no data"


def test_ok_leaves_the_output_open_unless_it_says_one() -> None:
    (phase,) = read("steps: {call: [ok, {ok: true}, {ok: {status: 201}}]}").steps["call"]
    assert [cue.answer.output for cue in phase.cues] == [None, None, {"status": 201}]


def test_a_lost_answer_says_what_became_of_the_change() -> None:
    (phase,) = read("steps: {call: [{lost: applied}, {lost: not_applied}, {lost: unclear}]}").steps["call"]
    assert [cue.answer.lost for cue in phase.cues] == list(Fate)


def test_services_are_down_for_a_time() -> None:
    (outage,) = read("services: {metrics: {down: connection refused, from: 1m, until: 2m}}").services["metrics"]
    assert [outage.holds(offset) for offset in (0, MINUTE, 2 * MINUTE - 1, 2 * MINUTE)] == [False, True, True, False]


def test_people_speak_in_the_order_of_time() -> None:
    script = read("people: [{at: 5m, done: carol, step: look}, {at: 3m, settle: bob, applied: true, note: I looked}]")
    assert [(cue.answer.verb, cue.answer.actor, cue.answer.at) for cue in script.people] == [
        ("settle", "bob", 3 * MINUTE), ("done", "carol", 5 * MINUTE),
    ]  # fmt: skip


def test_the_schema_takes_the_short_forms_too() -> None:
    schema = TypeAdapter(Answers).json_schema(by_alias=True)
    forms = schema["properties"]["checks"]["additionalProperties"]["anyOf"]
    assert {form.get("type", "ref") for form in forms} >= {"array", "number", "string", "ref"}


# --- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES = {
    "cheks: {}": ("1:1", "unknown key", "did you mean 'checks'?"),
    "- risk": ("1:1", "answers are written as `key: value` pairs", "begin with `checks:`, `steps:`"),
    "checks: {rsk: 2}": ("1:10", "no check is called 'rsk'", "did you mean 'risk'?"),
    "checks: {othr.risk: 2}": ("1:10", "no check is called 'othr.risk'", "did you mean 'other.risk'?"),
    "steps: {cutt: ok}": ("1:9", "no step is called 'cutt'", "did you mean 'cut'?"),
    "parameters: {risk-api/kelly: 1}": ("1:14", "no parameter is called 'risk-api/kelly'", "did you mean 'risk-api/"),
    "parameters: {risk-api/kelly_fraction: high}": ("1:39", "a number is needed here, not text ('high')", ""),
    "services: {metric: {down: gone}}": ("1:12", "no service is called 'metric'", "did you mean 'metrics'?"),
    "services: {metrics: {down: gone, from: 2m, until: 1m}}": ("1:21", "it is over before it begins", ""),
    "services: {metrics: {}}": ("1:21", "the key 'down' is missing", "add `down:`"),
    "checks: {risk: []}": ("1:16", "an empty list says nothing", "write an answer, or remove the key"),
    "checks: {risk: [{}]}": ("1:17", "it says nothing: write exactly one of value, missing", ""),
    "checks: {risk: [{value: 1, missing: x}]}": ("1:17", "value and missing cannot both be", ""),
    "checks: {risk: [{valeu: 1}]}": ("1:18", "unknown key", "did you mean 'value'?"),
    "checks: {risk: [{value: 1, after: 90}]}": ("1:35", "a duration is text such as 30s or 1h30m", "write 90s"),
    "checks: {risk: [{value: 1, times: 0}]}": ("1:35", "input should be greater than or equal to 1", ""),
    "checks: {risk: [{value: 1, after: 2m}, {value: 2, after: 1m}]}": (
        "1:58", "this begins before the one above, which holds from 2m", "write them in the order of time",
    ),
    "steps: {cut: fine}": ("1:14", "an attempt goes well, fails or is lost", "write ok, {temporary: why}"),
    "steps: {cut: [{ok: true, refused: no}]}": ("1:15", "ok and refused cannot both be", ""),
    "steps: {cut: {lost: true}}": ("1:21", "True is not one of applied, not_applied, unclear", ""),
    "steps: {cut: {ok: 0.2}}": ("1:19", "the output of this step is the value in force", "write ok alone"),
    "steps: {look: ok}": ("1:9", "step 'look' is done by a person", "write under `people:`"),
    "people: [{at: 3m}]": ("1:10", "it says nothing: write exactly one of ack, takeover", ""),
    "people: [{ack: alice}]": ("1:10", "the key 'at' is missing", "add `at:`"),
    "people: [{at: 3m, ack: alice, done: bob}]": ("1:10", "ack and done cannot both be", ""),
    "people: [{at: 3m, settle: bob}]": ("1:10", "`applied: true` or `applied: false` belongs to settle", ""),
    "people: [{at: 3m, ack: bob, runbook: cutt}]": ("1:38", "no runbook is called 'cutt'", "did you mean 'cut'?"),
    "checks: {risk: [": ("2:1", "this is not YAML", ""),
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_at_its_place_with_the_cure(text: str) -> None:
    place, message, hint = MISTAKES[text]
    (found,) = mistakes(text)
    assert f"{found.line}:{found.column}" == place
    assert found.message.startswith(message)
    assert found.hint.startswith(hint)
    assert str(found).startswith(f"answers.yaml:{place}: ")


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes("checks: {rsk: 1, risk: [{}]}\nsteps: {cutt: fine}\npeople: [{at: soon, ack: a}]\n")
    assert [(problem.line, problem.path) for problem in found] == [
        (1, "checks.rsk"), (1, "checks.risk[0]"), (2, "steps.cutt"), (2, "steps.cutt"), (3, "people[0].at"),
    ]  # fmt: skip


def test_an_unreadable_file_is_said_to_be_one() -> None:
    with pytest.raises(BadAnswers, match="0xff is not UTF-8 text"):
        read_answers("answers.yaml", b"checks: \xff", known())


def test_a_status_is_a_reason() -> None:
    (phase,) = read("steps: {call: {refused: 422}}").steps["call"]
    assert phase.cues[0].answer.refused == "422"


def test_the_last_word_is_when_nothing_changes_any_more() -> None:
    script = read("checks: {risk: [1, {after: 5m, value: 2}]}\nservices: {metrics: {down: x, from: 1m, until: 7m}}")
    assert (script.last_word, read("checks: {risk: 1}").last_word) == (7 * MINUTE, 0)
