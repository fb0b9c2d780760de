"""`responder status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from responder.cli.client import Asked, asks
from responder.cli.incidents import incident_table
from responder.cli.output import (
    SHORT,
    ago,
    count,
    heading,
    held_by,
    moment,
    now_of,
    paper,
    print_json,
    table,
    text,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.text import Text


@asks
def command(asked: Asked) -> int:
    """What is open and what each incident waits for, locks, changes in force, and whether automation is paused.

    Exit status 1 when the responder says itself that it cannot work.
    """
    answer, date = asked.server.get("/status")
    if asked.json:
        print_json(answer)
    else:
        out = paper()
        for part in told(answer, asked.server.url, moment(answer.get("now")) or now_of(date)):
            out.print(part)
    return 1 if answer["unready"] else 0


def told(status: dict[str, Any], url: str, now: int) -> Iterator[RenderableType]:
    """The whole status, most urgent first."""
    rules = status["rules"]
    loaded = count(rules["runbooks"], "runbook")
    yield text(f"responder {status['version']} at {url}, {loaded}, rules {rules['hash'][:SHORT]}", "dim")
    for reason in status["unready"]:
        yield text(f"CANNOT WORK: {reason}", "bold red")
    yield _automation(status, now)
    for one in status.get("paused", ()):
        since = ago(moment(one["at"]) or now, now)
        until = f", until {one['until'][:19]}Z" if one.get("until") else ""
        yield text(f"{one['what']} is paused by {one['actor']} {since}{until}: {one['reason']}", "yellow")
    yield text("")
    yield from _incidents(status["incidents"], now)
    yield from _locks(status["locks"], now)
    yield from _changes(status["in_force"], now)


def _automation(status: dict[str, Any], now: int) -> Text:
    pause, halted = status["pause"], status.get("halted")
    if halted is not None:
        return text(f"AUTOMATION IS PAUSED: {halted}; people are paged as always. To go on: remove it", "bold yellow")
    if pause is None:
        return text("automation acts", "green")
    since = ago(moment(pause["at"]) or now, now)
    said = f"AUTOMATION IS PAUSED by {pause['actor']} {since}: {pause['reason']}; people are paged as always."
    return text(f"{said} To go on: responder resume", "bold yellow")


def _incidents(incidents: list[dict[str, Any]], now: int) -> Iterator[RenderableType]:
    yield heading(f"{count(len(incidents), 'open incident')}")
    if not incidents:
        return
    yield incident_table(incidents, now)


def _locks(locks: list[dict[str, Any]], now: int) -> Iterator[RenderableType]:
    if not locks:
        return
    yield text("")
    yield heading("locked targets")
    yield table(("TARGET", "INCIDENT", "SINCE", "WHY"), [_lock(lock, now) for lock in locks])


def _lock(lock: dict[str, Any], now: int) -> tuple[RenderableType, ...]:
    short = lock["incident"][:SHORT]
    why = text(held_by(lock))
    if lock["unknown"]:
        why = word("unknown").append_text(text(f" outcome of run {lock['run']}: responder incident {short}"))
    return (text(lock["target"]), text(short), text(ago(moment(lock["since"]) or now, now)), why)


def _changes(changes: list[dict[str, Any]], now: int) -> Iterator[RenderableType]:
    if not changes:
        return
    yield text("")
    yield heading("changes in force")
    for change in changes:
        yield text(f"{change['preview']}, {ago(moment(change['since']) or now, now)}; to put it back:")
        yield text(f"  responder restore {change['incident'][:SHORT]}")
