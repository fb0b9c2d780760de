"""`responder incident ID`: one incident, the way somebody reads it who has just been woken.

First what is to be done and by when, then what automation did, then everything that happened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from responder.cli.client import Asked, Failed, Incident, asks, incident_path
from responder.cli.incidents import past, who_has
from responder.cli.output import (
    SHORT,
    clock,
    count,
    counted_down,
    heading,
    moment,
    now_of,
    pairs,
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

_NAMED: Final = 6
"""Alerts that are named one by one."""
_TAKING_BACK: Final = ("restore", "undo")
"""Causes of runs that put a change back, which is no word about the alert."""
_LIVE: Final = "live"
"""The namespace of what really happens."""
_ITSELF: Final = "responder"
"""The actor of what automation does."""


Postmortem = Annotated[bool, typer.Option("--postmortem", help="Print the draft of a post-mortem, as Markdown.")]
Templates = Annotated[
    Path | None, typer.Option("--templates", metavar="DIR", help="Your own templates, for --postmortem.")
]


@asks
def command(asked: Asked, incident: Incident, postmortem: Postmortem = False, templates: Templates = None) -> int:
    """Tell one incident: what is to be done, what is next and when, what each run did, and the whole timeline (UTC).

    With --postmortem: a Markdown draft from its journal, with fields for what only people know.
    """
    if templates is not None and not postmortem:
        raise typer.BadParameter("only --postmortem is made of a template", param_hint="--templates")
    answer, date = asked.server.get(incident_path(incident))
    if postmortem:
        return _drafted(asked, answer, now_of(date), templates)
    if asked.json:
        print_json(answer)
        return 0
    out = paper()
    for part in told(answer, now_of(date)):
        out.print(part)
    return 0


def _drafted(asked: Asked, incident: dict[str, Any], now: int, own: Path | None) -> int:
    """Print the post-mortem's draft; as JSON what it is made of."""
    from responder.errors import BadConfig
    from responder.messages import TemplateError
    from responder.notifiers import message_templates
    from responder.postmortem import LARGEST, TEMPLATE, markdown_values, postmortem

    standing, _ = asked.server.get("/status")
    known = postmortem(incident, standing, now)
    if asked.json:
        print_json(known)
        return 0
    try:
        print(message_templates(own).render(TEMPLATE, markdown_values(known), LARGEST))
    except (BadConfig, TemplateError) as error:
        raise Failed(str(error), 1) from None
    return 0


def told(incident: dict[str, Any], now: int) -> Iterator[RenderableType]:
    """The whole incident in the order in which it is needed."""
    yield text(incident["title"], "bold")
    if incident["impact"]:
        yield text(incident["impact"])
    yield text("")
    yield pairs(_facts(incident, now))
    todo = list(to_do(incident))
    if todo:
        yield text("")
        yield heading("to do")
        yield from (text(line, "bold") for line in todo)
    for run in incident["runs"]:
        yield text("")
        yield from _run(run, now)
    yield text("")
    yield heading("timeline (UTC)")
    yield _timeline(incident, now)


def _facts(incident: dict[str, Any], now: int) -> Iterator[tuple[str, RenderableType]]:
    yield "status", _status(incident)
    urgent = [incident["urgent"]] if incident["urgent"] else []
    for problem in dict.fromkeys([*urgent, *incident["problems"]]):
        yield "problem", text(problem, "bold red")
    yield "opened", _since(incident["opened_at"], now)
    if incident["closed_at"]:
        yield "closed", _since(incident["closed_at"], now).append_text(text(f": {incident['closed_why']}"))
    else:
        waits = counted_down(incident["waits_for"], now)
        yield "waits", text(waits)
        yield from (("next", text(line)) for line in _next(incident, now) if line != waits)
    yield "who", text(_who(incident))
    yield "target", text(incident["target"])
    yield "runbook", text(f"{incident['runbook']}, mode {incident['mode']}" if incident["runbook"] else "none")
    yield "alerts", _alerts(incident)
    for title, url in incident["links"].items():
        yield "link", text(f"{title}: {url}")
    yield "incident", text(incident["id"])


def _status(incident: dict[str, Any]) -> Text:
    said = word(incident["status"])
    if incident["result"] is not None:
        said.append(", ").append_text(word(incident["result"]))
    return said.append(", severity ").append_text(word(incident["severity"]))


def _since(at: str, now: int) -> Text:
    us = moment(at) or now
    return text(f"{clock(us, now)} UTC, {past(us, now)}")


def _alerts(incident: dict[str, Any]) -> Text:
    alerts = incident["alerts"]
    if not alerts:
        scheduled = any(event["kind"] == "schedule_due" for event in incident["events"])
        return text("none: started by its schedule" if scheduled else "none")
    named = [f"{_alert(alert)}{'' if alert['firing'] else ' (ended)'}" for alert in alerts[:_NAMED]]
    more = [f"and {len(alerts) - _NAMED} more"] if len(alerts) > _NAMED else []
    return text(f"{incident['firing']} firing: {', '.join([*named, *more])}")


def _alert(alert: dict[str, Any]) -> str:
    labels = alert["labels"]
    own = [f"{k}={v}" for k, v in sorted(labels.items()) if k not in ("alertname", "severity", "platform", "env")]
    return " ".join([labels.get("alertname", "an alert without a name"), *own])


def _who(incident: dict[str, Any]) -> str:
    """Who has it, and who was paged."""
    person = incident["taken_over"] or incident["acknowledged"]
    has = who_has(incident) or "nobody yet"
    note = f": {person['note']}" if person and person["note"] else ""
    paged = dict.fromkeys(e["fact"]["destination"] for e in incident["events"] if e["kind"] == "paged")
    return f"{has}{note}{'; paged: ' + ', '.join(paged) if paged else ''}"


def _next(incident: dict[str, Any], now: int) -> list[str]:
    """What comes by itself, soonest first: at most three."""
    dues = [due for due in incident["agenda"] if due["what"]]
    return [f"{counted_down(due['at'], now)}: {due['what']}" for due in dues[:3]]


def to_do(incident: dict[str, Any]) -> Iterator[str]:
    """What a person can do about it now, as commands; about a replay there is nothing to do."""
    if incident["namespace"] != _LIVE:
        return
    short = incident["id"][:SHORT]
    for attempt in _unsettled(incident):
        yield f"look whether it happened: {attempt['preview']}. Then:"
        which = f" --attempt {attempt['id']}" if len(incident["unsettled"]) > 1 else ""
        yield f"  responder settle {short}{which} --applied (or --not-applied) --reason '…'"
    approval = incident["approval"]
    if approval is not None:
        people = "" if approval["people"] == 1 else f" ({len(approval['approved'])} of {approval['people']} have)"
        until = f"{approval['until'][11:16]} UTC"
        yield f"the role {approval['role']} must approve by {until}{people}: {approval['preview']}"
        yield f"  responder approve {short} --plan {approval['plan']}    (or responder deny {short})"
    for event in _asked(incident):
        yield f"do by hand: {event['fact']['instruction']}. Then:"
        yield f"  responder done {short} {event['fact']['step']}"
    if incident["closed_at"] is None and not who_has(incident):
        yield f"responder ack {short}       when you have seen it"
        yield f"responder takeover {short}  to stop automation and go on by hand"


def _unsettled(incident: dict[str, Any]) -> list[dict[str, Any]]:
    attempts = (a for run in incident["runs"] for step in run["steps"] for a in step["attempts"])
    return [a for a in attempts if a["id"] in incident["unsettled"]]


def _asked(incident: dict[str, Any]) -> list[dict[str, Any]]:
    """The events that ask for a manual step which nobody has done yet."""
    open_steps = {
        (run["number"], step["id"])
        for run in incident["runs"]
        for step in run["steps"]
        if step["status"] == "asked" and run["ended_at"] is None
    }
    asked = (event for event in incident["events"] if event["kind"] == "manual_asked")
    return [event for event in asked if (event["fact"]["run"], event["fact"]["step"]) in open_steps]


# --- runs and timeline ------------------------------------------------------------------------------------------------


def _run(run: dict[str, Any], now: int) -> Iterator[RenderableType]:
    because = run["cause"].replace("_", " ")
    said = heading(f"run {run['number']}").append_text(text(f"  {run['runbook']} on {run['target']} ({because}): "))
    put_back = run["result"] == "fixed" and run["cause"] in _TAKING_BACK
    yield said.append_text(word("put back" if put_back else run["result"] or run["phase"]))
    if run["why"]:
        yield text(f"  {run['why']}")
    rows = [(word(step["status"]), text(_step(step))) for step in run["steps"]]
    rows += [(text("check", "dim"), text(_check(check, now))) for check in run["checks"]]
    rows += [(text("evidence", "dim"), text(line)) for line in _evidence(run["evidence"] or [])]
    yield table(("", ""), rows)


def _step(step: dict[str, Any]) -> str:
    attempts = step["attempts"]
    preview = attempts[-1]["preview"] if attempts else ""
    detail = _news(preview, step["why"] or (attempts[-1]["detail"] if attempts else ""))
    tries = f"attempt {len(attempts)}" if len(attempts) > 1 else ""
    return ": ".join(dict.fromkeys(part for part in (step["id"], preview, tries, detail) if part))


def _news(preview: str, said: str) -> str:
    """What was said about a step without the preview that stands before it: `PUT /a on oms: 200` is `200`."""
    head, colon, rest = said.partition(": ")
    return rest if head and colon and preview.endswith(head) else said


def _check(check: dict[str, Any], now: int) -> str:
    if check["error"] is not None or check["value"] is None:
        return f"{check['check']} has no value: {check['error'] or 'empty'}"
    seen = moment(check["observed_at"] or check["asked_at"])
    return f"{check['check']} = {check['value']}{'' if seen is None else ', ' + past(seen, now)}"


def _evidence(items: list[dict[str, Any]]) -> Iterator[str]:
    """Each reading; those that failed for one reason are one line."""
    failed: dict[str, list[str]] = {}
    for item in items:
        if item["error"] is None:
            yield f"{item['title']}: {item['value']}"
        else:
            failed.setdefault(item["error"], []).append(item["title"])
    for error, titles in failed.items():
        yield f"{count(len(titles), 'reading')} not to be had ({', '.join(dict.fromkeys(titles))}): {error}"


def _timeline(incident: dict[str, Any], now: int) -> RenderableType:
    """Every event: the time, how long after the opening, which person (blank: the responder itself), what happened."""
    opened = moment(incident["opened_at"]) or now
    rows, attempt = [], ""
    for event in incident["events"]:
        if event["kind"] == "step_ended" and attempt.startswith(event["text"]):
            continue  # a step's only attempt and the step itself end with the same sentence, or its beginning
        attempt = event["text"] if event["kind"] == "attempt_ended" else attempt
        at = moment(event["at"]) or now
        who = "" if event["actor"] == _ITSELF else event["actor"]
        rows.append((text(clock(at, now)), text(f"+{humanize(max(0, at - opened))}"), text(who), text(_event(event))))
    return table(("TIME", "AFTER", "BY", "WHAT"), rows)


def _event(event: dict[str, Any]) -> str:
    """Its sentence. Readings stand with their run, where there is room for them."""
    if event["kind"] != "evidence_gathered":
        return str(event["text"])
    return f"Evidence: {count(len(event['fact']['items']), 'reading')}, see run {event['fact']['run']} above"
