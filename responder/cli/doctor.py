"""`responder doctor`: would anybody be reached? The configuration, the server, and every way to people, one line each.

Looking sends nothing. With `--send-test` each notifier gets one clearly marked message. All of it happens in this
process, so a way that is good here is good for a server on this machine with this configuration.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from responder.cli.client import Credential, Failed, Said, Server, Url, find_server
from responder.cli.options import Config, Json, config_file
from responder.errors import BadConfig, BadRules, ResponderError

if TYPE_CHECKING:
    from responder import config as configuration
    from responder.cli.checks import Finding
    from responder.contracts import Notifier

Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="Look at this notifier alone; may stand several times."),
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
    """Check the configuration, the running server, and every way to people. Exit status 1 when anything is bad.

    \b
    responder doctor
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
    from responder.cli.checks import Finding

    settings, found = _settings(said)
    yield from found
    server = _server(said)
    yield from [server] if isinstance(server, Finding) else _answers(server, settings)
    if settings is not None:
        named = _named(settings.notifiers, only)
        yield from asyncio.run(_ways(settings.name, named, send_test=send_test))


# --- the configuration ------------------------------------------------------------------------------------------------


def _settings(said: Said) -> tuple[configuration.Config | None, list[Finding]]:
    """The configuration, and what is found about it and its rules."""
    from responder.app import CATALOGUE
    from responder.cli.checks import Finding
    from responder.config import load_config
    from responder.engine.health import check_policies
    from responder.loader import load_rules
    from responder.sources import Folders, read_sources, shipped_rules

    file = config_file(said.config)
    try:
        settings = load_config(file, CATALOGUE, os.environ)
    except BadConfig as error:
        return None, [Finding("configuration", good=False, says=str(error))]
    found = [Finding("configuration", good=True, says=f"{file or 'the defaults'}, every secret can be read")]
    try:
        sources = read_sources(settings.rules, Folders(shipped_rules(), settings.folder))
        rules = load_rules(sources, CATALOGUE, settings).rules
        check_policies(settings.heartbeats, rules)
    except (BadRules, BadConfig) as error:
        return settings, [*found, Finding("rules", good=False, says=str(error))]
    paging = sorted({name for policy in rules.policies.values() for level in policy.levels for name in level.page})
    found.append(Finding("rules", good=True, says=f"{len(rules.runbooks)} runbooks, hash {rules.hash[:12]}"))
    wakes = any(n.pages and n.kind != "console" for name, n in settings.notifiers.items() if name in paging)
    if not wakes:
        found.append(Finding("rules", good=None, says="no policy pages anybody but the console: nobody would be woken"))
    return settings, found


def _named(notifiers: Mapping[str, Notifier], only: Sequence[str]) -> Mapping[str, Notifier]:
    unknown = [name for name in only if name not in notifiers]
    if unknown:
        raise Failed(f"there is no notifier {', '.join(unknown)}; there are {', '.join(sorted(notifiers))}")
    return {name: notifiers[name] for name in only} if only else notifiers


# --- the server -------------------------------------------------------------------------------------------------------


def _server(said: Said) -> Server | Finding:
    from responder.cli.checks import Finding

    try:
        return find_server(said, os.environ)
    except Failed as error:
        return Finding("server", good=False, says=str(error))


def _answers(server: Server, settings: configuration.Config | None) -> Iterator[Finding]:
    from responder.cli.checks import Finding

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
    from responder.cli.checks import Finding

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
    from responder.cli.checks import Finding

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


# --- the ways to people -----------------------------------------------------------------------------------------------


async def _ways(instance: str, notifiers: Mapping[str, Notifier], *, send_test: bool) -> list[Finding]:
    """Each is looked at, and tested when that is wanted, one after the other: the answers stay together."""
    found = []
    for name, notifier in notifiers.items():
        found.extend(await _way(instance, name, notifier, send_test=send_test))
    return found


async def _way(instance: str, name: str, notifier: Notifier, *, send_test: bool) -> list[Finding]:
    from responder.cli.checks import Finding, looked_at, tried
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
