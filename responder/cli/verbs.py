"""What people say about an incident, and about automation as a whole: `responder ack`, `takeover`, `done`, `settle` …

The server decides whether it makes sense and whether they may (`commands`, `web.verbs`); nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from responder.cli.client import Asked, Failed, Incident, asks, incident_path
from responder.cli.output import SHORT, paper, print_json, text

Note = Annotated[str, typer.Option(metavar="TEXT", help="What others should know.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; needed, for others will wonder.")]
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
def done(
    asked: Asked,
    incident: Incident,
    step: Annotated[str | None, typer.Argument(metavar="[STEP]", help="Which step; else the one it waits for.")] = None,
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


@asks
def pause(asked: Asked, reason: Reason = "") -> int:
    """Stop all automation: no step is begun until somebody resumes. Paging goes on; trading is not touched."""
    body = {"reason": _needed(reason, "exchange maintenance")}
    return _switched(asked, "/pause", body)


@asks
def resume(asked: Asked, note: Note = "") -> int:
    """Let automation act again; runs that waited go on by themselves."""
    return _switched(asked, "/resume", {"note": note})


def _needed(reason: str, example: str) -> str:
    if not reason.strip():
        raise Failed(f"say why, for others will wonder: --reason '{example}'")
    return reason


_DONE: Final[Mapping[str, str]] = {
    "ack": "acknowledged",
    "takeover": "taken over: automation does nothing more about it",
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


def _switched(asked: Asked, path: str, body: dict[str, Any]) -> int:
    answer = asked.server.post(path, body)
    if asked.json:
        print_json(answer)
        return 0
    pause = answer["pause"]
    if pause["paused"]:
        said = f"automation is paused, said {pause['actor']}: {pause['reason']}. To go on: responder resume"
    else:
        said = "automation acts"
    paper().print(text(said))
    return 0
