"""The post-mortem's draft: what is computed from the journal, and that no word of an alert breaks the document."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from responder import facts as f
from responder import samples
from responder.facts import Event
from responder.journal import fold
from responder.markdown import escaped, link
from responder.messages import MessageTemplates
from responder.notifiers import message_templates
from responder.postmortem import LARGEST, TEMPLATE, markdown_values, postmortem
from responder.recorded import Cause, EvidenceItem, Outcome, Result
from responder.timing import MINUTE, SECOND
from responder.web.shapes import details, told
from tests.builders import T0, ended, fired, intended, opened, started

TEMPLATES: MessageTemplates = message_templates(None)
NOTHING: Mapping[str, Any] = {"in_force": [], "locks": []}


def answer(events: list[Event]) -> dict[str, Any]:
    """As the API tells it."""
    incident = fold(events)
    now = events[-1].at
    return {**details(incident, now), "events": [told(event, incident, TEMPLATES.render) for event in events]}


def journal(*happened: f.Fact | int | str) -> list[Event]:
    """Facts from T0 on; a number lets so many µs pass, a text names who does what follows."""
    now, actor, events = T0, "responder", list[Event]()
    for one in happened:
        if isinstance(one, int):
            now += one
        elif isinstance(one, str):
            actor = one
        else:
            seq = len(events) + 1
            events.append(Event(id=f"e{seq}", incident="i1", seq=seq, at=now, actor=actor, fact=one))
    return events


def known(events: list[Event], standing: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    return postmortem(answer(events), standing, events[-1].at)


def document(values: dict[str, Any]) -> str:
    return TEMPLATES.render(TEMPLATE, markdown_values(values), LARGEST)


def paged(destination: str = "desk") -> f.Paged:
    return f.Paged(destination=destination, key=f"key/{destination}", why="level L1")


# --- measures ---------------------------------------------------------------------------------------------------------


def test_the_spans_of_an_incident_that_was_not_fixed() -> None:
    measures = known(samples.journal("unfixed"))["measures"]
    assert measures == {
        "to_open": 17.0,
        "to_first_page": 122.0,
        "to_acknowledge": 16 * 60.0 - 122,
        "acknowledge_from": "first page",
        "to_first_action": 1.0,
        "to_contain": None,
        "to_fix": None,
        "to_close": 3600.0,
        "relapses": 0,
    }


def test_who_acknowledges_before_anybody_was_paged_is_counted_from_the_opening() -> None:
    measures = known(journal(opened(), fired(), MINUTE, "asha", f.TakenOver(), "responder", MINUTE, paged()))[
        "measures"
    ]
    assert (measures["to_acknowledge"], measures["acknowledge_from"]) == (60.0, "opening")


def test_a_relapse_takes_the_fix_back() -> None:
    good = f.RunEnded(run=1, result=Result.FIXED, why="held")
    happened: list[f.Fact | int | str] = [
        opened(),
        fired(),
        started(),
        MINUTE,
        good,
        MINUTE,
        f.Relapsed(why="bad again"),
    ]
    assert known(journal(*happened))["measures"]["to_fix"] is None
    again: list[f.Fact | int | str] = [
        *happened,
        started(number=2, cause=Cause.RELAPSE),
        MINUTE,
        f.RunEnded(run=2, result=Result.FIXED, why=""),
    ]
    measures = known(journal(*again))["measures"]
    assert (measures["to_fix"], measures["relapses"]) == (180.0, 1)


def test_putting_a_change_back_is_no_fix() -> None:
    back = started(cause=Cause.RESTORE, restores="x")
    measures = known(journal(opened(), fired(), back, f.RunEnded(run=1, result=Result.FIXED, why="")))["measures"]
    assert measures["to_fix"] is None


# --- what was done, and who answered ----------------------------------------------------------------------------------


def test_a_change_is_told_with_its_numbers_and_its_end() -> None:
    (done,) = known(samples.journal("fixed"))["actions"]
    assert (done["before"], done["target"], done["outcome"], done["took"]) == (0.25, 0.1, "ok", 0.4)
    assert known(samples.journal("fixed"))["checks"] == [{"check": "var", "first": 1.92, "last": 1.42, "readings": 2}]


def test_what_was_settled_says_by_whom() -> None:
    happened: list[f.Fact | int | str] = [opened(), fired(), started(), intended(), SECOND, ended(Outcome.UNKNOWN)]
    (unknown,) = known(journal(*happened))["actions"]
    assert unknown["outcome"] == "unknown"
    said = f.Settled(attempt="i1.1.cut.1", applied=False, reason="the API shows 0.25")
    (settled,) = known(journal(*happened, "otto", said))["actions"]
    assert (settled["outcome"], settled["detail"]) == ("settled by otto: it did not happen", "the API shows 0.25")


def test_pages_have_their_answers_and_people_their_words() -> None:
    dead = f.MessageDead(destination="b", lane="page", error="no such service")
    values = known(
        journal(opened(), fired(), paged("a"), paged("b"), SECOND, f.PageAccepted(destination="a"), dead, paged("a"),
                "asha", f.Acknowledged(note="on it"))
    )  # fmt: skip
    assert [(p["destination"], p["accepted_at"] is not None, p["error"]) for p in values["pages"]] == [
        ("a", True, ""),
        ("b", False, "no such service"),
        ("a", False, ""),
    ]
    assert [(p["by"], p["kind"], "on it" in p["what"]) for p in values["people"]] == [("asha", "acknowledged", True)]


def test_many_alerts_in_a_row_are_one_line() -> None:
    many = [fired(f"f{n}", joined=True) for n in range(9)]
    lines = known(journal(opened(), *many))["timeline"]
    assert [line["kind"] for line in lines] == ["opened", "alert_fired"]
    assert "and 8 more like it" in lines[1]["what"]


def test_what_stands_is_this_incidents_own() -> None:
    own = {
        "incident": "i1",
        "target": "t",
        "preview": "cut",
        "before": 0.25,
        "value": 0.1,
        "since": "2026-11-20T10:00:00Z",
    }
    other = {**own, "incident": "i2", "preview": "cut further", "beneath": {**own, "beneath": None}}
    locks = [{"target": "t", "incident": "i1"}, {"target": "u", "incident": "i2"}]
    values = known(journal(opened(), fired()), {"in_force": [other], "locks": locks})
    assert ([c["preview"] for c in values["in_force"]], values["locks"]) == (["cut"], ["t"])
    text = document(values)
    assert "cut (t is 0.1, was 0.25)" in text
    assert "- Locked: t" in text


# --- the document -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_draft_has_every_field_for_people(name: str) -> None:
    text = document(known(samples.journal(name)))
    for title in ("Root cause", "Contributing factors", "What went well", "What did not go well", "Action items"):
        assert f"\n## {title}\n" in text
    assert "P&L impact, realised and unrealised: _to be filled in_" in text
    assert "| what | owner | due |" in text


HOSTILE = st.text("ab1 \n\r\t#*_[](){}<>|`~\\!&;=+-.:/@$'\"é\u202e", min_size=1, max_size=40).filter(str.strip)
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def structure(text: str) -> list[str]:
    """What Markdown makes of it, without the texts themselves; a comment that interrupts a mention is none."""
    found = []
    for token in PARSER.parse(text):
        found.append(token.type)
        inner = [t for t in token.children or () if not (t.type == "html_inline" and t.content == "<!-- -->")]
        found += [t.type for t in inner if t.type != "text"]
    return found


def breached(text: str) -> str:
    """A document in which everything that comes from outside says `text`."""
    alert = fired(labels={"alertname": text, "symbol": text}, annotations={"summary": text})
    beginning = opened(
        title=text, impact=text, target=text, runbook=text, severity=text, links={text: "https://g.example/a"}
    )
    plan = intended().plan.model_copy(update={"preview": text, "before": text, "target": text})
    items = (EvidenceItem(title=text, value=text), EvidenceItem(title=text, error=text))
    evidence = f.EvidenceGathered(run=1, items=items)
    page = f.Paged(destination=text, key="k", why=text)
    done = (intended(plan=plan), ended(Outcome.OK, detail=text), evidence, page)
    events = journal(beginning, alert, started(), *done, text, f.Acknowledged(note=text), f.Closed(why=text))
    return document(known(events))


@given(HOSTILE)
@settings(max_examples=60)
@example("\n# Heading\n\n| a | b |\n|---|---|\n")
@example("[x](javascript:alert(1)) ![y](http://evil.example/p.png) <img src=x> <!-- -->")
@example("a|b`|`c\\|d\\")
@example("__a__ *b* ~~c~~ `d` &lt;script&gt; &#35;")
@example("1. one\n2. two\n- three\n> four\n=== \n---\n```\n")
@example("<https://evil.example> https://evil.example www.evil.example")
def test_no_word_from_outside_changes_the_structure(text: str) -> None:
    assert structure(breached(f"a{text}")) == structure(breached("ax"))
    assert structure(breached(text)) == structure(breached("x"))


def shown_as(page: str) -> list[str]:
    """The texts that a reader of the page sees, one for each heading, paragraph and cell."""
    inner = [token.children or [] for token in PARSER.parse(page) if token.type == "inline"]
    return ["".join(t.content for t in tokens if t.content != "<!-- -->") for tokens in inner]


@given(HOSTILE)
@example("a|b`|`c\\|d\\")
@example("&amp; 1) __x__ <b> \\| @desk")
@example("1 #")
@settings(max_examples=200)
def test_what_is_escaped_is_read_as_it_was_written(text: str) -> None:
    said = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
    page = f"# {escaped(text)}\n\n{escaped(text)}\n\n| a | b |\n|---|---|\n| {escaped(text)} | end |\n"
    assert shown_as(page) == [said, said, "a", "b", said, "end"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("VaR above 90 % of its limit", "VaR above 90 % of its limit"),
        ("kelly_fraction 0.25 → 0.1: 1.42 < 1.7", "kelly_fraction 0.25 → 0.1: 1.42 < 1.7"),
        ("see https://evil.example", "see https\\://evil.example"),
        ("ask @desk or desk@example.com", "ask @<!-- -->desk or desk@example.com"),
        ("a\nb\x00\u202ec", "a b\ufffd\ufffdc"),
    ],
)
def test_only_what_markdown_reads_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_link_leads_to_the_web_or_nowhere() -> None:
    assert link("a]b", "https://g.example/x?q=(1)|<2>") == "[a\\]b](<https://g.example/x?q=%281%29%7C%3C2%3E>)"
    assert link("a", "javascript:alert(1)") == "a: javascript:alert(1)"
