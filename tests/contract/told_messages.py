"""Every message that the product can send: each kind of it, about an incident in each state that people ask about.

Composed as `engine.delivery` does it, from today's templates. `HOSTILE` holds what a label must not be able to do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from responder import facts as f
from responder import story
from responder.contracts import Message, Notifier, Secret
from responder.incident import Incident
from responder.notifiers import message_templates
from responder.recorded import Mode, Outcome, Result, StepStatus
from responder.telling import root_id
from responder.timing import MINUTE, SECOND
from tests.builders import ALERT, T0, a_plan, ended, fired, intended, opened, started, told

TEMPLATES = message_templates(None)
KINDS: Final = ("root", "thread", "page", "resolve")
NAME: Final = "desk"
"""What the notifier is called in responder.yaml."""

EVIL = "x\r\nBcc: thief@evil.example\r\n\r\n<script>alert(1)</script>"
ENCODED = "=?utf-8?q?x=0D=0ABcc:_thief=40evil.example?="
HOSTILE: Final = {
    "header": EVIL,
    "encoded word": ENCODED,
    "markup": '"><img src=x onerror=alert(1)>&lt;b&gt;',
    "dots": ".\r\n.\r\nMAIL FROM:<thief@evil.example>",
    "boundary": "--=_0123456789abcdef\r\nContent-Type: text/html\r\n\r\n<b>",
    "half a character": "a\ud800b\udfff",
    "invisible": "a\x00b\x0bc\x1cd\x85e\u2028f\u202eg\x1b[31m",
    "long": "W" * 5_000,
    "long line of words": "Δοκιμή 試験 🚨 " * 400,
    "template": "{{ incident.id }}{% for a in b %}",
}

NEWS_AT: Final = T0 + 3 * MINUTE
PREVIEW = "Kelly fraction 0.25 → 0.1 (VaR breach)"
_OPENED = {
    "runbook": "var-breach",
    "title": "VaR above 90 % of its limit",
    "impact": "At 2.5 % the breaker opens and no new positions can be taken",
    "labels": {"platform": "edge-risk", "env": "prod"},
    "links": {"dashboard": "https://grafana.example/d/edge-risk?a=1&b=2", "runbook": "https://wiki.example/var"},
}
_ALERT = fired(labels=dict(ALERT), annotations={"summary": "VaR is 1.92 %, limit 2 %"})
_STARTED = started(runbook="var-breach")
_ACTED: tuple[f.Fact | int, ...] = (
    _STARTED,
    intended(plan=a_plan(preview=PREVIEW)),
    SECOND,
    ended(Outcome.OK, detail="kelly_fraction is 0.1"),
    f.StepEnded(run=1, step="cut", status=StepStatus.DONE),
    f.Verifying(run=1),
)
_LEVEL = f.LevelReached(round=0, index=0, name="L1", page=(NAME,), why="not fixed after 2m")
_PAGED = f.Paged(destination=NAME, key=f"responder/main/i1/{NAME}/l0.0", why="level L1: not fixed after 2m")


def _beginning(**changes: object) -> tuple[f.Fact | int, ...]:
    return opened(**{**_OPENED, **changes}), _ALERT


def fixed() -> Incident:
    """It helped, and the alert is over."""
    why = "1.42 < 1.7 held for 30s"
    over = f.AlertResolved(fingerprint="a", ends_at=None)
    closed = f.Closed(why="fixed, and nothing fires any more")
    ran = f.RunEnded(run=1, result=Result.FIXED, why=why)
    return told(*_beginning(), *_ACTED, MINUTE, ran, over, MINUTE, closed)


def unfixed() -> Incident:
    """It did not help; the first level was paged, and nobody has it."""
    ran = f.RunEnded(run=1, result=Result.INEFFECTIVE, why="1.94 < 1.7 did not hold within 2m")
    return told(*_beginning(), *_ACTED, 2 * MINUTE, ran, _LEVEL, _PAGED)


def unknown() -> Incident:
    """Nobody knows whether the change was made."""
    detail = "risk-api: POST /api/risk/emergency-reduce: no answer in time; the change may have happened"
    return told(
        *_beginning(), _STARTED, intended(plan=a_plan(preview=PREVIEW)), SECOND, ended(Outcome.UNKNOWN, detail=detail),
        f.StepEnded(run=1, step="cut", status=StepStatus.UNKNOWN, why=detail),
        f.ProblemFound(problem="cut may or may not have happened: look, then settle it"),
        f.RunEnded(run=1, result=Result.UNKNOWN, why="cut may or may not have happened"), _LEVEL, _PAGED,
        30 * SECOND, f.Acknowledged(note="looking"), actor="asha",
    )  # fmt: skip


def observed() -> Incident:
    """A runbook that only says what it would do."""
    run = started(runbook="var-breach", mode=Mode.OBSERVE)
    would = f.Previewed(run=1, step="cut", preview=PREVIEW, verdicts=())
    return told(*_beginning(mode=Mode.OBSERVE), run, would, f.RunEnded(run=1, result=Result.OBSERVED, why=""))


def unanswered() -> Incident:
    """No runbook answers the alert, and nothing is known but its labels."""
    alert = fired(labels={"alertname": "Strange"})
    return told(opened(runbook=None, title="Strange", target="", severity=None), alert)


def working() -> Incident:
    """The run is under way; many alerts fire."""
    many = (fired(f"f{n}", labels={**ALERT, "symbol": f"S{n}-USD"}, joined=True) for n in range(12))
    return told(*_beginning(), *many, *_ACTED[:4])


def hostile(text: str) -> Incident:
    """Everything that comes from outside says `text`."""
    began = opened(title=text, impact=text, target=text, runbook="var-breach", severity=text, links={text: text})
    alert = fired(labels={"alertname": text, "symbol": text}, annotations={"summary": text}, severity=text)
    mad = f.ProblemFound(problem=text)
    return told(began, alert, mad, _STARTED, intended(plan=a_plan(preview=text)), ended(Outcome.OK, detail=text))


STATES: Final = {
    "fixed": fixed,
    "unfixed": unfixed,
    "unknown": unknown,
    "observed": observed,
    "unanswered": unanswered,
    "working": working,
}


def _news(kind: str, about: Incident) -> f.Fact | None:
    """What happened last, as this kind of message tells it."""
    run = about.run
    match kind:
        case "page":
            return _LEVEL
        case "resolve":
            return f.Closed(why=about.closed_why or "nothing fires any more")
        case "thread" if run is not None and run.result is not None:
            return f.RunEnded(run=run.number, result=run.result, why=run.why)
        case "thread":
            return f.ProblemFound(problem=about.title)
    return None


def message(
    notifier: Notifier, kind: str, about: Incident, *, previous: str = "", fact: f.Fact | None = None
) -> Message:
    """What delivery hands over. `fact`: the news, by default one that fits the kind."""
    news = fact or _news(kind, about)
    event = (
        None
        if news is None
        else f.Event(id=f"e9:{kind}", incident=about.id, seq=9, at=NEWS_AT, actor="desk", fact=news)
    )
    said = "" if event is None else story.sentence(event, about, TEMPLATES.render)
    values = {**story.state_values(about, NEWS_AT), "destination": NAME, "sentence": said, "at": NEWS_AT}
    values["kind"] = None if news is None else news.kind
    text = said if kind == "thread" else TEMPLATES.render(f"text/{kind}.txt.j2", values)
    key = {"root": root_id(about.id, NAME), "thread": f"{about.id}:{NAME}"}.get(kind, _PAGED.key)
    return Message(
        id=key if kind == "root" else f"e9:{kind}:{NAME}",
        lane="page" if kind in ("page", "resolve") else kind,
        kind=kind,
        key=key,
        text=" ".join(text.split()),
        body=notifier.compose(kind, values, TEMPLATES.render),
        incident=about,
        event=event,
        previous=previous,
        resolves=kind == "resolve",
    )


def renamed(given: Message, incident: str) -> Message:
    """The same message about an incident with another id."""
    return replace(given, incident=given.incident.model_copy(update={"id": incident}))


def without_template(given: Message, text: str) -> Message:
    """The message when its template is broken."""
    return replace(given, text=text, body=None)


def secret(value: str) -> Secret:
    """A secret that says where it comes from, and nothing else."""
    return Secret("env THE_SECRET", lambda: value)
