"""`responder status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from responder.cli.client import Asked, asks
from responder.cli.handover import value_told
from responder.cli.incidents import incident_table
from responder.cli.output import (
    SHORT,
    ago,
    clock,
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
from responder.timing import humanize

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
    yield from _overrides(status.get("overrides", []), now)
    yield text("")
    yield from _incidents(status["incidents"], status.get("open", len(status["incidents"])), now)
    yield from _locks(status["locks"], now)
    yield from _changes(status["in_force"], now)
    yield from _timers(status.get("timers", []), now)


def _automation(status: dict[str, Any], now: int) -> Text:
    pause, halted = status["pause"], status.get("halted")
    if halted is not None:
        return text(f"AUTOMATION IS PAUSED: {halted}; people are paged as always. To go on: remove it", "bold yellow")
    if pause is None:
        return text("automation acts", "green")
    since = ago(moment(pause["at"]) or now, now)
    said = f"AUTOMATION IS PAUSED by {pause['actor']} {since}: {pause['reason']}; people are paged as always."
    return text(f"{said} To go on: responder resume", "bold yellow")


def _overrides(overrides: list[dict[str, Any]], now: int) -> Iterator[RenderableType]:
    for one in overrides:
        until = clock(moment(one["until"]) or now, now)
        used = "" if one["run"] is None else f", used by run {one['run']}"
        verb = "lets"
        if one.get("finishing"):
            verb, used = "let", f": run {one['run']} is finishing"
        said = f"{one['actor']} {verb} {one['runbook']} act outside its hours until {until}{used}: {one['note']}"
        yield text(f"{said} (incident {one['incident'][:SHORT]})", "yellow")


def _incidents(incidents: list[dict[str, Any]], total: int, now: int) -> Iterator[RenderableType]:
    """`total`: how many are open; the answer has not more than the latest 500."""
    total = max(total, len(incidents))
    yield heading(f"{count(total, 'open incident')}")
    if not incidents:
        return
    yield incident_table(incidents, now)
    if total > len(incidents):
        yield text(f"and {total - len(incidents):,} more: responder incidents --status open", "bold yellow")


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
        beneath: dict[str, Any] | None = change
        while beneath is not None:
            later = "" if beneath is change else "; beneath the change above"
            yield text(f"{_change(beneath, change.get('target', ''), now)}{later}; to put it back:")
            yield text(f"  responder restore {beneath['incident'][:SHORT]}")
            beneath = beneath.get("beneath")


def _change(change: dict[str, Any], target: str, now: int) -> str:
    """`risk-api/kelly_fraction 0.1, was 0.25, 3h 00m`; what has no value is told as it was previewed."""
    lasted = humanize(max(0, now - (moment(change["since"]) or now)))
    if change.get("value") is None:
        return f"{change['preview']}, {lasted}"
    return f"{target} {value_told(change['value'])}, was {value_told(change.get('before'))}, {lasted}"


NEXT = 3
"""Timers that are told; the JSON has more."""


def _timers(timers: list[dict[str, Any]], now: int) -> Iterator[RenderableType]:
    timers = [one for one in timers if one.get("what")]  # what has no words does not matter to people
    if not timers:
        return
    yield text("")
    yield heading("what comes by itself next")
    rows = []
    for one in timers[:NEXT]:
        at = moment(one["at"]) or now
        rows.append((text(clock(at, now)), text(ago(at, now)), text(one["incident"][:SHORT]), text(one["what"])))
    yield table(("AT", "IN", "INCIDENT", "WHAT"), rows)
