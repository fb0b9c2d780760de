"""Where web, engine and the emergency all submit: the store, today's rules and those of open incidents, and who we are.

Web and engine do not know each other; both hold a `Desk`. `submit` builds the operation with the book of that moment,
reads an older set of rules from the store when the operation needs it, and hands the turns of the answer to whoever
executes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from responder.automation import UNBOUNDED, Automation
from responder.cases import Touched
from responder.contracts import Clock, Parameter
from responder.draft import Turn, UnknownRules, Worker
from responder.incident import Incident
from responder.policies import Policy
from responder.records import Operation
from responder.rules import Broken, Rules
from responder.runbook import Step
from responder.store import Store

Answer = TypeVar("Answer")

ReadRules = Callable[[str], Awaitable[Rules | None]]
"""Rules hash -> the set, read from the store, or None when this program cannot read it any more."""

OLD_SETS = 64
"""Older sets of rules in memory. Open incidents need few; one that is missing is read again."""


@dataclass(frozen=True)
class Shelf:
    """A `Book`: the current rules, the older ones that are in memory, and the totals of the parameters."""

    current: Rules
    instance: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    older: Mapping[str, Rules | None] = field(default_factory=dict)
    broken: Sequence[Broken] = ()
    askable: frozenset[str] = frozenset()
    automation: Automation = UNBOUNDED
    envs: Mapping[str, str | None] = field(default_factory=dict)
    """Service -> whose it is."""
    halted: str | None = None

    def rules(self, rules_hash: str) -> Rules | None:
        """See Book."""
        if rules_hash == self.current.hash:
            return self.current
        if rules_hash not in self.older:
            raise UnknownRules(rules_hash)
        return self.older[rules_hash]

    def total(self, scope: str) -> float | None:
        """See Book."""
        parameter = self.parameters.get(scope.removeprefix("parameter:"))
        return None if parameter is None else parameter.total_per_day

    def touched(self, step: Step) -> tuple[Touched, ...]:
        """See Book."""
        names = [step.with_.get("service")]
        parameter = self.parameters.get(str(step.with_.get("parameter")))
        names += [parameter.service] if parameter is not None else []
        return tuple(Touched(name, self.envs.get(name)) for name in names if isinstance(name, str))

    def with_older(self, rules_hash: str, rules: Rules | None) -> Shelf:
        """The shelf with one more older set."""
        kept = dict(list(self.older.items())[-OLD_SETS + 1 :])
        return replace(self, older={**kept, rules_hash: rules})

    def replaced(self, current: Rules, parameters: Mapping[str, Parameter]) -> Shelf:
        """The shelf after a reload: what was current is an older set now."""
        # What could not be read may be readable with today's configuration.
        known = {rules_hash: rules for rules_hash, rules in self.older.items() if rules is not None}
        kept = dict(list(known.items())[-OLD_SETS + 1 :])
        older = {**kept, self.current.hash: self.current}
        return replace(self, current=current, parameters=parameters, older=older, broken=())


class Desk:
    """See the module. `on_turn` is set by whoever executes; without one, work waits in the store."""

    def __init__(
        self, store: Store, shelf: Shelf, worker: Worker, ids: Callable[[], str], read_rules: ReadRules
    ) -> None:
        self.store = store
        self.shelf = shelf
        self.worker = worker
        self.new_id = ids
        self._read_rules = read_rules
        self.on_turn: Callable[[Turn], None] = lambda turn: None

    @property
    def now(self) -> Clock:
        """The store's clock (µs)."""
        return self.store.now

    async def submit(self, make: Callable[[Shelf], Operation[Answer]]) -> Answer:
        """Commit what `make` builds and answer. Raises what the operation raises, and StoreUnavailable."""
        operation = make(self.shelf)
        for _ in range(OLD_SETS):
            try:
                return await self.store.submit(operation)
            except UnknownRules as missing:
                await self._fetch(missing.rules_hash)
                operation = make(self.shelf)
        return await self.store.submit(operation)

    async def policy_of(self, incident: Incident) -> Policy:
        """The policy that an incident began with; today's when that one cannot be read."""
        try:
            rules = self.shelf.rules(incident.rules_hash)
        except UnknownRules:
            await self._fetch(incident.rules_hash)
            rules = self.shelf.rules(incident.rules_hash)
        return (rules or self.shelf.current).policy(incident.policy)

    async def _fetch(self, rules_hash: str) -> None:
        rules = await self._read_rules(rules_hash)
        self.shelf = self.shelf.with_older(rules_hash, rules)

    def take(self, turns: Iterable[Turn]) -> None:
        """Hand turns with something to do to whoever executes."""
        for turn in turns:
            self.on_turn(turn)
