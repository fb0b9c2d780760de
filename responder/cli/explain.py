"""`responder explain`: which runbook answers an alert and why, and what each gate says as far as it is known offline.

It answers "why did nothing run?" from the files alone: nothing is asked, assumed or simulated. Exit status 0 when every
firing alert has a runbook that goes on as far as known, else 1. How it is written is `explaining`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from responder.cli.options import Config, Json, config_file, pairs_of
from responder.errors import BadPayload, BadSyntax

if TYPE_CHECKING:
    from responder.alert import Alert
    from responder.explanations import Explanation

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILE… | label=value…]", help="Notifications, - for standard input. With --alert: labels."),
]
Name = Annotated[str | None, typer.Option("--alert", metavar="NAME", help="Explain an alert of this name instead.")]
At = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="When, for calendars (2026-11-20T17:02:42Z); else now.")
]


@dataclass(frozen=True, slots=True)
class Found:
    """The alerts of the command line. `unreadable`: what would become a dead letter, and page."""

    alerts: tuple[Alert, ...]
    unreadable: tuple[str, ...]


def command(words: Words = None, alert: Name = None, at: At = None, config: Config = None, json: Json = False) -> None:
    """Say which runbook answers an alert and why no other, what each gate says, and what would follow.

    \b
    responder explain payload.json
    responder explain --alert VaRBreach severity=critical platform=edge-risk env=prod
    responder explain --alert VaRBreach env=prod --at 2026-12-25T09:30:00Z

    Nothing is asked and nothing is touched: what only the running server or the world knows is said to be unknown. A
    replay (`responder replay`) tells the whole story with assumed answers.
    """
    from responder.cli import explaining
    from responder.cli.output import print_json

    found = _made(alert, words or ()) if alert is not None else _read(words or ())
    now = _moment(at)
    explanations = _explained(found.alerts, now, config)
    good = not found.unreadable and all(one.good for one in explanations)
    if json:
        print_json(explaining.as_json(explanations, found.unreadable))
    else:
        print(explaining.as_text(explanations, found.unreadable, now))
    raise typer.Exit(0 if good else 1)


def _explained(alerts: Iterable[Alert], now: int, config: Path | None) -> list[Explanation]:
    """Raises BadConfig and BadRules, with every mistake."""
    from responder.app import CATALOGUE
    from responder.config import load_config
    from responder.explanations import explained
    from responder.loader import load_rules
    from responder.sources import Folders, read_sources, shipped_rules

    configured = load_config(config_file(config), CATALOGUE, os.environ, check_secrets=False)
    sources = read_sources(configured.rules, Folders(shipped_rules(), configured.folder))
    rules = load_rules(sources, CATALOGUE, configured).rules
    return [explained(alert, rules, configured.parameters, now) for alert in alerts]


def _made(name: str, words: Iterable[str]) -> Found:
    """An alert of this name with these labels, firing. Raises typer.BadParameter."""
    from responder.alert import Alert, fingerprint

    labels = {"alertname": name, **pairs_of(words, "label")}
    return Found((Alert(fingerprint(labels), labels, {}, True, None, None, ""),), ())  # noqa: FBT003  (it fires)


def _read(words: Iterable[str]) -> Found:
    """Every alert of the notifications in files. Raises typer.BadParameter."""
    from responder.alert import Limits, parse_notification
    from responder.cli.recorded import from_paths

    files = list(words)
    if not files:
        raise typer.BadParameter("name files with notifications, or an alert: --alert NAME label=value…")
    alerts: dict[str, Alert] = {}
    unreadable = []
    for recording in from_paths(files):
        try:
            notification = parse_notification(recording.body, Limits())
        except BadPayload as error:
            unreadable.append(f"{recording.name}: {error}")
            continue
        alerts.update((alert.fingerprint, alert) for alert in notification.alerts)
        unreadable += [f"{recording.name}: alerts[{bad.index}]: {bad.message}" for bad in notification.bad]
    return Found(tuple(alerts.values()), tuple(unreadable))


def _moment(text: str | None) -> int:
    from responder.timing import parse_time
    from responder.wall_clock import wall_clock

    try:
        return wall_clock() if text is None else parse_time(text)
    except BadSyntax as error:
        raise typer.BadParameter(str(error), param_hint="--at") from None
