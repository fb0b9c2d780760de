"""`responder doctor`: would anybody be reached, and may the runbooks do what they do? The configuration, the server,
every service and every way to people, one line each.

Looking sends and changes nothing. With `--send-test` each notifier gets one clearly marked message. All of it happens
in this process, so a way that is good here is good for a server on this machine with this configuration.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from responder.cli.client import Credential, Failed, Said, Server, Url, find_server
from responder.cli.options import Config, Json, config_file
from responder.errors import BadConfig, BadRules, ResponderError

if TYPE_CHECKING:
    from responder import config as configuration
    from responder.checkups import Finding
    from responder.contracts import Notifier
    from responder.rules import Rules

Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="Look at this notifier or service alone; may stand several times."),
]
SendTest = Annotated[
    bool,
    typer.Option("--send-test", help="Send one marked test through each notifier: pagers do page, and resolve it."),
]

_WORDS: Final[Mapping[bool | None, tuple[str, str]]] = {
    True: ("ok", "green"),
    False: ("BAD", "bold red"),
    None: ("note", "yellow"),
}


def command(
    send_test: SendTest = False,
    only: Only = None,
    config: Config = None,
    json: Json = False,
    url: Url = None,
    token: Credential = None,
) -> None:
    """Check the configuration, the running server, every service and every way to people. Exit status 1 when anything
    is bad.

    \b
    responder doctor
    responder doctor --only cluster
    responder doctor --send-test --only trading-oncall

    Nothing is sent without --send-test. What cannot be seen before a message is sent is said to be so.
    """
    from responder.cli.output import print_json

    found = list(_examined(Said(config, url, token), only or (), send_test=send_test))
    if json:
        print_json([asdict(one) for one in found])
    else:
        _show(found)
    raise typer.Exit(1 if any(one.good is False for one in found) else 0)


def _examined(said: Said, only: Sequence[str], *, send_test: bool) -> Iterator[Finding]:
    from responder.checkups import Finding

    settings, rules, found = _settings(said)
    yield from found
    server = _server(said)
    yield from [server] if isinstance(server, Finding) else _answers(server, settings)
    if settings is not None:
        named = _named([*settings.notifiers, *settings.services], only)
        ways = {name: settings.notifiers[name] for name in named if name in settings.notifiers}
        yield from asyncio.run(_world(settings, rules, {name for name in named if name in settings.services}))
        yield from asyncio.run(_ways(settings.name, ways, send_test=send_test))


# --- the configuration ------------------------------------------------------------------------------------------------


def _settings(said: Said) -> tuple[configuration.Config | None, Rules | None, list[Finding]]:
    """The configuration, its rules, and what is found about both; None where it cannot be used."""
    from responder.app import CATALOGUE
    from responder.checkups import Finding
    from responder.config import load_config
    from responder.engine.health import check_policies
    from responder.ladders import one_way
    from responder.loader import load_rules
    from responder.sources import Folders, read_sources, shipped_rules

    file = config_file(said.config)
    try:
        settings = load_config(file, CATALOGUE, os.environ)
    except BadConfig as error:
        return None, None, [Finding("configuration", good=False, says=str(error))]
    found = [Finding("configuration", good=True, says=f"{file or 'the defaults'}, every secret can be read")]
    try:
        sources = read_sources(settings.rules, Folders(shipped_rules(), settings.folder))
        rules = load_rules(sources, CATALOGUE, settings).rules
        check_policies(settings.heartbeats, rules)
    except (BadRules, BadConfig) as error:
        return settings, None, [*found, Finding("rules", good=False, says=str(error))]
    paging = sorted({name for policy in rules.policies.values() for level in policy.levels for name in level.page})
    found.append(Finding("rules", good=True, says=f"{len(rules.runbooks)} runbooks, hash {rules.hash[:12]}"))
    wakes = any(n.pages and n.kind != "console" for name, n in settings.notifiers.items() if name in paging)
    if not wakes:
        found.append(Finding("rules", good=None, says="no policy pages anybody but the console: nobody would be woken"))
    for name, levels in one_way(rules.policies, settings.notifiers):
        told = ", ".join(rules.policies[name].levels[n].name for n in levels)
        says = f"{told}: one provider alone wakes people, so when it is down nobody is; give the levels a `fallback`"
        found.append(Finding(f"policy {name}", good=None, says=says))
    return settings, rules, found


def _named(known: Sequence[str], only: Sequence[str]) -> Sequence[str]:
    """What is looked at: everything, or what `--only` names. Raises Failed."""
    unknown = [name for name in only if name not in known]
    if unknown:
        there = ", ".join(sorted(set(known)))
        raise Failed(f"there is no notifier or service {', '.join(unknown)}; there are {there}")
    return only or known


# --- the server -------------------------------------------------------------------------------------------------------


def _server(said: Said) -> Server | Finding:
    from responder.checkups import Finding

    try:
        return find_server(said, os.environ)
    except Failed as error:
        return Finding("server", good=False, says=str(error))


def _answers(server: Server, settings: configuration.Config | None) -> Iterator[Finding]:
    from responder.checkups import Finding

    try:
        status, _ = server.get("/status")
    except Failed as error:
        yield Finding("server", good=False, says=str(error))
        return
    yield Finding(
        "server", good=True, says=f"version {status['version']} answers at {server.url}, and so does its store"
    )
    yield _who(server, settings)
    for reason in status["unready"]:
        yield Finding("server", good=False, says=reason)
    if status["pause"] is not None:
        yield Finding("automation", good=None, says=f"paused by {status['pause']['actor']}; people are paged as always")
    yield from _health(status)


def _who(server: Server, settings: configuration.Config | None) -> Finding:
    from responder.checkups import Finding

    if server.token is None:
        return Finding("you", good=None, says="known as nobody: you may look, and change nothing")
    people = {} if settings is None else settings.auth.people
    known = [name for name, person in people.items() if any(_is(server.token.value, s) for s in person.token)]
    roles = ", ".join(people[known[0]].roles) if known else ""
    if known:
        return Finding("you", good=True, says=f"known as {known[0]}, with {roles or 'no roles'}")
    return Finding("you", good=True, says=f"known by the token in {server.token.named}")


def _is(token: str, secret: Any) -> bool:
    try:
        return secrets.compare_digest(token.encode(), secret.reveal().strip().encode())
    except BadConfig:
        return False


def _health(status: Mapping[str, Any]) -> Iterator[Finding]:
    """What the server says about itself. One that says nothing about it is of an older version."""
    from responder.checkups import Finding

    audit = status.get("audit") or {"clean": None, "reasons": []}
    if audit["clean"] is None:
        yield Finding("audit", good=None, says="there was none yet; it is made every minute")
    elif audit["clean"]:
        yield Finding("audit", good=True, says=f"clean at {audit['at']}")
    for reason in audit["reasons"]:
        yield Finding("audit", good=False, says=reason)
    for beat in status.get("heartbeats", ()):
        seen = f"last seen {beat['seen_at']}" if beat["seen_at"] else "never seen"
        says = f"{beat['alert']} is missing, {seen}: alerts may not arrive" if beat["missing"] else seen
        good = False if beat["missing"] else True if beat["seen_at"] else None
        yield Finding(f"heartbeat {beat['name']}", good=good, says=says)
    for switch in status.get("switches", ()):
        taken = f"was called last {switch['taken_at']}" if switch["taken_at"] else "was not called yet"
        good = False if switch["wrong"] else True if switch["taken_at"] else None
        yield Finding(f"switch {switch['name']}", good=good, says=switch["wrong"] or taken)


# --- the services -----------------------------------------------------------------------------------------------------


async def _world(settings: configuration.Config, rules: Rules | None, named: Collection[str]) -> list[Finding]:
    """What is found about the services of these names, all at the same time, and about the Alertmanagers that are
    asked what fires."""
    from responder.app import CATALOGUE
    from responder.checkups import Needs, looked_over
    from responder.connections import Connections, open_transport
    from responder.rights import uses_of
    from responder.wall_clock import wall_clock

    runbooks = {} if rules is None else rules.runbooks
    needs = Needs(uses_of(runbooks.values(), CATALOGUE.actions, settings.parameters), settings.parameters)
    connections = Connections(settings.services, open_transport)
    try:
        looks = (looked_over(n, connections.connect(n), needs, wall_clock) for n in settings.services if n in named)
        each = await asyncio.gather(*looks)
    finally:
        await connections.close()
    return [found for one in each for found in one] + await _told_what_fires(settings)


async def _told_what_fires(settings: configuration.Config) -> list[Finding]:
    from responder.checkups import Finding
    from responder.connections import open_transport
    from responder.wall_clock import wall_clock
    from responder.web import alertmanagers

    asked = alertmanagers(settings.alertmanagers, open_transport, wall_clock, settings.reconcile.settled)
    return [
        Finding(f"alertmanager {peer.name}", not peer.wrong, peer.wrong or f"lists {len(peer.listed)} alerts")
        for peer in await asked.peers()
    ]


# --- the ways to people -----------------------------------------------------------------------------------------------


async def _ways(instance: str, notifiers: Mapping[str, Notifier], *, send_test: bool) -> list[Finding]:
    """Each is looked at, and tested when that is wanted, one after the other: the answers stay together."""
    found = []
    for name, notifier in notifiers.items():
        found.extend(await _way(instance, name, notifier, send_test=send_test))
    return found


async def _way(instance: str, name: str, notifier: Notifier, *, send_test: bool) -> list[Finding]:
    from responder.checkups import Finding
    from responder.cli.checks import looked_at, tried
    from responder.wall_clock import wall_clock

    try:
        await notifier.start()
        found = await looked_at(name, notifier)
        if send_test:
            found += await tried(name, notifier, instance, secrets.token_hex(4), wall_clock())
    except ResponderError as error:
        found = [Finding(f"notifier {name}", good=False, says=str(error))]
    finally:
        await notifier.stop()
    return found


def _show(found: Sequence[Finding]) -> None:
    from responder.cli.output import count, paper, table, text

    rows = [(text(*_WORDS[one.good]), text(one.what), text(one.says)) for one in found]
    out = paper()
    out.print(table(("", "", ""), rows))
    bad = sum(one.good is False for one in found)
    out.print(text(f"{count(bad, 'thing')} to be mended" if bad else "all that was looked at is well", "bold"))
