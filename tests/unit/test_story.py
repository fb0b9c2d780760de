"""Every fact has its sentence, with numbers; what people see of the present state is complete."""

from __future__ import annotations

from typing import Any

import pytest

from responder import facts as f
from responder import story
from responder.incident import Due
from responder.journal import fold
from responder.messages import MessageTemplates
from responder.notifiers import message_templates
from responder.recorded import (
    Answer,
    Cause,
    EvidenceItem,
    Observation,
    Outcome,
    Result,
    StepStatus,
    Trigger,
    Verdict,
)
from responder.timing import MILLISECOND, MINUTE, SECOND
from tests.unit.story_parts import (
    FIRED,
    INTENDED,
    LABELS,
    NO,
    OPENED,
    PLAN,
    SAMPLES,
    SEEN,
    SOON,
    STARTED,
    T0,
    YES,
    event,
    incident,
)

TEMPLATES: MessageTemplates = message_templates(None)


def test_every_kind_of_fact_has_a_template_and_a_sample() -> None:
    names = {n.removeprefix("story/").removesuffix(".txt.j2") for n in TEMPLATES.names() if n.startswith("story/")}
    assert names - {"checks"} == story.KINDS
    assert {fact.kind for fact, _ in SAMPLES} == story.KINDS


@pytest.mark.parametrize(("fact", "said"), SAMPLES, ids=[x.kind for x, _ in SAMPLES])
def test_a_sentence_says_what_happened_with_numbers(fact: f.Fact, said: str) -> None:
    by = "responder" if isinstance(fact, f.RunStarted) else "asha"
    told = story.sentence(event(9, T0 + 34 * MILLISECOND, fact, by), incident(), TEMPLATES.render)
    assert said in told
    assert "\n" not in told
    assert "None" not in told


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (
            f.AttemptEnded(attempt="a1", outcome=Outcome.TEMPORARY, detail="503", retry_at=T0 + SECOND),
            "again at 14:02:32",
        ),
        (f.AttemptEnded(attempt="a1", outcome=Outcome.PERMANENT, detail="403"), "refused (403)"),
        (
            f.AttemptEnded(attempt="a1", outcome=Outcome.UNKNOWN, detail="timeout"),
            "no clear answer after 34ms (timeout)",
        ),
        (f.AttemptEnded(attempt="gone", outcome=Outcome.OK), "An attempt, accepted in unknown time"),
        (f.StepEnded(run=1, step="cut_kelly", status=StepStatus.FAILED, why="403"), "failed, 403"),
        (f.StepEnded(run=1, step="cut_kelly", status=StepStatus.UNKNOWN), "responder settle i1 --applied"),
        (f.StepEnded(run=7, step="tell_desk", status=StepStatus.DONE), "tell_desk is done"),
        (f.MachineFired(round=0, index=0, runbook="halt", held="nobody knows"), "halt is held back, nobody knows"),
        (
            f.Gathered(run=1, observations=(Observation(check="var", asked_at=T0, error="down"),)),
            "gave no value (down)",
        ),
        (f.AlertResolved(fingerprint="unseen", ends_at=None), "Alertmanager says that unseen ended"),
        (OPENED.model_copy(update={"runbook": None, "severity": None}), "severity missing"),
        (OPENED.model_copy(update={"trigger": Trigger.PERSON, "severity": None}), ", by hand."),
        (OPENED.model_copy(update={"trigger": Trigger.SCHEDULE, "severity": None}), ", by schedule."),
        (OPENED.model_copy(update={"trigger": Trigger.PERSON, "severity": "high"}), "severity high."),
    ],
)
def test_a_sentence_fits_how_it_went(fact: f.Fact, said: str) -> None:
    assert said in story.sentence(event(9, T0 + 34 * MILLISECOND, fact), incident(), TEMPLATES.render)


def test_a_reading_is_a_number_that_people_can_read() -> None:
    items = (EvidenceItem(title="Share", value=160 / 3), EvidenceItem(title="Orders", value=7))
    told = story.sentence(event(9, T0, f.EvidenceGathered(run=1, items=items)), incident(), TEMPLATES.render)
    assert told == "Evidence: Share: 53.3333; Orders: 7"


def test_long_evidence_is_folded_to_a_few_short_readings() -> None:
    short = (EvidenceItem(title="a", value="b"),)
    items = (EvidenceItem(title="book", value="x" * 500), *(EvidenceItem(title=f"t{n}", value=n) for n in range(7)))
    told = story.sentence(event(9, T0, f.EvidenceGathered(run=1, items=items)), incident(), TEMPLATES.render)
    assert told.startswith(f"Evidence: book: {'x' * 119}…; t0: 0;")
    assert told.endswith("t3: 3; and 3 more")
    assert (story.folded(items), story.folded(items[:1]), story.folded(items[1:6]), story.folded(short)) == (
        True, True, False, False
    )  # fmt: skip


def test_an_answer_says_what_it_is_about_and_how_many_are_needed() -> None:
    asked = f.ApprovalAsked(
        run=1, step="cut_kelly", plan="d", preview="Kelly 0.25 → 0.1", role="risk-manager", people=2, until=SOON
    )
    yes = f.Approved(run=1, step="cut_kelly", plan="d")
    state = incident(asked, yes, yes)
    assert "2 people with the role risk-manager" in story.sentence(event(9, T0, asked), state, TEMPLATES.render)
    told = story.sentence(event(9, T0 + 34 * MILLISECOND, yes, "asha"), state, TEMPLATES.render)
    assert told == "asha approves Kelly 0.25 → 0.1 (2 of 2)"
    older = yes.model_copy(update={"plan": "c"})
    assert story.sentence(event(9, T0, older, "asha"), state, TEMPLATES.render) == "asha approves cut_kelly"


def test_a_change_that_is_put_back_is_not_called_fixed() -> None:
    back = STARTED.model_copy(update={"number": 2, "cause": Cause.RESTORE})
    ended = event(9, T0, f.RunEnded(run=2, result=Result.FIXED, why="it is 0.25"))
    assert story.sentence(ended, incident(back), TEMPLATES.render) == "The change is put back: it is 0.25"
    failed = event(9, T0, f.RunEnded(run=2, result=Result.FAILED, why="403"))
    assert story.sentence(failed, incident(back), TEMPLATES.render) == "403: the runbook failed"


def test_a_refusal_for_which_nobody_is_paged_promises_no_person() -> None:
    quiet = f.Refused(run=1, step="cut_kelly", verdicts=(NO,), urgent=False)
    said = "cut_kelly is refused: cooldown of 10m: 4m left. "
    watched = story.sentence(event(9, T0, quiet), incident(), TEMPLATES.render)
    assert watched == f"{said}Nothing is done now; the alert goes on being watched"
    scheduled = fold([event(1, T0, OPENED), event(2, T0, STARTED)])
    assert story.sentence(event(9, T0, quiet), scheduled, TEMPLATES.render) == f"{said}Nothing is done now"
    urgent = f.Refused(run=1, step="cut_kelly", verdicts=(NO,))
    assert story.sentence(event(9, T0, urgent), incident(), TEMPLATES.render).endswith("; people decide")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer.DENY, "Only observing; would be refused: cut (0.9 > 1.8 is false)"),
        (Answer.ASK, "Only observing; would be refused: cut (0.9 > 1.8 is false)"),
        (Answer.WAIT, "Only observing; would wait (0.9 > 1.8 is false), then do: cut"),
        (Answer.ALLOW, "Only observing; would do: cut"),
    ],
)
def test_a_preview_says_what_its_gates_would_do(answer: Answer, said: str) -> None:
    verdict = Verdict(gate="only_if", answer=answer, reason="0.9 > 1.8 is false")
    would = f.Previewed(run=1, step="cut_kelly", preview="cut", verdicts=(YES, verdict))
    assert story.sentence(event(9, T0, would), incident(), TEMPLATES.render) == said


@pytest.mark.parametrize(
    ("known", "said", "new"),
    [
        ("PUT /a on oms", "PUT /a on oms: 200", "200"),
        ("Stop it: PUT /a on oms", "PUT /a on oms: 200", "200"),
        ("Stop it: PUT /a on oms", "PUT /a on oms", ""),
        ("wait 30s", "wait 30s", ""),
        ("PUT /a on oms", "oms: PUT /a on oms: 503", "PUT /a on oms: 503"),
        ("PUT /503", "503", "503"),
        ("", "kelly_fraction is 0.1", "kelly_fraction is 0.1"),
        ("x", ": y", ": y"),
    ],
)
def test_what_is_known_is_not_said_again(known: str, said: str, new: str) -> None:
    assert story.news(known, said) == new


def test_a_run_that_takes_back_is_put_back_and_not_fixed() -> None:
    back = STARTED.model_copy(update={"number": 2, "cause": Cause.UNDO, "steps": ()})
    harm = f.RunEnded(run=1, result=Result.HARMFUL, why="2.3 > 2")
    after = incident(harm, back, f.RunEnded(run=2, result=Result.FIXED, why="it is 0.25"))
    state: Any = {**story.state_values(after, T0), "sentence": "L1", "destination": "desk", "at": T0}
    assert [run["put_back"] for run in state["runs"]] == [False, True]
    assert (state["result"], state["light"]) == ("harmful", "bad")
    for name in ("slack/root.mrkdwn.j2", "pagerduty/details.txt.j2", "text/page.txt.j2", "email/state.txt.j2"):
        told = TEMPLATES.render(name, state).lower()
        assert "put back" in told, name
        assert "fixed" not in told, name


@pytest.mark.parametrize(
    ("gathered", "said"),
    [
        (f.Gathered(run=1, plan=PLAN), "Next: Kelly fraction 0.25 → 0.1 (VaR breach)"),
        (f.Gathered(run=1), "Read: nothing"),
        (f.Gathered(run=1, observations=(SEEN,), holds=True), "Read: var = 1.92 (4s old); as expected"),
    ],
)
def test_only_what_was_read_is_told_as_read(gathered: f.Gathered, said: str) -> None:
    assert story.sentence(event(9, T0, gathered), incident(), TEMPLATES.render) == said


@pytest.mark.parametrize("result", list(Result))
def test_every_result_is_said_in_words(result: Result) -> None:
    ended = event(9, T0, f.RunEnded(run=1, result=result, why="because"))
    assert story.sentence(ended, incident(), TEMPLATES.render).startswith("because: ")


def test_a_broken_template_costs_the_wording_not_the_news() -> None:
    broken = MessageTemplates([{"story/closed.txt.j2": "{{ nothing.like.this }}"}])
    closed = event(9, T0, f.Closed(why="all alerts resolved"))
    assert story.describe(closed, incident(), broken.render) == "closed: why all alerts resolved"


def test_the_state_says_what_fired_what_was_done_whether_it_helped_who_has_it_and_what_is_next() -> None:
    after = incident(
        f.RunEnded(run=1, result=Result.FIXED, why="1.42 < 1.7 held for 30s"), f.Acknowledged(note="on it")
    )
    dues = (
        Due(kind="verify", round=0, due=T0 + 1, work=True),
        Due(kind="level", round=1, due=T0 + 15 * MINUTE, what="L2 is told"),
    )
    state: dict[str, Any] = story.state_values(after.model_copy(update={"agenda": dues}), T0 + MINUTE)
    assert [a["text"] for a in state["alerts"]] == ["VaRBreach (symbol BTC-USD)"]
    steps = state["runs"][0]["steps"]
    assert [(s["text"], s["status"], s["took"]) for s in steps] == [
        ("Kelly fraction 0.25 → 0.1 (VaR breach)", "done", 34 * MILLISECOND),
        ("tell desk", "pending", None),
    ]
    assert (state["result"], state["why"], state["light"]) == ("fixed", "1.42 < 1.7 held for 30s", "good")
    assert state["owner"]["note"] == "on it"
    assert state["next"] == {"what": "L2 is told", "at": T0 + 15 * MINUTE, "left": 14 * MINUTE}
    assert state["coming"] == [state["next"]]
    more = tuple(Due(kind="level", round=n, due=T0 + n, what=f"L{n}") for n in (4, 2, 3, 1))
    later: dict[str, Any] = story.state_values(after.model_copy(update={"agenda": more}), T0)
    assert [one["what"] for one in later["coming"]] == ["L1", "L2", "L3"]


def test_only_web_addresses_become_links() -> None:
    assert [link["title"] for link in story.links(incident())] == ["runbook", "graph"]


def test_a_label_cannot_begin_a_paragraph_of_its_own() -> None:
    forged = f.AlertFired(
        fingerprint="f1",
        labels={**LABELS, "symbol": "x\n\n# All is well"},
        annotations={},
        severity=None,
        starts_at=None,
    )
    state: dict[str, Any] = story.state_values(fold([event(1, T0, OPENED), event(2, T0, forged)]), T0)
    assert state["alerts"][0]["text"] == "VaRBreach (symbol x # All is well)"


def test_what_nobody_knows_is_never_shown_as_good() -> None:
    unknown = f.AttemptEnded(attempt="a1", outcome=Outcome.UNKNOWN, detail="timeout")
    stuck = f.StepEnded(run=1, step="cut_kelly", status=StepStatus.UNKNOWN, why="timeout")
    known: list[f.Fact] = [OPENED, FIRED, STARTED, INTENDED, unknown, stuck]
    assert story.light(fold([event(n + 1, T0, fact) for n, fact in enumerate(known)])) == "bad"
