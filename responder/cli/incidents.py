"""`responder incidents`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from responder.cli.client import Asked, asks
from responder.cli.output import (
    SHORT,
    ago,
    count,
    counted_down,
    moment,
    now_of,
    paper,
    plain,
    print_json,
    table,
    text,
    word,
)
from responder.timing import SECOND

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Status = Annotated[
    str | None,
    typer.Option(metavar="STATUS", help="open, closed, acting, verifying, waiting or acknowledged; else all."),
]
Target = Annotated[str | None, typer.Option(metavar="TARGET", help="Only those of a target, such as redis:mymaster.")]
Replay = Annotated[
    str | None, typer.Option(metavar="NAME", help="Those of a replay on this server (`responder replay --to`).")
]
Limit = Annotated[int, typer.Option(metavar="NUMBER", min=1, max=500, help="How many.")]


@asks
def command(
    asked: Asked, status: Status = None, target: Target = None, replay: Replay = None, limit: Limit = 20
) -> int:
    """List incidents, newest first."""
    namespace = None if replay is None else f"replay/{replay}"
    answer, date = asked.server.get("/incidents", status=status, target=target, namespace=namespace, limit=str(limit))
    if asked.json:
        print_json(answer)
        return 0
    found = answer["incidents"]
    out = paper()
    if not found:
        out.print(text(f"no {status or ''} incidents"))
        return 0
    out.print(incident_table(found, now_of(date)))
    if answer["next"] is not None:
        out.print(text(f"\nthe newest {count(len(found), 'incident')}; more with --limit", "dim"))
    return 0


def incident_table(incidents: list[dict[str, Any]], now: int) -> Table:
    """An incident a row: its title, below it what is touched, who has it, and what it waits for where that is known."""
    rows = [
        (
            text(incident["id"][:SHORT]),
            word(incident["result"] if incident["status"] == "closed" else incident["status"]),
            word(incident["severity"]),
            text(past(moment(incident["opened_at"]) or now, now)),
            _story(incident, now),
        )
        for incident in incidents
    ]
    return table(("ID", "STATUS", "SEVERITY", "OPENED", "INCIDENT"), rows)


def _story(incident: dict[str, Any], now: int) -> Text:
    told = text(incident["title"], "bold")
    below = [", ".join(part for part in (incident["target"], who_has(incident)) if part)]
    below += [f"waits: {counted_down(incident['waits_for'], now)}"] if incident.get("waits_for") else []
    for line in below:
        told.append("\n").append(plain(line))
    return told


def past(at: int, now: int) -> str:
    """How long ago something was that has happened: never in the future, for the present comes in whole seconds."""
    return ago(at, now) if now - at >= SECOND else "just now"


def who_has(incident: dict[str, Any]) -> str:
    """Who took it over, else who acknowledged or snoozed it."""
    if incident["taken_over_by"]:
        return f"{incident['taken_over_by']} has taken over"
    if incident["snoozed_by"]:
        return f"{incident['snoozed_by']} has snoozed"
    return f"{incident['acknowledged_by']} has acknowledged" if incident["acknowledged_by"] else ""
