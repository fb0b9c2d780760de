"""Messages for Slack as delivery hands them over, and the incidents that they are about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from responder import facts as f
from responder import story
from responder.choices import choices
from responder.contracts import Line, Message, Notifier, Secret
from responder.incident import Due, Incident
from responder.notifiers import message_templates
from responder.notifiers.slack import Slack
from responder.policies import Policy
from responder.recorded import Mode, Outcome, Result, StepStatus
from responder.telling import broadcast, mentions, root_id
from responder.timing import MINUTE, SECOND
from tests.builders import ALERT, T0, a_plan, a_policy, ended, fired, intended, opened, started, told
from tests.fakes.slack import TOKEN, FakeSlack

TEMPLATES = message_templates(None)
POLICY = Policy.model_validate(
    a_policy(
        levels=[
            {"name": "L1", "after": 0, "page": "first", "mention": ["S012DESK", "here"]},
            {"name": "L2", "after": "15m", "page": "second"},
        ]
    )
)
NOW = T0 + 3 * MINUTE
PREVIEW = "Kelly fraction 0.25 → 0.1 (VaR breach)"
ROOM = "room"


def secret(value: str) -> Secret:
    """A secret that says where it comes from, and nothing else."""
    return Secret("env THE_SECRET", lambda: value)


def slack(server: FakeSlack, **settings: Any) -> Slack:
    """A notifier that hears what is pressed."""
    known = {"token": secret(TOKEN), "channel": "#risk", "signing_secret": secret("s"), "base_url": server.base_url}
    return Slack(**{**known, **settings})


# --- incidents --------------------------------------------------------------------------------------------------------


def beginning(**changes: Any) -> tuple[f.Fact, ...]:
    """Opened by one alert, and a run begins."""
    links = {"dashboard": "https://grafana.example/d/edge-risk?a=1&b=2"}
    known = {"title": "VaR above 90 % of its limit", "impact": "At 2.5 % the breaker opens", "links": links, **changes}
    alert = fired(labels=dict(ALERT), annotations={"summary": "VaR is 1.92 %"})
    return opened(runbook="var-breach", **known), alert, started(runbook="var-breach")


def cut(outcome: Outcome = Outcome.OK, why: str = "") -> tuple[f.Fact | int, ...]:
    """The step was done, or nobody knows."""
    status = StepStatus.DONE if outcome is Outcome.OK else StepStatus.UNKNOWN
    done = f.StepEnded(run=1, step="cut", status=status, why=why)
    return intended(plan=a_plan(preview=PREVIEW)), SECOND, ended(outcome, detail="kelly_fraction is 0.1"), done


LEVEL = f.LevelReached(round=0, index=0, name="L1", page=("first",), why="not fixed after 2m")
PAGED = f.Paged(destination="first", key="responder/main/i1/first/l0.0", why="level L1")
INEFFECTIVE = f.RunEnded(run=1, result=Result.INEFFECTIVE, why="1.94 < 1.7 did not hold within 2m")
FIXED = f.RunEnded(run=1, result=Result.FIXED, why="1.42 < 1.7 held for 30s")
UNKNOWN = f.RunEnded(run=1, result=Result.UNKNOWN, why="cut may or may not have happened")
CLOSED = f.Closed(why="fixed, and nothing fires any more")
ASKED = f.ApprovalAsked(
    run=1, step="cut", plan="digest", preview=PREVIEW, role="risk-manager", people=2, until=NOW + 27 * MINUTE
)
APPROVED = f.Approved(run=1, step="cut", plan="digest")
NOTED = f.Noted(text="hedging by hand")


def unfixed(**changes: Any) -> Incident:
    """It did not help; the first level was paged, the second comes."""
    about = told(*beginning(**changes), *cut(), f.Verifying(run=1), INEFFECTIVE, LEVEL, PAGED)
    due = Due(kind="level", round=1, due=T0 + 15 * MINUTE, what="L2 is told, paging second")
    return about.model_copy(update={"agenda": (due,)})


def fixed() -> Incident:
    """It helped, and it is over."""
    return told(*beginning(), *cut(), f.Verifying(run=1), FIXED, 2 * MINUTE, CLOSED)


def unknown() -> Incident:
    """Nobody knows whether the change was made."""
    return told(*beginning(), *cut(Outcome.UNKNOWN, "no answer in time"), UNKNOWN, LEVEL, PAGED)


def approving(*further: f.Fact) -> Incident:
    """Two people are asked."""
    return told(*beginning(mode=Mode.APPROVE), ASKED, *further)


def hostile(text: str) -> Incident:
    """Everything that comes from outside says `text`."""
    began = opened(title=text, impact=text, target=text, runbook="var-breach", severity=text, links={text: text})
    alert = fired(labels={"alertname": text, "symbol": text}, annotations={"summary": text}, severity=text)
    asked = ASKED.model_copy(update={"preview": text, "why": text})
    return told(began, alert, f.ProblemFound(problem=text), started(), asked)


# --- messages ---------------------------------------------------------------------------------------------------------


def values(about: Incident, **more: Any) -> dict[str, Any]:
    """What every template sees."""
    offered = [choice.values() for choice in choices(about, POLICY)]
    known: dict[str, Any] = {**story.state_values(about, NOW), "destination": ROOM, "choices": offered, "mentions": []}
    return {**known, "lines": [], "sentence": "", "at": NOW, "kind": None, "broadcast": False, **more}


def root(notifier: Notifier, about: Incident, previous: str = "", **parts: Any) -> Message:
    """The root message of an incident."""
    seen = values(about)
    known: dict[str, Any] = {"text": TEMPLATES.render("text/root.txt.j2", seen).strip()}
    known |= {"body": notifier.compose("root", seen, TEMPLATES.render), "event": None}
    own = root_id(about.id, ROOM)
    return Message(
        **{
            "id": own,
            "lane": "root",
            "kind": "root",
            "key": own,
            "incident": about,
            "previous": previous,
            **known,
            **parts,
        }
    )


def reply(notifier: Notifier, about: Incident, *news: f.Fact, previous: str = "", **parts: Any) -> Message:
    """A line of the thread, or several in one message."""
    events = [f.Event(id=f"e{n}", incident="i1", seq=n, at=NOW, actor="desk", fact=x) for n, x in enumerate(news, 90)]
    lines = tuple(Line(e.fact.kind, story.sentence(e, about, TEMPLATES.render), e.at, e.seq) for e in events)
    caught = tuple(dict.fromkeys(who for e in events for who in mentions(about, e.fact, POLICY)))
    seen = values(
        about,
        lines=[{"kind": one.kind, "sentence": one.sentence, "at": one.at} for one in lines],
        sentence=lines[-1].sentence,
        kind=lines[-1].kind,
        mentions=list(caught),
    )
    known: dict[str, Any] = {
        "id": f"e{len(news)}:{news[-1].kind}:{ROOM}",
        "lane": "thread",
        "kind": "thread",
        "key": f"i1:{ROOM}",
        "text": "\n".join(line.sentence for line in lines),
        "body": notifier.compose("thread", seen, TEMPLATES.render),
        "incident": about,
        "event": events[-1],
        "previous": previous,
        "lines": lines,
        "mentions": caught,
        "broadcast": any(broadcast(x) for x in news),
    }
    return Message(**{**known, **parts})


def shown(blocks: list[dict[str, Any]]) -> str:
    """What people read, one block below the other; buttons in brackets."""
    return "\n".join(line for block in blocks for line in _lines(block))


def _lines(block: dict[str, Any]) -> list[str]:
    if block["type"] == "actions":
        return [" ".join(f"[{_label(one)}]" for one in block["elements"])]
    if block["type"] == "context":
        return [one["text"] for one in block["elements"]]
    return [block["text"]["text"]] if "text" in block else []


def _label(one: dict[str, Any]) -> str:
    return str(one["text"]["text"]) if "text" in one else "…" + "|".join(o["text"]["text"] for o in one["options"])


@asynccontextmanager
async def a_room(**settings: Any) -> AsyncIterator[tuple[FakeSlack, Slack]]:
    """Slack with two channels, and a notifier that tells the first."""
    async with FakeSlack(risk="C0RISK", quant="C0QUANT") as server:
        notifier = slack(server, **settings)
        await notifier.start()
        try:
            yield server, notifier
        finally:
            await notifier.stop()
