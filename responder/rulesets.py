"""Sets of rules over time: loading today's, keeping each by its hash in the store, and reading an older one again.

A run keeps the rules that it began with, and a start with a broken file goes on with the last good set (design 4).
What is kept are the texts, never what this program made of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from responder.calendars import known_until, state_of
from responder.config import Config
from responder.contracts import Catalogue
from responder.errors import BadRules, ResponderError
from responder.ingest import News
from responder.loader import Loaded, load_rules
from responder.recorded import Mode
from responder.records import Change, Keys, ScopeRow, State, Writes
from responder.rules import Rules
from responder.sources import Folders, read_sources, shipped_rules
from responder.store import Store
from responder.timing import DAY, format_time

LOG = logging.getLogger("responder.rules")

BROKEN_RULES = News(
    "responder:rules",
    "The rules could not be loaded",
    "The last good rules go on; what was changed since then is not in force",
)

ENDING = News(
    "responder:calendars",
    "A calendar ends soon",
    "After its end it counts as closed, and runbooks of these hours refuse",
)

SOON = 14 * DAY
"""How long before the end of a calendar's data people are told."""

KIND = "rules"
LAST_GOOD = "rules:last_good"
"""The scope that names the set which was used last."""


@dataclass(frozen=True, slots=True)
class _Remember:
    """Note which set is in use."""

    hash: str

    @property
    def id(self) -> str:
        return f"rules:{self.hash}"

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[None]:
        return Change(Writes(scopes=(ScopeRow(LAST_GOOD, self.hash, state.now),)), None)


@dataclass(frozen=True, slots=True)
class Start:
    """The set to begin with. `broken` says what is wrong with the files when it is an older one."""

    rules: Rules
    broken: BadRules | None = None


class RuleSets:
    """See the module."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue

    def load(self, config: Config) -> Loaded:
        """Today's set. Raises BadRules with every problem; a mistake of ours must not keep the last good set out."""
        sources = read_sources(config.rules, Folders(shipped_rules(), config.folder))
        try:
            return load_rules(sources, self._catalogue, config)
        except ResponderError:
            raise
        except Exception as error:
            LOG.exception("the rules could not be read")
            said = f"internal error {type(error).__name__} while reading the rules; it is in the log: please report it"
            raise BadRules([said], sources) from error

    async def look_ahead(self, rules: Rules) -> list[str]:
        """Ask every calendar for now and tomorrow, in a thread: no decision waits for the first answer of a year.

        Answers which of them end soon, in sentences for people: after its end a calendar counts as closed.
        """
        now, ending = self._store.now(), []
        for name, calendar in rules.calendars.items():
            await asyncio.to_thread(state_of, calendar, name, now)
            await asyncio.to_thread(state_of, calendar, name, now + 2 * DAY)
            end = await asyncio.to_thread(known_until, calendar)
            if end is not None and end < now + SOON:
                until = format_time(end)[:10]
                ending.append(f"what is known of calendar {name} ends {until}: update the package exchange-calendars")
        for sentence in ending:
            LOG.warning("%s", sentence)
        return ending

    async def keep(self, loaded: Loaded) -> None:
        """Keep a set that is going to be used."""
        body = {
            "sources": dict(loaded.sources),
            "types": dict(loaded.rules.types),
            "mode": loaded.rules.ceiling.value,
        }
        await self._store.put_version(loaded.rules.hash, KIND, zlib.compress(json.dumps(body).encode()))
        await self._store.submit(_Remember(loaded.rules.hash))

    async def start(self, config: Config) -> Start:
        """Today's set, or the last good one when today's files are broken. Raises BadRules when there is neither."""
        try:
            loaded = self.load(config)
        except BadRules as broken:
            last = await self._store.scopes(LAST_GOOD)
            rules = await self.read(last[0].body, config) if last else None
            if rules is None:
                raise
            return Start(rules, broken)
        await self.keep(loaded)
        return Start(loaded.rules)

    async def read(self, rules_hash: str, config: Config) -> Rules | None:
        """A kept set, checked against today's configuration; None when it is gone or does not fit any more."""
        body = await self._store.version(rules_hash, KIND)
        if body is None:
            return None
        kept = json.loads(zlib.decompress(body))
        then = _then(config, kept["types"], kept["mode"])
        try:
            return load_rules(kept["sources"], self._catalogue, then, kept=True).rules
        except BadRules as error:
            LOG.error("the rules %s do not fit today's configuration:\n%s", rules_hash[:12], error)
            return None


def _then(config: Config, types: Mapping[str, str], mode: str) -> Config:
    """Today's services and people with the types and the ceiling of then: both belong to the set's hash."""
    return config.model_copy(update={"types": dict(types), "mode": Mode(mode)})


def difference(before: Rules, after: Rules) -> str:
    """What a reload has changed, in one sentence."""
    if before.hash == after.hash:
        return f"reloaded: the same {len(after.runbooks)} runbooks (rules {after.hash[:12]})"
    new = sorted(set(after.runbooks) - set(before.runbooks))
    gone = sorted(set(before.runbooks) - set(after.runbooks))
    same = set(after.runbooks) & set(before.runbooks)
    changed = sorted(n for n in same if after.runbooks[n] != before.runbooks[n])
    parts = [
        f"{what}: {', '.join(names)}" for what, names in (("new", new), ("gone", gone), ("changed", changed)) if names
    ]
    return (
        f"reloaded: {len(after.runbooks)} runbooks (rules {after.hash[:12]}); {'; '.join(parts) or 'policies changed'}"
    )
