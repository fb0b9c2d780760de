"""`responder demo`: the main job on a small trading platform, before your eyes, in less than a minute.

Exit status 0 only when the scenario ended as it should, judged at the platform's ledger and the incident's record.
"""

from __future__ import annotations

import asyncio
import contextlib
import json as jsons
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from socket import socket
from typing import Annotated

import typer

from responder.app import CATALOGUE, build
from responder.cli.options import Json
from responder.config import load_config
from responder.demo import failover
from responder.demo.ending import Ending, ended
from responder.demo.hosting import hosted
from responder.demo.monitoring import planned
from responder.demo.scenario import Scenario
from responder.demo.session import Stage, play
from responder.demo.timeline import Timeline
from responder.wall_clock import wall_clock

INTERRUPTED = 130

OPENING = {
    Scenario.VAR_BREACH: "A VaR breach on a small trading platform, answered by the runbook var-breach.",
    Scenario.VAR_BREACH_UNFIXED: "A VaR breach that the cut does not cure: people are paged, trading is halted.",
    Scenario.MODEL_SWITCHING: "A model router that switches too often, paused by the runbook model-switching.",
    Scenario.REDIS_LATENCY: "A slow Redis: its likely cause is named, and a person restarts it.",
    Scenario.HOT_RELOAD_REFUSED: "A hot reload that is refused, because VaR is too high for it.",
    Scenario.BREAKER_RESET: "An open circuit breaker: first the cause is treated, then a reset is approved.",
    Scenario.REDIS_FAILOVER: "A Redis master that dies: the runbook redis-master-down has a replica promoted.",
}
TELLS = {
    Scenario.VAR_BREACH: "when the cut helps",
    Scenario.VAR_BREACH_UNFIXED: "when the cut does not help",
    Scenario.MODEL_SWITCHING: "a brake, and evidence of Redis",
    Scenario.REDIS_LATENCY: "a person's step",
    Scenario.HOT_RELOAD_REFUSED: "a gate that refuses a person",
    Scenario.BREAKER_RESET: "the cause first, then approval",
    Scenario.REDIS_FAILOVER: "real servers, one failover",
}
"""What each story is worth being seen for."""


def command(
    scenario: Annotated[Scenario, typer.Option(help="Which story is played.")] = Scenario.VAR_BREACH,
    *,
    json: Json = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's folder: rules, configuration, logs.")] = False,
    built_in: Annotated[
        bool,
        typer.Option(
            "--built-in",
            help="Do without Prometheus, Alertmanager and Redis (except in redis-failover), even where installed.",
        ),
    ] = False,
) -> None:
    """Watch the responder at work on a small trading platform: a VaR breach, unless --scenario names another story.

    Everything runs on loopback in a folder of its own and ends by itself within a minute. Exit status 0: the story
    ended as it should.
    """
    folder = Path(tempfile.mkdtemp(prefix="responder-demo-"))
    try:
        with _logged(folder / "responder.log"):
            good = _shown(folder, scenario, built_in=built_in, json=json, keep=keep)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\nstopped; everything that was started has ended", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(0 if good else 1)


def _shown(folder: Path, scenario: Scenario, *, built_in: bool, json: bool, keep: bool) -> bool:
    """Plays and tells; answers whether it ended as it should. With `json` the timeline goes to standard error."""
    output = sys.stderr if json else sys.stdout
    timeline = Timeline(output, shutil.get_terminal_size().columns, colours=_colours(output))
    stage = Stage(scenario, folder, built_in, lambda line: print(line, file=timeline), wall_clock)
    stage.say(OPENING[scenario])
    monitoring = "prometheus" if planned(folder, built_in=built_in).binaries is not None else "built-in"
    with contextlib.redirect_stdout(timeline):
        ending = asyncio.run(_played(stage, monitoring, str(folder) if keep else None))
    if json:
        print(jsons.dumps(ending.as_json(scenario), indent=2, ensure_ascii=False))
    else:
        for line in _closing(scenario, ending):
            stage.say(line)
    return ending.good


def _colours(output: object) -> bool:
    return getattr(output, "isatty", lambda: False)() and not os.environ.get("NO_COLOR")


def _closing(scenario: Scenario, ending: Ending) -> Iterator[str]:
    yield ""
    yield "It ended as it should." if ending.good else "It did NOT end as it should; --keep leaves the logs for a look."
    yield ""
    yield from (f"  {line}" for line in ending.told())
    yield ""
    yield "Next:"
    yield from (f"  {line}" for line in _next(scenario))


def _next(scenario: Scenario) -> Iterator[str]:
    for other, what in TELLS.items():
        if other is not scenario:
            yield f"responder demo --scenario {other.value:<20} {what}"
    yield f"responder demo --keep {'':<24} and look at the files of a demo"
    yield f"responder serve --help {'':<23} for your own alerts"


async def _played(stage: Stage, monitoring: str, folder: str | None) -> Ending:
    """The story, which Ctrl-C and SIGTERM end in order, also where a script has started it in the background."""
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    if stage.scenario is Scenario.REDIS_FAILOVER:
        return failover.ended(await failover.play_failover(stage, _responder), monitoring, folder)
    return ended(await play(stage, _responder), monitoring, folder)


@contextlib.asynccontextmanager
async def _responder(file: Path, listener: socket) -> AsyncIterator[None]:
    """The real application on `listener`. Raises BadConfig, BadRules, StoreUnavailable."""
    app = await build(load_config(file, CATALOGUE, os.environ), os.environ)
    await app.start()
    try:
        async with hosted(app.web, listener):
            yield
    finally:
        await app.stop()


@contextlib.contextmanager
def _logged(file: Path) -> Iterator[None]:
    """What is logged goes to a file: the screen belongs to the story."""
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
