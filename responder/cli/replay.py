"""`responder replay`: what would be done about alerts, told like a story, without touching anything.

The engine, the rules and the templates are the real ones; time is virtual, and what services answer is written down
or assumed. Exit status 0 when every alert has a runbook and every incident ended well, with `--rules` when nothing
is decided differently; else 1; 2 when the command line, the configuration or rules are wrong. How it is played is
`rehearsal`, how it is shown `retelling`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from responder.cli.options import Config, Json, config_file, pairs_of
from responder.errors import BadConfig, BadRules, BadSyntax, Rejected
from responder.timing import SECOND

if TYPE_CHECKING:
    from responder.answers import Script
    from responder.assumptions import Assumption
    from responder.cli.rehearsal import Plot, Stage
    from responder.cli.replayed import Replay
    from responder.recordings import Recording

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH… | label=value…]",
        help="Notifications: files, directories, - for standard input. With --alert: its labels.",
    ),
]
Alert = Annotated[str | None, typer.Option("--alert", metavar="NAME", help="Make one alert of this name instead.")]
Annotations = Annotated[
    list[str] | None, typer.Option("--annotation", metavar="NAME=TEXT", help="An annotation of that alert; repeatable.")
]
Incident = Annotated[
    str | None, typer.Option("--incident", metavar="ID", help="What the running server received for this incident.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="2h|TIME", help="What the running server has received since then.")
]
AnswersFile = Annotated[
    Path | None, typer.Option("--answers", metavar="FILE", help="What services and people answer (docs/replay.md).")
]
Assume = Annotated[
    str | None,
    typer.Option(
        "--assume",
        metavar="fixed|unfixed|missing|failed|unknown",
        help="What is assumed where no file says it; fixed if not given.",
    ),
]
Others = Annotated[
    list[str] | None,
    typer.Option("--rules", metavar="PATH", help="Show what these rules decide differently; again for more."),
]
For = Annotated[
    str | None, typer.Option("--for", metavar="DURATION", help="How long to go on at most after the last word; 2h.")
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="When it begins (2026-11-20T17:02:42Z), for alerts without a time; now."),
]
Schedule = Annotated[
    str | None,
    typer.Option("--schedule", metavar="NAME", help="Let this runbook's schedule come due, at its next time."),
]
Speed = Annotated[float | None, typer.Option(metavar="N", help="Tell it in its own time, N times as fast.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it as one self-contained web page.")]
To = Annotated[
    str | None, typer.Option("--to", metavar="URL", help="Let a running responder answer, apart from real alerts.")
]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="What that replay is called; else by the time.")]

LONGEST: Final = "2h"


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line, by option; None for what it does not say."""

    words: tuple[str, ...]
    alert: str | None
    annotations: tuple[str, ...]
    incident: str | None
    since: str | None
    schedule: str | None
    at: str | None
    answers: Path | None
    assume: str | None
    rules: tuple[str, ...]
    for_: str | None
    speed: float | None
    html: Path | None
    to: str | None
    name: str | None
    config: Path | None
    json: bool


def command(  # noqa: PLR0913  (typer takes options as parameters)
    words: Words = None,
    alert: Alert = None,
    annotation: Annotations = None,
    incident: Incident = None,
    since: Since = None,
    schedule: Schedule = None,
    at: At = None,
    answers: AnswersFile = None,
    assume: Assume = None,
    rules: Others = None,
    for_: For = None,
    speed: Speed = None,
    html: Html = None,
    to: To = None,
    name: As = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what would be done about alerts: which runbook and why, each step, each gate, each page, the end.

    \b
    responder replay --alert VaRBreach severity=critical symbol=BTC-USD platform=edge-risk env=prod
    responder replay recordings/ --answers answers.yaml
    responder replay --incident 4kd02 --rules ./my-rules
    responder replay --schedule before-open --at 2026-12-25T00:00:00Z
    """
    asked = Asked(
        words=tuple(words or ()),
        alert=alert,
        annotations=tuple(annotation or ()),
        incident=incident,
        since=since,
        schedule=schedule,
        at=at,
        answers=answers,
        assume=assume,
        rules=tuple(rules or ()),
        for_=for_,
        speed=speed,
        html=html,
        to=to,
        name=name,
        config=config,
        json=as_json,
    )
    _refuse(asked)
    try:
        recordings = _recordings(asked)
        good = _driven(asked, to, recordings) if to is not None else _simulated(asked, recordings)
    except (BadConfig, BadRules) as error:
        # 1 would say that something is decided differently, or not well: here nothing was decided at all.
        typer.echo(f"responder: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(0 if good else 1)


# --- what makes sense together ----------------------------------------------------------------------------------------

_APART: Final = (
    ("--alert", "--incident", "an alert that is made up belongs to no incident: leave one of them out"),
    ("--alert", "--since", "an alert that is made up was never received: leave one of them out"),
    ("--schedule", "--alert", "a schedule needs no alert: leave one of them out"),
    ("--schedule", "--incident", "a schedule needs no alert: leave one of them out"),
    ("--schedule", "--since", "a schedule needs no alert: leave one of them out"),
    ("--at", "--incident", "what a server received has its own time: leave --at out"),
    ("--at", "--since", "what a server received has its own time: leave --at out"),
    ("--to", "--schedule", "a running responder has its own schedules: leave one of them out"),
    ("--to", "--at", "a running responder has its own clock: leave one of them out"),
    ("--to", "--answers", "a running responder asks its own services: leave one of them out"),
    ("--to", "--assume", "a running responder asks its own services, nothing is assumed: leave one of them out"),
    ("--to", "--rules", "a running responder has its own rules: leave one of them out"),
    ("--to", "--for", "a running responder has its own clock: leave one of them out"),
    ("--to", "--html", "the page tells a simulation: leave one of them out"),
    ("--rules", "--speed", "a comparison is told at once: leave --speed out"),
    ("--rules", "--html", "the page tells what one set of rules does: leave one of them out"),
    ("--html", "--speed", "a page is written at once: leave --speed out"),
)
_NEEDS: Final = (
    ("--annotation", "--alert", "annotations belong to an alert that is made: add --alert NAME"),
    ("--as", "--to", "only a replay on a running responder has a name: add --to URL"),
)


def _refuse(asked: Asked) -> None:
    """Combinations that make no sense, each with its cure. Raises typer.BadParameter."""
    said = _said(asked)
    for one, other, cure in _APART:
        if {one, other} <= said:
            raise typer.BadParameter(f"{one} and {other} do not go together: {cure}")
    for one, other, cure in _NEEDS:
        if one in said and other not in said:
            raise typer.BadParameter(f"{one} alone means nothing: {cure}")
    if asked.words and asked.alert is None and said & {"--incident", "--since"}:
        raise typer.BadParameter("files are not read together with --incident or --since: leave one of them out")
    if asked.words and asked.schedule is not None:
        raise typer.BadParameter("a schedule is rehearsed alone: leave the files and labels out")
    if asked.speed is not None and asked.speed <= 0:
        raise typer.BadParameter("a speed is larger than 0: 60 tells an hour in a minute", param_hint="--speed")
    if asked.speed is not None and asked.json and asked.to is None:
        raise typer.BadParameter("--json tells it at once: leave --speed out")


def _said(asked: Asked) -> set[str]:
    options: dict[str, object] = {
        "--alert": asked.alert,
        "--annotation": asked.annotations or None,
        "--incident": asked.incident,
        "--since": asked.since,
        "--schedule": asked.schedule,
        "--at": asked.at,
        "--answers": asked.answers,
        "--assume": asked.assume,
        "--rules": asked.rules or None,
        "--for": asked.for_,
        "--speed": asked.speed,
        "--html": asked.html,
        "--to": asked.to,
        "--as": asked.name,
    }
    return {name for name, value in options.items() if value is not None}


# --- what is replayed -------------------------------------------------------------------------------------------------


def _recordings(asked: Asked) -> list[Recording]:
    from responder.cli.recorded import from_paths, from_server

    if asked.alert is not None:
        return [_made(asked.alert, asked.words, asked.annotations)]
    if asked.incident is not None or asked.since is not None:
        found = from_server(config_file(asked.config), since=asked.since, incident=asked.incident)
        if not found:
            raise typer.BadParameter("the server has received nothing of the kind: look at `responder incidents`")
        return found
    if asked.schedule is not None:
        return []
    if not asked.words:
        said = "name what is to be replayed: files with notifications, --incident ID, --since 2h, --schedule NAME, or"
        raise typer.BadParameter(f"{said} --alert NAME label=value…")
    return from_paths(list(asked.words))


def _made(name: str, words: Iterable[str], annotations: Iterable[str]) -> Recording:
    """A notification with one alert of this name, firing."""
    from responder.recordings import Recording

    alert = {
        "status": "firing",
        "labels": {"alertname": name, **pairs_of(words, "label")},
        "annotations": pairs_of(annotations, "annotation"),
    }
    return Recording("--alert", None, json.dumps({"version": "4", "alerts": [alert]}).encode())


# --- simulated --------------------------------------------------------------------------------------------------------


def _simulated(asked: Asked, recordings: list[Recording]) -> bool:
    """Play it and tell it. Answers whether all is well. Raises BadConfig, BadRules, BadAnswers."""
    from responder.cli.rehearsal import rehearse, stages

    before = stages(config_file(asked.config), asked.rules)
    plot = _plot(asked, recordings, before)
    played = [rehearse(plot, stage) for stage in before]
    if len(played) > 1:
        return _compared(asked, played[0], played[1])
    _told(asked, played[0])
    return played[0].good


def _plot(asked: Asked, recordings: list[Recording], before: list[Stage]) -> Plot:
    """Raises BadAnswers, typer.BadParameter."""
    from responder.cli.rehearsal import placed, plot_of, scheduled

    assumption, beyond = _assumption(asked.assume or "fixed"), _duration(asked.for_ or LONGEST)
    script, begins = _script(asked.answers, before), _now() if asked.at is None else _time(asked.at)
    if asked.schedule is None:
        try:
            known = recordings if asked.at is None else placed(recordings, begins)
        except Rejected as refused:
            raise typer.BadParameter(refused.reason, param_hint="--at") from None
        return plot_of(known, script, assumption, beyond, before, begins)
    try:
        return scheduled(plot_of((), script, assumption, beyond, before, begins), asked.schedule, before)
    except Rejected as refused:
        raise typer.BadParameter(refused.reason, param_hint="--schedule") from None


def _script(file: Path | None, before: list[Stage]) -> Script:
    """Raises BadAnswers, typer.BadParameter."""
    from responder.answers import Script, nameable, read_answers

    if file is None:
        return Script()
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: cannot be read ({error.strerror})", param_hint="--answers") from None
    config = before[0].config
    return read_answers(str(file), raw, nameable([stage.rules for stage in before], config.parameters, config.services))


def _assumption(text: str) -> Assumption:
    from responder.assumptions import Assumption

    try:
        return Assumption(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(Assumption)}", param_hint="--assume") from None


def _duration(text: str) -> int:
    from responder.timing import parse_duration

    try:
        return parse_duration(text)
    except BadSyntax as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None


def _time(text: str) -> int:
    from responder.timing import parse_time

    try:
        at = parse_time(text)
    except BadSyntax as error:
        raise typer.BadParameter(str(error), param_hint="--at") from None
    if not 0 <= at < parse_time("3000-01-01T00:00:00Z"):
        raise typer.BadParameter(f"{text!r} is too far away: name a time from 1970 to 2999", param_hint="--at")
    return at


def _now() -> int:
    from responder.wall_clock import wall_clock

    return wall_clock()


# --- telling ----------------------------------------------------------------------------------------------------------


def _told(asked: Asked, replay: Replay) -> None:
    from responder.cli import retelling

    if asked.html is not None:
        _write(asked.html, replay)
    if asked.json:
        typer.echo(json.dumps(retelling.as_json(replay), indent=2))
    elif asked.speed is not None:
        _paced(retelling.paced(replay), asked.speed)
    else:
        typer.echo(retelling.as_text(replay))


def _paced(pieces: Iterable[tuple[int, str]], speed: float) -> None:
    """Each piece of the story when its time has come, `speed` times as fast."""
    import time

    before = 0
    for offset, text in pieces:
        time.sleep(max(0, offset - before) / SECOND / speed)
        before = max(before, offset)
        typer.echo(text)


def _write(file: Path, replay: Replay) -> None:
    """Raises typer.BadParameter where it cannot be written."""
    from responder.cli.replay_page import page

    try:
        file.write_text(page(replay), encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file}: cannot be written ({error.strerror})", param_hint="--html") from None
    typer.echo(f"The story is in {file}.", err=True)


def _compared(asked: Asked, configured: Replay, other: Replay) -> bool:
    """Tell what is decided differently. Answers whether nothing is."""
    from responder.cli import comparison

    found = comparison.compared(configured, other)
    typer.echo(json.dumps(comparison.as_json(found), indent=2) if asked.json else comparison.as_text(found))
    return found.same


def _driven(asked: Asked, url: str, recordings: list[Recording]) -> bool:
    """Let a running server answer, and tell what it did. Answers whether every alert found its runbook."""
    from responder.cli import incident
    from responder.cli.driving import drive
    from responder.cli.output import count, now_of, paper, print_json, text

    name = asked.name or f"cli-{_stamp()}"
    found = drive(config_file(asked.config), url, name, recordings, asked.speed)
    good = bool(found) and all(one["runbook"] is not None and not one["problems"] for one in found)
    if asked.json:
        print_json({"simulated": False, "replay": name, "good": good, "incidents": found})
        return good
    out = paper()
    out.print(text(f"Replay {name} on {url}: {count(len(found), 'incident')}. Nothing was changed, nobody was told."))
    for one in found:
        out.print(text(""))
        for part in incident.told(one, now_of(None)):
            out.print(part)
    return good


def _stamp() -> str:
    """A name that no earlier replay has: `20261120T221402`."""
    from responder.timing import format_time

    return format_time(_now() // SECOND * SECOND).replace("-", "").replace(":", "").removesuffix("Z")
