"""What people say about an incident, and about automation as a whole: `responder ack`, `takeover`, `done`, `settle` …

The server decides whether it makes sense and whether they may (`commands`, `web.verbs`); nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from responder.cli.client import Asked, Failed, Incident, asks, incident_path
from responder.cli.output import SHORT, paper, print_json, text
from responder.errors import BadSyntax
from responder.timing import SECOND, parse_duration

Note = Annotated[str, typer.Option(metavar="TEXT", help="What others should know.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; needed, for others will wonder.")]
Step = Annotated[str | None, typer.Argument(metavar="[STEP]", help="Which step; else the one it waits for.")]
Attempt = Annotated[str | None, typer.Option(metavar="ID", help="Which change, when several are unknown.")]
Applied = Annotated[
    bool | None, typer.Option("--applied/--not-applied", help="Whether the change happened; look first.")
]


@asks
def ack(asked: Asked, incident: Incident, note: Note = "") -> int:
    """Say that you have seen an incident.

    Its policy stops climbing until the acknowledgement runs out. What the runbook promises `unless_fixed` still comes;
    to stop that as well, take it over.
    """
    return _say(asked, incident, "ack", {"note": note})


@asks
def takeover(asked: Asked, incident: Incident, note: Note = "") -> int:
    """Take an incident over: after the step in flight automation does nothing more about it, and nobody is paged."""
    return _say(asked, incident, "takeover", {"note": note})


@asks
def snooze(
    asked: Asked,
    incident: Incident,
    lasts: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long, 1m to 24h.")] = "1h",
    note: Note = "",
) -> int:
    """Nobody is woken by the policy for a while; then its climb goes on with the time that was left.

    What the runbook promises `unless_fixed` still comes.
    """
    return _say(asked, incident, "snooze", {"lasts": _seconds(lasts), "note": note})


@asks
def escalate(asked: Asked, incident: Incident, note: Note = "") -> int:
    """Tell the next level of the policy now, whoever has the incident."""
    return _say(asked, incident, "escalate", {"note": note})


@asks
def hold(
    asked: Asked,
    incident: Incident,
    lasts: Annotated[str, typer.Option("--for", metavar="DURATION", help="How much later, 1m to 15m.")] = "5m",
    note: Note = "",
) -> int:
    """Put off what a countdown has announced, to have time to look. It still comes; to stop it, take over."""
    return _say(asked, incident, "hold", {"lasts": _seconds(lasts), "note": note})


@asks
def override(
    asked: Asked,
    incident: Incident,
    lasts: Annotated[str, typer.Option("--for", metavar="DURATION", help="It must begin within, 1m to 12h.")] = "1h",
    reason: Reason = "",
) -> int:
    """Let one run of an incident act outside the hours of its runbook, once. No other limit is lifted.

    Needs the role operator. It is over when that run ends or the time does; told in the thread, kept in the journal.
    """
    body = {"lasts": _seconds(lasts), "reason": _needed(reason, "the desk has agreed to act during the freeze")}
    return _say(asked, incident, "override", body)


@asks
def cancel(asked: Asked, incident: Incident, note: Note = "") -> int:
    """Stop the run: nothing more is changed after the step in flight, and what was done is still verified."""
    return _say(asked, incident, "cancel", {"note": note})


@asks
def approve(
    asked: Asked,
    incident: Incident,
    step: Step = None,
    plan: Annotated[
        str | None, typer.Option(metavar="HASH", help="Only when this is still what would be done.")
    ] = None,
    note: Note = "",
) -> int:
    """Say yes to what a run asks: exactly what `responder incident` shows is done, once.

    Needs the role that the step names. Without --plan it is what is asked now, which is said before the answer.
    """
    if plan is None:
        plan = _asked_now(asked, incident)
    return _say(asked, incident, "approve", {"step": step, "plan": plan, "note": note})


@asks
def deny(asked: Asked, incident: Incident, step: Step = None, note: Note = "") -> int:
    """Say no to what a run asks: it is not done, and the run ends. Needs the role that the step names."""
    return _say(asked, incident, "deny", {"step": step, "note": note})


@asks
def note(
    asked: Asked,
    incident: Incident,
    words: Annotated[str, typer.Argument(metavar="TEXT", help="What others should know.")],
) -> int:
    """Leave a word in an incident's story, for everybody who reads it."""
    return _say(asked, incident, "note", {"note": words})


@asks
def done(
    asked: Asked,
    incident: Incident,
    step: Step = None,
    note: Note = "",
) -> int:
    """Say that the manual step an incident waits for is done: the run goes on."""
    return _say(asked, incident, "done", {"step": step, "note": note})


@asks
def settle(
    asked: Asked, incident: Incident, applied: Applied = None, reason: Reason = "", attempt: Attempt = None
) -> int:
    """Say whether a change of unknown outcome happened. Look at the service itself before you do."""
    if applied is None:
        raise Failed("say what you found: --applied when the change happened, --not-applied when it did not")
    body = {"applied": applied, "reason": _needed(reason, "the risk API shows 0.1"), "attempt": attempt}
    return _say(asked, incident, "settle", body)


@asks
def unlock(asked: Asked, incident: Incident, reason: Reason = "") -> int:
    """Release the lock on an incident's target, so that other runs may change it again."""
    return _say(asked, incident, "unlock", {"reason": _needed(reason, "put right by hand")})


@asks
def restore(asked: Asked, incident: Incident) -> int:
    """Put back the change that an incident has in force. Needs the role that the runbook's step names."""
    return _say(asked, incident, "restore", {})


Runbook = Annotated[str | None, typer.Option("--runbook", metavar="NAME", help="Only this runbook.")]
Service = Annotated[str | None, typer.Option("--service", metavar="NAME", help="Only what uses this service.")]


@asks
def pause(
    asked: Asked,
    reason: Reason = "",
    runbook: Runbook = None,
    service: Service = None,
    lasts: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="How long, at most 24h; else until resumed.")
    ] = None,
) -> int:
    """Stop automation: no step is begun until somebody resumes. Paging goes on; trading is not touched."""
    body: dict[str, Any] = {"reason": _needed(reason, "exchange maintenance"), "runbook": runbook, "service": service}
    return _switched(asked, "/pause", {**body, "lasts": None if lasts is None else _seconds(lasts)}, runbook or service)


@asks
def resume(asked: Asked, note: Note = "", runbook: Runbook = None, service: Service = None) -> int:
    """Let automation act again; runs that waited go on by themselves."""
    return _switched(asked, "/resume", {"note": note, "runbook": runbook, "service": service}, runbook or service)


def _asked_now(asked: Asked, incident: str) -> str | None:
    """The plan that is asked at this moment, told before it is approved."""
    found = asked.server.get(incident_path(incident))[0]["approval"]
    if found is None:
        return None
    if not asked.json:
        paper().print(text(f"{found['preview']} (plan {found['plan']})"))
    return str(found["plan"])


def _seconds(written: str) -> float:
    try:
        return parse_duration(written) / SECOND
    except BadSyntax as error:
        raise Failed(str(error)) from None


def _needed(reason: str, example: str) -> str:
    if not reason.strip():
        raise Failed(f"say why, for others will wonder: --reason '{example}'")
    return reason


_DONE: Final[Mapping[str, str]] = {
    "ack": "acknowledged",
    "takeover": "taken over: automation does nothing more about it",
    "snooze": "snoozed",
    "escalate": "the next level is told now",
    "hold": "held: it comes later",
    "override": "one run may act outside its hours",
    "cancel": "the run stops after the step in flight",
    "approve": "approved",
    "deny": "denied: it is not done",
    "note": "noted",
    "done": "noted: the run goes on",
    "settle": "settled",
    "unlock": "unlocked",
    "restore": "being put back, as a run of its own",
}


def _say(asked: Asked, incident: str, verb: str, body: dict[str, Any]) -> int:
    answer = asked.server.post(f"{incident_path(incident)}/{verb}", body)
    if asked.json:
        print_json(answer)
        return 0
    found = answer["incident"]
    paper().print(text(f"{_DONE[verb]}. {found['title']} ({found['target']}) is {found['status']}"))
    paper().print(text(f"to follow it: responder incident {found['id'][:SHORT]}", "dim"))
    return 0


def _switched(asked: Asked, path: str, body: dict[str, Any], what: str | None) -> int:
    answer = asked.server.post(path, body)
    if asked.json:
        print_json(answer)
        return 0
    pause = answer["pause"]
    whose = what or "automation"
    if pause["paused"]:
        until = f" until {pause['until'][:19]}Z" if pause.get("until") else ""
        said = f"{whose} is paused{until}, said {pause['actor']}: {pause['reason']}. To go on: responder resume"
    else:
        said = f"{whose} acts"
    paper().print(text(said))
    return 0
