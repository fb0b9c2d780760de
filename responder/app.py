"""The only place that wires real things: build, run, reload, stop.

`build` opens what can fail before anything is served; a reload builds everything anew and then swaps it in one go, so
that a bad file changes nothing. It is one straight line on purpose: whoever looks for how two parts meet finds it
here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from prometheus_client import CollectorRegistry

from responder import __version__
from responder.actions import ACTIONS
from responder.config import Address, Config, load_config
from responder.connections import Connections, open_transport
from responder.contracts import Catalogue, Clock, Notifier
from responder.desk import Desk, Shelf
from responder.draft import Worker
from responder.engine.announcer import Announcer, not_reloaded
from responder.engine.delivery import Delivery, Destinations
from responder.engine.emergency import Emergency
from responder.engine.halting import Halting
from responder.engine.health import Health, check_policies
from responder.engine.loops import Loop
from responder.engine.reconcile import Reconcile
from responder.engine.runs import Runs
from responder.engine.timers import Timers
from responder.errors import BadConfig, BadRules, ResponderError, StoreUnavailable
from responder.ingest import Announce
from responder.loader import broken_runbooks
from responder.metrics import Metrics, Vocabulary
from responder.notifiers import NOTIFIERS, message_templates
from responder.notifiers.slack import Slack
from responder.operations import Touch
from responder.perform import Performer
from responder.presses import Presses
from responder.rules import Rules
from responder.rulesets import BROKEN_RULES, ENDING, RuleSets, Start, difference
from responder.schedules import ArmSchedules
from responder.scopes import SCHEDULE
from responder.security import local_operator
from responder.services import SERVICES
from responder.store import Committed, Store, open_store
from responder.timing import DAY, SECOND
from responder.wall_clock import wall_clock
from responder.web import (
    Parts,
    alertmanagers,
    authenticator,
    create_web,
    pagerduty_notifiers,
    slack_people,
    slack_signatures,
)

if TYPE_CHECKING:
    from responder.engine.socket_mode import SocketMode

LOG = logging.getLogger("responder")

CATALOGUE = Catalogue(ACTIONS, NOTIFIERS, SERVICES)
"""What can be named in YAML."""

KEEP_ALIVE = 330
"""Seconds; longer than Alertmanager keeps an idle connection (5 min), so that none is closed under a request."""

POLL_ALONE, POLL_SHARED = 30 * SECOND, SECOND
"""How long a loop sleeps at most: alone, commits wake it; with replicas, what others write is found by looking."""

STORE_EVERY = 2 * SECOND
"""How often the store is asked whether it works."""


class App:
    """A responder that is built and not yet serving. See the module."""

    def __init__(self, config: Config, environ: Mapping[str, str], store: Store, start: Start) -> None:
        self.config = config
        self.store = store
        self._environ = environ
        self._sets = RuleSets(store, CATALOGUE)
        self._broken = start.broken
        self._down: str | None = None
        owner = f"{config.name}-{secrets.token_hex(4)}"
        worker = Worker(owner, alone=not config.store.startswith("postgres"))
        shelf = replace(Shelf(start.rules, config.name, config.parameters), **_today(config))
        self.desk = Desk(store, shelf, worker, _new_id, self._read_rules)
        self.connections = Connections(config.services, open_transport)
        self.delivery = Delivery(self.desk, self._destinations(config), random.random)
        self.runs = Runs(self.desk, self._performer(config, self.connections), self.delivery.ask)
        self.desk.on_turn = self.runs.take
        self.timers = Timers(self.desk)
        self.emergency = Emergency(config.name, _pagers(config), store.now)
        self.metrics = Metrics(CollectorRegistry(), Vocabulary(__version__, ACTIONS, _kinds(config)))
        self.metrics.watch(store.oldest_wait)
        poll = POLL_ALONE if worker.alone else POLL_SHARED
        self.loops: tuple[Loop, ...] = (
            Loop("timers", self.timers.work, store.now, poll),
            Loop("delivery", self.delivery.work, store.now, poll),
            Loop("store", self._look_at_store, store.now, STORE_EVERY),
            Loop("calendars", self._look_at_calendars, store.now, DAY),
        )
        self.delivery.wake = self.loops[1].wake
        check_policies(config.heartbeats, None if start.broken else start.rules)
        self.health = Health(self.desk, config.heartbeats, lambda: self.loops, self.metrics, open_transport)
        self.loops += self.health.loops
        self.announcer = Announcer(self.desk, config.name, config.notifiers)
        self.halting = Halting(self.desk, _pause_file(config), self.announcer.say)
        self.loops += (Loop("pause file", self.halting.work, store.now, SECOND),)
        self.recovered = 0
        self.presses = Presses(self.desk, self.metrics)
        self.socket_mode: SocketMode | None = None
        self._know_slack(config)
        self.parts = self._parts(config)
        self.runs.alertmanagers = self.parts.alertmanagers
        self.reconcile = Reconcile(
            self.desk, lambda: self.parts.alertmanagers, config.reconcile, self.health.expects, self.metrics
        )
        self.reconcile.limits = config.limits.notification
        self.loops += (Loop("reconcile", self.reconcile.work, store.now, DAY),)
        self.web = create_web(self.parts)
        self._tasks: list[asyncio.Task[None]] = []
        self._retired: list[Connections] = []
        self._reloading = asyncio.Lock()

    # --- building -----------------------------------------------------------------------------------------------------

    def _performer(self, config: Config, connections: Connections) -> Performer:
        return Performer(ACTIONS, connections.connect, config.parameters, self.store.now, asyncio.sleep)

    def _destinations(self, config: Config) -> Destinations:
        render = message_templates(_folder(config)).render
        return Destinations(config.notifiers, render, _fallback(config.notifiers))

    def _parts(self, config: Config) -> Parts:
        local = None if config.auth.people else local_operator(_token_file(config))
        return Parts(
            desk=self.desk,
            metrics=self.metrics,
            limits=config.limits,
            authenticator=authenticator(config.auth, local, self.store.now),
            alertmanagers=alertmanagers(config.alertmanagers, open_transport, self.store.now, config.reconcile.settled),
            render=self.delivery.destinations.render,
            slack=slack_signatures(config.notifiers.values()),
            pagerduty=pagerduty_notifiers(config.notifiers),
            presses=self.presses,
            emergency=self._store_is_down,
            reload=self.reload,
            unready=self._unready,
            heard=self.health.take,
            health=self.health.status,
            performs=lambda: self.runs.performer,
        )

    def _know_slack(self, config: Config) -> None:
        self.presses.people = slack_people(config.auth)
        self.presses.slacks = _slacks(config)

    def _listen_to_slack(self, config: Config) -> None:
        """By Socket Mode, where an app-level token is configured. Raises BadConfig: then nothing has changed."""
        slacks = _slacks(config)
        if self.socket_mode is None and any(notifier.app_token is not None for notifier in slacks):
            from responder.engine.socket_mode import SocketMode  # with the library only where it is used

            self.socket_mode = SocketMode(self.presses.take, self.metrics.slack_connected)
        if self.socket_mode is not None:
            self.socket_mode.use(slacks)

    async def _read_rules(self, rules_hash: str) -> Rules | None:
        return await self._sets.read(rules_hash, self.config)

    # --- running ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to work: recover what an earlier process left, run the loops. Serving is the caller's."""
        self.store.on_commit(self._committed)
        self.store.on_wake(self._wake)
        for notifier in self.config.notifiers.values():
            await notifier.start()
        self.metrics.reloaded(successful=self._broken is None, now=self.store.now())
        if self._broken is not None:
            LOG.error("the rules could not be loaded; the last good ones are used:\n%s", self._broken)
            self.desk.shelf = replace(self.desk.shelf, broken=broken_runbooks(self._broken))
            await self.tell_broken(self._broken)
        await self._arm_schedules()
        await self.halting.work(self.store.now())  # before anything is taken up again
        self.recovered = await self.timers.recover() if self.desk.worker.alone else 0
        if self.recovered:
            LOG.info("looked at %d open incidents of an earlier process", self.recovered)
        self._tasks = [asyncio.create_task(loop.run(), name=loop.name) for loop in self.loops]
        self._listen_to_slack(self.config)

    async def stop(self) -> None:
        """Stop in order: nothing new, what is under way ends, its outcome is kept, then everything closes."""
        for task in self._tasks[:1]:
            task.cancel()
        if self.socket_mode is not None:
            await self.socket_mode.stop()
        await self.presses.stop(3.0)
        await self.runs.stop(self.config.limits.stop / SECOND)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.delivery.stop(5.0)
        for notifier in self.config.notifiers.values():
            await notifier.stop()
        for connections in (*self._retired, self.connections):
            await connections.close()
        await self.store.close()

    def _committed(self, committed: Committed) -> None:
        self.metrics.saw(committed.events)
        if committed.timers is not None:
            self.loops[0].due_by(committed.timers)
        if committed.messages:
            self.loops[1].wake()

    def _wake(self) -> None:
        for loop in self.loops[:2]:
            loop.wake()

    def _unready(self) -> Sequence[str]:
        return [f"the {loop.name} loop fails: {loop.failing}" for loop in self.loops if loop.failing is not None]

    def _store_is_down(self, reason: str) -> None:
        self._down = reason
        self.loops[2].wake()

    async def _look_at_store(self, now: int) -> int | None:
        try:
            count = await self.store.open_incidents()
        except StoreUnavailable as error:
            await self.emergency.store_down(str(error))
            return now + STORE_EVERY
        if self._down is not None or self.emergency.pending:
            await self._look_whether_it_writes()
        self.metrics.open_incidents(count)
        return now + STORE_EVERY

    async def _look_whether_it_writes(self) -> None:
        """Answering questions is not enough: only a write that succeeds ends an outage."""
        try:
            await self.store.submit(Touch(_new_id()))
        except StoreUnavailable as error:
            await self.emergency.store_down(str(error))
            return
        self._down = None
        await self.emergency.store_back()

    async def _look_at_calendars(self, now: int) -> int | None:
        for sentence in await self._sets.look_ahead(self.desk.shelf.current):
            await self.desk.submit(lambda shelf: Announce(_new_id(), ENDING, sentence, shelf))  # noqa: B023
        return now + DAY

    # --- reloading ----------------------------------------------------------------------------------------------------

    async def reload(self) -> str:
        """Build everything from today's files, then swap. Raises BadConfig or BadRules: then nothing has changed."""
        try:
            async with self._reloading:
                return await self._reload()
        except ResponderError as error:
            self.metrics.reloaded(successful=False, now=self.store.now())
            if isinstance(error, BadRules):
                self.desk.shelf = replace(self.desk.shelf, broken=broken_runbooks(error))
            self.announcer.say(not_reloaded(error))
            raise

    async def tell_broken(self, error: BadRules) -> None:
        """Whoever is on call hears of it, where nobody waits for an answer."""
        problem = str(error)[:2000]
        await self.desk.submit(lambda shelf: Announce(_new_id(), BROKEN_RULES, problem, shelf))

    async def _arm_schedules(self) -> None:
        rows = await self.store.scopes(SCHEDULE)
        armed = frozenset(row.name.removeprefix(SCHEDULE) for row in rows if row.body)
        await self.desk.submit(lambda shelf: ArmSchedules(_new_id(), shelf, armed))

    async def _reload(self) -> str:
        old, config = self.config, load_config(self.config.file, CATALOGUE, self._environ)
        fixed = [k for k in ("listen", "store", "name") if getattr(old, k) != getattr(config, k)]
        if fixed:
            raise BadConfig(f"{', '.join(fixed)} cannot change while running: restart to use the new value")
        loaded = self._sets.load(config)
        check_policies(config.heartbeats, loaded.rules)
        destinations = self._destinations(config)
        connections = await asyncio.to_thread(Connections, config.services, open_transport)
        performer = self._performer(config, connections)
        for notifier in config.notifiers.values():
            await notifier.start()
        await self._sets.look_ahead(loaded.rules)
        await self._sets.keep(loaded)
        self._listen_to_slack(config)
        before, self.config = self.desk.shelf.current, config
        for retired in self._retired:
            await retired.close()
        self._retired = [self.connections]
        self.connections, self.runs.performer = connections, performer
        shelf = self.desk.shelf.replaced(loaded.rules, config.parameters)
        self.desk.shelf = replace(shelf, **_today(config))
        self.delivery.destinations = destinations
        self.emergency.pagers = _pagers(config)
        self.announcer.notifiers = config.notifiers
        self.halting.path = _pause_file(config)
        self.metrics.name_destinations(_kinds(config))
        self._swap_parts(config)
        self.health.use(config.heartbeats)
        for notifier in old.notifiers.values():
            await notifier.stop()
        try:
            await self._arm_schedules()
        except StoreUnavailable as error:
            LOG.error("the rules are in use, but their schedules could not be armed; reload again: %s", error)
        self.metrics.reloaded(successful=True, now=self.store.now())
        said = difference(before, loaded.rules)
        self.announcer.say(said)
        return said

    def _swap_parts(self, config: Config) -> None:
        fresh = self._parts(config)
        for name in ("limits", "authenticator", "alertmanagers", "render", "slack", "pagerduty"):
            setattr(self.parts, name, getattr(fresh, name))
        self.runs.alertmanagers = self.parts.alertmanagers
        self.reconcile.settings, self.reconcile.limits = config.reconcile, config.limits.notification
        self._know_slack(config)


def _pagers(config: Config) -> dict[str, Notifier]:
    return {name: n for name, n in config.notifiers.items() if n.pages}


def _pause_file(config: Config) -> Path | None:
    given = config.automation.pause_file
    return None if given is None else config.folder / given


def _today(config: Config) -> dict[str, Any]:
    """What a shelf takes of the configuration besides rules and parameters."""
    return {
        "askable": frozenset(name for name, notifier in config.notifiers.items() if notifier.answers),
        "automation": config.automation,
        "envs": {name: service.env for name, service in config.services.items()},
    }


def _fallback(notifiers: Mapping[str, Notifier]) -> str | None:
    """Where a page goes that its pager does not take: a chat that people read, else the console."""
    chats = [name for name, n in notifiers.items() if n.chats and n.kind != "console"]
    chats.sort(key=lambda name: notifiers[name].kind in ("email", "webhook"))
    return next(iter([*chats, *(["console"] if "console" in notifiers else [])]), None)


def _slacks(config: Config) -> list[Slack]:
    return [notifier for notifier in config.notifiers.values() if isinstance(notifier, Slack)]


def _kinds(config: Config) -> dict[str, str]:
    return {name: notifier.kind for name, notifier in config.notifiers.items()}


def _folder(config: Config) -> Path | None:
    return None if config.templates is None else config.folder / config.templates


def state_folder(config: Config) -> Path:
    """Where this installation keeps its own files: beside the SQLite file, else where its configuration is."""
    if config.store.startswith("sqlite:///"):
        return Path(config.store.removeprefix("sqlite:///")).parent
    return config.folder


def _token_file(config: Config) -> Path:
    return state_folder(config) / "operator.token"


def _new_id() -> str:
    return secrets.token_hex(10)


async def build(config: Config, environ: Mapping[str, str], clock: Clock = wall_clock) -> App:
    """Open the store and load the rules. Raises BadConfig, BadRules, StoreUnavailable."""
    folder = state_folder(config)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        cure = "make it and give it to this user, or choose another `store`"
        raise BadConfig(f"store: the folder {folder} cannot be made ({error.strerror}): {cure}") from None
    store = await asyncio.to_thread(open_store, config.store, clock)
    try:
        return App(config, environ, store, await RuleSets(store, CATALOGUE).start(config))
    except BaseException:
        await store.close()
        raise


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: they would end the process before `App.stop` has run."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(config: Config, environ: Mapping[str, str]) -> int:
    """Build, serve until a signal or an error, stop. Answers the exit status."""
    with _listening(config.address) as listener:
        return await _serve(await build(config, environ), config, listener)


def _listening(address: Address) -> socket.socket:
    """The socket, bound before anything else is opened. Raises BadConfig."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=2048)
    except OSError as error:
        cure = (
            "stop what listens there, or choose another port" if error.errno == errno.EADDRINUSE else "choose another"
        )
        raise BadConfig(f"listen: {address} cannot be used ({os.strerror(error.errno or 0)}): {cure}") from None


async def _serve(app: App, config: Config, listener: socket.socket) -> int:
    settings = uvicorn.Config(
        app.web,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=10,
        access_log=False,
        log_config=None,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
    )
    server = _Server(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(_reload(app)))
    await app.start()
    host, port = listener.getsockname()[:2]
    count = len(app.desk.shelf.current.runbooks)
    LOG.info("listening on http://%s, %d runbooks, store %s", Address(host, port), count, _shown(config))
    await app.announcer.begin(__version__, config.mode.value, app.recovered)
    app._tasks.append(loop.create_task(app.announcer.loop.run()))
    try:
        await server.serve(sockets=[listener])
    finally:
        await app.announcer.stop("stops")
        await app.stop()
    LOG.info("stopped")
    return 0 if server.started else 1


def _shown(config: Config) -> str:
    """The store without what may be a password."""
    return config.store if config.store.startswith("sqlite") else config.store.partition("://")[0]


async def _reload(app: App) -> None:
    try:
        LOG.info("%s", await app.reload())
    except ResponderError as error:
        LOG.error("nothing was reloaded, the rules from before go on:\n%s", error)
        if isinstance(error, BadRules):
            await app.tell_broken(error)


def run(config: Config) -> int:
    """Serve until told to stop. Blocks; answers the exit status. Raises BadConfig, BadRules, StoreUnavailable."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for name in ("httpx", "alembic", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(config, os.environ))


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
