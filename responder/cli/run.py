"""`responder run RUNBOOK`: show what would be done and what every gate says, ask, and begin it; or only show it.

The server plans, judges and begins (`web.runs`), as the person whose credential is sent. A confirmation is for the plan
that was shown: one that has changed meanwhile is shown anew and asked about again.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from responder.cli.client import Asked, Failed, asks, incident_path
from responder.cli.options import pairs_of
from responder.cli.output import (
    SHORT,
    clock,
    heading,
    moment,
    now_of,
    pairs,
    paper,
    plain,
    print_json,
    table,
    text,
    word,
)
from responder.timing import SECOND, format_duration, humanize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.text import Text

_ASKED_AGAIN: Final = 3
"""How often a plan that changes under one's hands is shown anew."""
_POLL: Final = 1.0
"""Seconds between two looks of --wait."""
_GOOD: Final = ("fixed", "contained", "observed")
"""Results with which --wait ends well."""
_DOING: Final = {
    "change": "changes", "read": "reads", "manual": "a person", "nothing_to_do": "nothing to do", "skipped": "left out",
    "later": "known later", "failed": "not possible",
}  # fmt: skip

Named = Annotated[str, typer.Argument(metavar="RUNBOOK", help="The runbook's name.")]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", "-i", metavar="NAME=VALUE", help="An input; may be repeated.")
]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the incident's story.")]
Override = Annotated[
    str | None, typer.Option("--override", metavar="REASON", help="Act outside its hours, and say why.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the plan; nothing is changed.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: run exactly the plan that is printed.")]
Wait = Annotated[bool, typer.Option("--wait", help="Tell what happens until the run has ended.")]


@asks
def command(  # noqa: PLR0913  (typer takes options as parameters)
    asked: Asked,
    runbook: Named,
    inputs: Inputs = None,
    reason: Why = "",
    override: Override = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = False,
) -> int:
    """Start a runbook by hand: show its plan and what every gate says, ask, and begin it as an incident of its own.

    \b
    responder run halt-trading --dry-run
    responder run halt-trading --reason 'flash crash' --wait
    responder run model-restart --input symbol=BTC-USD
    responder run hot-reload --override 'agreed with the desk'

    The gates are those of every run. A runbook whose every step is a brake passes a pause, limits and the locks of
    others when you confirm it. What asks for an approval asks somebody else than you.

    Exit status 1 when a gate refuses or you say no; with --wait also when the run did not end well.
    """
    if asked.json and not (dry_run or yes):
        raise Failed("nobody can be asked in JSON: add --dry-run, or --yes to run the plan as it is")
    path = f"/runbooks/{quote(runbook, safe='')}"
    body: dict[str, Any] = {"inputs": pairs_of(inputs or [], "NAME"), "reason": reason}
    if override is not None:
        body["override"] = override
    plan = asked.server.post(f"{path}/plan", body)
    if dry_run:
        return _shown(asked, plan)
    begun = _begun(asked, path, body, plan, yes=yes)
    if begun is None:
        return 1
    return _told(asked, begun, wait=wait)


def _shown(asked: Asked, plan: dict[str, Any]) -> int:
    if asked.json:
        print_json(plan)
    else:
        _print(plan)
        said = "It would go ahead." if plan["goes_ahead"] else "It would not go ahead."
        paper().print(text(f"{said} Nothing was changed.", "bold"))
    return 0 if plan["goes_ahead"] else 1


def _begun(asked: Asked, path: str, body: dict[str, Any], plan: dict[str, Any], *, yes: bool) -> dict[str, Any] | None:
    """The server's answer to the confirmed plan; None when nothing was begun."""
    for _ in range(_ASKED_AGAIN):
        if not _confirmed(asked, plan, yes=yes):
            return None
        try:
            return asked.server.post(f"{path}/run", {**body, "plan": plan["plan"]})
        except Failed:
            again = asked.server.post(f"{path}/plan", body)
            if again["plan"] == plan["plan"]:
                raise
            plan = again
            paper().print(text("Nothing was begun: the plan has changed. It is now:", "bold yellow"))
            if yes:
                _print(plan)
                return None
    raise Failed("the plan changes too quickly to be confirmed: nothing was begun", 1)


def _confirmed(asked: Asked, plan: dict[str, Any], *, yes: bool) -> bool:
    if not asked.json:
        _print(plan)
    elif not plan["goes_ahead"]:
        print_json(plan)
    if not plan["goes_ahead"]:
        if not asked.json:
            paper().print(text("Nothing was begun: what is in the way stands above.", "bold"))
        return False
    if yes:
        return True
    try:
        return typer.confirm(_question(plan), default=False)
    except typer.Abort:
        print()
        return False


def _question(plan: dict[str, Any]) -> str:
    passed = [plain(one["gate"]) for one in plan["verdicts"] if one["warn"]]
    warned = f"You pass {', '.join(dict.fromkeys(passed))}. " if passed else ""
    if any(one["override"] for one in plan["verdicts"]):
        warned = f"It acts outside its hours, by your word. {warned}"
    if plan["brake"]:
        return f"{warned}It can only lower risk. Run it?"
    changes = any(step["doing"] in ("change", "later") for step in plan["steps"])
    return f"{warned}{'It is no brake: it may raise risk. ' if changes else ''}Run it?"


# --- telling a plan ---------------------------------------------------------------------------------------------------


def _print(plan: dict[str, Any]) -> None:
    out = paper()
    for part in told(plan):
        out.print(part)


def told(plan: dict[str, Any]) -> Iterator[RenderableType]:
    """The whole plan: what it is, what would be done, what the gates say, and what follows."""
    yield text(f"{plan['title']} ({plan['runbook']})", "bold")
    given = " ".join(f"{name}={value}" for name, value in plan["inputs"].items())
    kind = "a brake: it can only lower risk" if plan["brake"] else "no brake"
    yield pairs(
        [
            ("target", text(plan["target"])),
            ("mode", text(f"{plan['mode']}, {kind}")),
            *([("inputs", text(given))] if given else []),
            *([("override", text(plan["override"], "yellow"))] if plan.get("override") else []),
            *([("impact", text(plan["impact"]))] if plan["impact"] else []),
        ]
    )
    yield text("")
    yield heading("what would be done")
    yield table(("", "STEP", "", "WHAT"), [_step(number, one) for number, one in enumerate(plan["steps"], 1)])
    if plan["checks"]:
        yield text("")
        yield heading("what the checks say")
        yield table(("CHECK", "SAYS"), [(text(one["check"]), _check(one)) for one in plan["checks"]])
    yield text("")
    yield heading("what the gates say")
    yield table(("", "GATE", "WHY"), [_verdict(one) for one in plan["verdicts"]])
    yield from _afterwards(plan)
    yield text("")


def _step(number: int, step: dict[str, Any]) -> tuple[RenderableType, ...]:
    what = text(step["text"])
    if step["params"]:
        what.append_text(text(f" ({_given(step['params'])})", "dim"))
    approval = step["approval"]
    if approval is not None:
        who = f"{approval['people']} people" if approval["people"] > 1 else "somebody else than you"
        within = format_duration(round(approval["within"] * SECOND))
        asks_for = f"; {who} with the role {approval['role']} must approve it within {within}"
        what.append_text(text(asks_for, "yellow"))
    return text(number), text(step["id"]), text(_DOING.get(step["doing"], step["doing"])), what


def _given(params: dict[str, Any]) -> str:
    said = {name: value for name, value in params.items() if value not in (None, {}, [])}
    return ", ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in said.items()
    )


def _check(seen: dict[str, Any]) -> Text:
    return text(f"no value: {seen['error']}", "yellow") if seen["error"] else text(seen["value"])


_ANSWERS: Final = {"allow": "green", "ask": "yellow", "wait": "bold red", "deny": "bold red"}


def _verdict(one: dict[str, Any]) -> tuple[RenderableType, ...]:
    answer, style = one["answer"], _ANSWERS.get(one["answer"], "")
    if one["warn"]:
        answer, style = "warns", "yellow"
    return text(answer, style), text(one["gate"]), text(one["reason"])


def _afterwards(plan: dict[str, Any]) -> Iterator[RenderableType]:
    promises = [_promise(one) for one in plan["unless_fixed"]]
    rows = [*([("helped when", text(plan["verify"]))] if plan["verify"] else []), *promises]
    if rows:
        yield text("")
        yield heading("afterwards")
        yield pairs(rows)


def _promise(one: dict[str, Any]) -> tuple[str, Text]:
    pages = [f"{', '.join(one['page'])} is paged"] if one["page"] else []
    runs = [f"{one['run']} runs"] if one["run"] else []
    return f"else after {format_duration(round(one['after'] * SECOND))}", text(" and ".join([*runs, *pages]))


# --- after the beginning ----------------------------------------------------------------------------------------------


def _told(asked: Asked, begun: dict[str, Any], *, wait: bool) -> int:
    incident, number = begun["incident"], begun["run"]
    if not asked.json:
        paper().print(text(f"Begun as run {number} of incident {incident['id'][:SHORT]}.", "bold"))
        if not wait:
            paper().print(text(f"to follow it: responder incident {incident['id'][:SHORT]}", "dim"))
    if wait:
        return _followed(asked, incident["id"], number)
    if asked.json:
        print_json(begun)
    return 0


def _followed(asked: Asked, incident: str, number: int) -> int:
    """Tell every event as it comes until the run has ended."""
    seen = 0
    while True:
        answer, date = asked.server.get(incident_path(incident), after=str(seen))
        now = now_of(date)
        for event in answer["events"]:
            seen = event["seq"]
            if not asked.json and _has_line(event):
                paper().print(text(f"{clock(moment(event['at']) or now, now)} {plain(event['text'])}"))
        run = next(one for one in answer["runs"] if one["number"] == number)
        if run["phase"] == "ended":
            return _ended(asked, answer, run)
        time.sleep(_POLL)


def _has_line(event: dict[str, Any]) -> bool:
    """As in the thread: what another line says is not told twice."""
    from responder.telling import SILENT

    silent = event["kind"] in SILENT and (event["kind"] == "paged" or not event["fact"].get("supersedes"))
    return not silent and (event["kind"], event["fact"].get("outcome")) != ("attempt_ended", "ok")


def _ended(asked: Asked, incident: dict[str, Any], run: dict[str, Any]) -> int:
    if asked.json:
        print_json(incident)
    else:
        lasted = humanize((moment(run["ended_at"]) or 0) - (moment(run["started_at"]) or 0))
        paper().print(word(run["result"]).append_text(text(f" after {lasted}: {run['why']}")))
    return 0 if run["result"] in _GOOD else 1
