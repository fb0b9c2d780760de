"""`responder replay`: what would be done about an alert, told like a story, without touching anything.

The engine, the rules and the templates are the real ones; time is virtual, and what services answer is assumed. Exit
status 0 when every alert has a runbook and every incident ended well, else 1. How it is shown is `retelling`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from responder.cli.options import Config, Json, config_file
from responder.errors import BadPayload, BadSyntax

if TYPE_CHECKING:
    from responder import config as c
    from responder.assumptions import Assumption, Pretending
    from responder.cli.retelling import Answered
    from responder.contracts import Clock
    from responder.runbook import Rules
    from responder.simulate import Scene, Simulation

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE… | label=value…", help="Payload files of Alertmanager; with --alert its labels."),
]
Alert = Annotated[str | None, typer.Option("--alert", metavar="NAME", help="Make an alert of this name instead.")]
RulePaths = Annotated[
    list[str] | None,
    typer.Option("--rules", metavar="PATH", help="Use these rules instead of the configured; again for more."),
]
Assume = Annotated[
    str,
    typer.Option(
        "--assume",
        metavar="fixed|unfixed|missing|failed|unknown",
        help="What checks and changes are assumed to answer.",
    ),
]
For = Annotated[str, typer.Option("--for", metavar="DURATION", help="How long to go on; by default until it is quiet.")]


@dataclass(frozen=True, slots=True)
class Posted:
    """One notification to be taken in, `at` µs since the epoch (None: it does not say when)."""

    name: str
    body: bytes
    at: int | None
    alerts: tuple[Answered, ...] = ()


def command(  # noqa: PLR0913  (typer takes options as parameters)
    words: Words = None,
    alert: Alert = None,
    rules: RulePaths = None,
    assume: Assume = "fixed",
    for_: For = "2h",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what would be done about an alert: which runbook and why, each step, each gate, each page, the end.

    \b
    responder replay notification.json
    responder replay --alert VaRBreach severity=critical symbol=BTC-USD platform=edge-risk env=prod
    """
    from responder.cli import retelling
    from responder.simulate import Simulation

    assumption, horizon = _assumption(assume), _duration(for_)
    scene_of, used = _prepared(config, tuple(rules or ()), assumption)
    posted = _made(alert, words or [], used) if alert is not None else _read(words or [], used)
    start = min((p.at for p in posted if p.at is not None), default=None)
    simulation = Simulation(scene_of(_now() if start is None else start))
    try:
        quiet = _play(simulation, posted, horizon, resolves=assumption.value == "fixed")
        told = retelling.Replay(
            assumption, tuple(a for p in posted for a in p.alerts), tuple(simulation.tales()), quiet
        )
    finally:
        simulation.close()
    typer.echo(json.dumps(retelling.as_json(told), indent=2) if as_json else retelling.as_text(told))
    raise typer.Exit(0 if told.good else 1)


def _play(simulation: Simulation, posted: list[Posted], horizon: int, *, resolves: bool) -> bool:
    """Take everything in at its time, then go on until it is quiet. Answers whether it became quiet."""
    for each in posted:
        if each.at is not None:
            simulation.advance_to(min(each.at - simulation.scene.start, horizon))
        simulation.post(each.body)
    while simulation.until_quiet(max(horizon - simulation.offset, 0), or_asked=resolves):
        if not resolves or not (simulation.does_by_hand() or simulation.resolves_fixed()):
            return True
    return False


def _prepared(given: Path | None, paths: tuple[str, ...], assumption: Assumption) -> tuple[SceneOf, Rules]:
    """What makes the scene from its beginning, and the rules in it. Raises BadConfig, BadRules."""
    import os

    from responder.app import CATALOGUE
    from responder.config import load_config
    from responder.loader import load_rules
    from responder.sources import Folders, read_sources, shipped_rules

    config = load_config(config_file(given), CATALOGUE, os.environ, check_secrets=False)
    folder = Path.cwd() if paths else config.folder
    sources = read_sources(paths or config.rules, Folders(shipped_rules(), folder))
    rules = load_rules(sources, CATALOGUE, config).rules
    return SceneOf(config, rules, assumption), rules


@dataclass(frozen=True, slots=True)
class SceneOf:
    """Makes the scene of a replay that begins at an instant (µs)."""

    config: c.Config
    rules: Rules
    assumption: Assumption

    def __call__(self, start: int) -> Scene:
        """See the class. Raises BadConfig for broken templates."""
        from responder.notifiers import message_templates
        from responder.simulate import Scene

        config = self.config
        folder = None if config.templates is None else config.folder / config.templates
        return Scene(
            rules=self.rules,
            parameters=config.parameters,
            notifiers=config.notifiers,
            render=message_templates(folder).render,
            performs=self._performer,
            start=start,
            instance=config.name,
        )

    def _performer(self, clock: Clock) -> Pretending:
        from responder.actions import ACTIONS
        from responder.assumptions import Pretending, nowhere
        from responder.simulate import sleep

        return Pretending(
            ACTIONS,
            nowhere,
            self.config.parameters,
            clock,
            sleep,
            assumption=self.assumption,
            rules=self.rules,
            services=self.config.services,
        )


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


def _now() -> int:
    from responder.wall_clock import wall_clock

    return wall_clock()


def _made(name: str, words: list[str], rules: Rules) -> list[Posted]:
    """A notification with one alert of this name, firing."""
    pairs = [word.partition("=") for word in words]
    wrong = [word for word, (label, equals, _) in zip(words, pairs, strict=True) if not equals or not label]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is no label: write label=value")
    labels = {"alertname": name, **{label: value for label, _, value in pairs}}
    body = json.dumps({"version": "4", "alerts": [{"status": "firing", "labels": labels}]}).encode()
    return [_posted("--alert", body, rules)]


def _read(words: list[str], rules: Rules) -> list[Posted]:
    if not words:
        raise typer.BadParameter("name a file with Alertmanager's payload, or an alert: --alert NAME label=value…")
    return sorted((_posted(word, _bytes(word), rules) for word in words), key=lambda p: p.at or 0)


def _bytes(word: str) -> bytes:
    try:
        return Path(word).read_bytes()
    except OSError as error:
        hint = "; labels need --alert NAME before them" if "=" in word else ""
        raise typer.BadParameter(f"{word}: cannot be read ({error.strerror}){hint}") from None


def _posted(name: str, body: bytes, rules: Rules) -> Posted:
    """A notification is taken in when the last thing that it tells had happened."""
    from responder.alert import Limits, parse_notification
    from responder.cli.retelling import answered

    try:
        alerts = parse_notification(body, Limits()).alerts
    except BadPayload:
        return Posted(name, body, None)  # it becomes a dead letter, as it would
    times = [at for a in alerts if (at := a.starts_at if a.firing else a.ends_at) is not None]
    return Posted(name, body, max(times, default=None), tuple(answered(a, rules) for a in alerts))
