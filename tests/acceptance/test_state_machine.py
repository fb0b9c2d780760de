"""C15: incidents, the lock of a target, approvals and the pause, against a model that fits on one page.

Three runbooks change one target; one of them asks two people first, and one, for a lower severity, is verified. Every
transaction that the engine would make is made here one by one, so that people, alerts and a death also come while a
change is under way. After each of them the model says where every run stands, who holds the lock and what was sent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from responder.alert import Limits, parse_notification
from responder.commands import Command, SetPause, pending_approval
from responder.desk import Shelf
from responder.draft import Intended, Turn, Worker
from responder.errors import Rejected
from responder.incident import Incident
from responder.ingest import Doubtful, Ingest
from responder.operations import Ended, Learned, Report, Tick
from responder.recorded import AlertsSeen, Effect, Observation, Outcome, Phase, Result
from responder.records import NotificationRow, Operation, open_key
from responder.rules import Rules
from responder.timing import HOUR, SECOND, format_time
from responder.view import Gather
from tests.builders import Ledger, a_plan, a_runbook, call_step, rules_of

EXAMPLES = int(os.environ.get("RESPONDER_EXAMPLES", "30"))
TARGET = "desk"
NAMES = ("asks", "acts", "looks")
SEVERITIES = {"asks": "critical", "acts": "critical", "looks": "high"}
PEOPLE = ("alice", "bob", "carol")
OUTCOMES = {Outcome.OK: "over", Outcome.PERMANENT: "over", Outcome.TEMPORARY: "over", Outcome.UNKNOWN: "unknown"}
NEVER = "0001-01-01T00:00:00Z"


@cache
def rules() -> Rules:
    """One is verified, until it is good; a run of the others ends with its change."""
    asking = call_step(approval={"role": "operator", "people": 2, "within": "12h"}, timeout="10m")
    asks = a_runbook(runbook="asks", match="asks", target=TARGET, steps=[asking], verify=None, checks=None)
    acts = a_runbook(
        runbook="acts", match="acts", target=TARGET, steps=[call_step(timeout="10m")], verify=None, checks=None
    )
    verify = {"check": "risk", "expect": "value < 1", "within": "1h"}
    looks = a_runbook(runbook="looks", match="looks", target=TARGET, steps=[call_step(timeout="10m")], verify=verify)
    return rules_of(asks, acts, looks)


# --- the model --------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """Where the incident of one runbook stands: `none`, `waits`, `asked`, `acts`, `verifies`, `over`, `unknown`."""

    stands: str = "none"
    firing: bool = False
    yes: set[str] = field(default_factory=set)
    taken: bool = False
    settled: bool = False


@dataclass
class Model:
    """The whole of it. `sent` counts the changes of each runbook."""

    paused: bool = False
    lock: str | None = None
    lost: bool = False
    """Nobody knows what became of the change that the lock is held for."""
    cases: dict[str, Case] = field(default_factory=lambda: {name: Case() for name in NAMES})
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))

    def looks(self, name: str) -> None:
        """The gates are asked: the pause first, then the lock, then people."""
        case = self.cases[name]
        if case.stands == "asked" and len(case.yes) < 2:
            return
        if self.paused:
            case.stands = "waits"
        elif self.lock is not None and self.lost:
            self._ends(name, "over")
        elif self.lock is not None and not (self.cases[self.lock].stands == "verifies" and name != "looks"):
            case.stands = "waits"
        elif name == "asks" and len(case.yes) < 2:
            case.stands = "asked"
        else:
            if self.lock is not None:
                self._ends(self.lock, "over")
            case.stands, self.lock, self.lost = "acts", name, False
            self.sent[name] += 1

    def _ends(self, name: str, stands: str) -> None:
        case = self.cases[name]
        case.stands, case.yes = stands, set()
        if not case.firing:
            self.cases[name] = Case()

    def fires(self, name: str) -> None:
        """A new incident begins to act; one that still acts goes on."""
        case = self.cases[name]
        case.firing = True
        if case.stands == "none":
            case.stands = "waits"
            self.looks(name)

    def resolves(self, name: str) -> None:
        """What has not begun is left; what is over closes."""
        case = self.cases[name]
        case.firing = False
        if case.stands not in ("none", "acts", "verifies"):
            self._ends(name, "over")

    def ends(self, name: str, outcome: Outcome) -> None:
        """The change is over, one way or another."""
        stands = OUTCOMES[outcome]
        self.lost = stands == "unknown"
        if name == "looks" and outcome in (Outcome.OK, Outcome.UNKNOWN):
            self.cases[name].stands, self.cases[name].settled = "verifies", False
            return
        if not self.lost:
            self.lock = None
        self._ends(name, stands)

    def helps(self) -> None:
        """The check is good: what is verified is over, and only what nobody knows keeps the lock."""
        if self.cases["looks"].stands != "verifies":
            return
        if self.lock == "looks" and (not self.lost or self.cases["looks"].settled):
            self.lock = None
        self._ends("looks", "over")

    def stops(self, name: str) -> None:
        """Nothing more is done; what is under way goes on."""
        if self.cases[name].stands in ("waits", "asked"):
            self._ends(name, "over")


# --- the transactions -------------------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.ledger = Ledger()
        self.shelf = Shelf(rules(), "test")
        self.worker = Worker("life-1", alone=True)
        self.doing: dict[str, Intended] = {}
        self.sent = dict.fromkeys(NAMES, 0)
        self.good = False
        self._numbers = count(1)

    def _id(self) -> str:
        return f"op{next(self._numbers)}"

    def _incident(self, name: str) -> Incident | None:
        key = open_key("live", name, TARGET)
        found = self.ledger.state.open_keys.get(key)
        row = self.ledger.state.incidents.get(found) if found else None
        return None if row is None else row.fold

    def _do(self, make: Callable[[], Operation[Any]]) -> None:
        turn = self.ledger.do(make())
        for one in turn if isinstance(turn, tuple) else (turn,):
            self._take(one)

    def _take(self, turn: Turn) -> None:
        """What the engine does with it: readings are answered at once, a change is under way until a rule ends it."""
        following, incident = turn.next, turn.incident
        if isinstance(following, Intended):
            self.doing[incident.runbook or ""] = following
            self.sent[incident.runbook or ""] += 1
            self._looks_after()
        elif isinstance(following, Gather):
            nobody = AlertsSeen(observed_at=self.ledger.state.now, nobody="nobody is asked")
            plan = a_plan(Effect.UNSAFE) if following.step else None
            now, value = self.ledger.state.now, 0.5 if self.good or following.watch else 2.0
            seen = tuple(Observation(check=c, value=value, observed_at=now, asked_at=now) for c in following.checks)
            learned = Learned(seen, plan, alerts=nobody if following.alerts else None)
            report = Report(self._id(), incident.id, following, learned, turn.epoch, self.shelf, self.worker)
            self._take(self.ledger.do(report))

    def _looks_after(self) -> None:
        """What was superseded is looked at at once, as the timers of the engine do."""
        incident = self._incident("looks")
        now = self.ledger.state.now
        if incident is not None and any(due.kind == "work" and due.due <= now for due in incident.agenda):
            self._do(partial(Tick, self._id(), incident.id, self.shelf, self.worker))

    def _says(self, name: str, verb: str, actor: str = "alice", **more: Any) -> bool:
        """Whether it made sense."""
        incident = self._incident(name)
        if incident is None:
            return False
        try:
            self._do(
                lambda: Command(self._id(), incident.id, verb, actor, self.shelf, self.worker, note="because", **more)
            )
        except Rejected:
            return False
        return True

    def _tells(self, name: str, *, firing: bool) -> None:
        now = format_time(self.ledger.state.now)
        alert = {
            "status": "firing" if firing else "resolved",
            "labels": {"alertname": name, "severity": SEVERITIES[name]},
            "annotations": {},
            "startsAt": now,
            "endsAt": NEVER if firing else now,
        }
        head = {"version": "4", "receiver": "responder", "groupKey": "g", "alerts": [alert]}
        body = json.dumps(head).encode()
        name = self._id()
        row = NotificationRow(name, "live", 0, "test", "responder", "g", 1, 0, body)
        notification = parse_notification(body, Limits())
        try:
            received = self.ledger.do(Ingest(name, notification, row, self.shelf, self.worker))
        except Doubtful as doubtful:
            again = Ingest(name, notification, row, self.shelf, self.worker, doubtful.fingerprints)
            received = self.ledger.do(again)
        for turn in received.turns:
            self._take(turn)

    # --- rules --------------------------------------------------------------------------------------------------------

    @initialize(outcome=st.sampled_from([None, Outcome.OK, Outcome.OK, Outcome.UNKNOWN]))
    def begins(self, outcome: Outcome | None) -> None:
        """Mostly one of them is verified already: what comes to that is not met by chance alone."""
        if outcome is not None:
            self.fires("looks")
            self.ends(outcome)

    @rule(name=st.sampled_from(NAMES))
    def fires(self, name: str) -> None:
        self.ledger.after(SECOND)
        self._tells(name, firing=True)
        if not self.model.cases[name].firing:
            self.model.fires(name)

    @rule()
    def all_fire(self) -> None:
        for name in NAMES:
            self.fires(name)

    @rule(name=st.sampled_from(NAMES))
    def resolves(self, name: str) -> None:
        self.ledger.after(SECOND)
        self._tells(name, firing=False)
        if self.model.cases[name].firing:
            self.model.resolves(name)

    @rule(seconds=st.sampled_from([6, 40]))
    def time_passes(self, seconds: int) -> None:
        self.ledger.after(seconds * SECOND)
        self._all_look(lost=False)

    @rule()
    def hours_pass(self) -> None:
        """Nobody has answered by then, so nothing is done; a yes that could not be used is over, and so is hope."""
        self.ledger.after(13 * HOUR)
        case = self.model.cases["asks"]
        case.yes.clear()
        if case.stands == "asked":
            self.model.stops("asks")
        self._all_look(lost=True)

    def _all_look(self, *, lost: bool) -> None:
        """In the order of their names. `lost`: nobody will say any more how a change ended."""
        under_way = list(self.doing) if lost else []
        self.doing = {} if lost else self.doing
        for name in NAMES:
            incident = self._incident(name)
            if incident is not None:
                self._do(partial(Tick, self._id(), incident.id, self.shelf, self.worker))
            if name in under_way:
                self.model.ends(name, Outcome.UNKNOWN)
            elif self.model.cases[name].stands == "waits":
                self.model.looks(name)

    @rule()
    def helps(self) -> None:
        """The check is good at the next look."""
        self.ledger.after(6 * SECOND)
        incident, self.good = self._incident("looks"), True
        if incident is not None:
            self._do(partial(Tick, self._id(), incident.id, self.shelf, self.worker))
        self.good = False
        self.model.helps()
        if self.model.cases["looks"].stands == "waits":
            self.model.looks("looks")

    @rule(actor=st.sampled_from(PEOPLE))
    def approves(self, actor: str) -> None:
        incident = self._incident("asks")
        asked = pending_approval(incident) if incident is not None else None
        case = self.model.cases["asks"]
        makes_sense = case.stands == "asked" and actor not in case.yes
        assert self._says("asks", "approve", actor, plan=asked.plan if asked else "0") is makes_sense
        if makes_sense:
            case.yes.add(actor)
            self.model.looks("asks")

    @rule()
    def approves_something_else(self) -> None:
        assert not self._says("asks", "approve", plan="something else")

    @rule()
    def denies(self) -> None:
        makes_sense = self.model.cases["asks"].stands == "asked"
        assert self._says("asks", "deny") is makes_sense
        if makes_sense:
            self.model.stops("asks")

    @rule(paused=st.booleans())
    def switches(self, paused: bool) -> None:
        self.ledger.do(SetPause(self._id(), paused, "alice", "because", self.shelf))
        self.model.paused = paused

    @rule(name=st.sampled_from(NAMES))
    def takes_over(self, name: str) -> None:
        case = self.model.cases[name]
        assert self._says(name, "takeover") is (case.stands != "none")
        if case.stands != "none":
            case.taken = True
            self.model.stops(name)

    @rule(name=st.sampled_from(NAMES))
    def cancels(self, name: str) -> None:
        makes_sense = self.model.cases[name].stands in ("waits", "asked", "acts", "verifies")
        assert self._says(name, "cancel") is makes_sense
        self.model.stops(name)

    @precondition(lambda self: self.doing)
    @rule(outcome=st.sampled_from([Outcome.UNKNOWN, Outcome.OK, Outcome.PERMANENT, Outcome.TEMPORARY]))
    def comes_to_its_end(self, outcome: Outcome) -> None:
        self.ends(outcome)

    def ends(self, outcome: Outcome) -> None:
        """The change that is under way ends."""
        name, doing = self.doing.popitem()
        self.ledger.after(SECOND)
        book, by = self.shelf, self.worker
        self._do(
            lambda: Ended(self._id(), doing.incident, doing.attempt, outcome, "said so", None, doing.epoch, book, by)
        )
        self.model.ends(name, outcome)

    @rule()
    def dies(self) -> None:
        """Another process takes over: what was under way is unknown."""
        self.worker = replace(self.worker, id=f"life-{next(self._numbers)}")
        self._all_look(lost=True)

    @rule(name=st.sampled_from(NAMES), applied=st.booleans())
    def settles(self, name: str, applied: bool) -> None:
        incident = self._incident(name)
        unsettled = incident.unsettled if incident is not None else ()
        if unsettled:
            assert self._says(name, "settle", attempt=unsettled[-1].id, applied=applied)
            self.model.cases[name].settled = True
            if self.model.lost and self.model.lock == name and self._holder() is None:
                self.model.lock = None

    @rule(name=st.sampled_from(NAMES))
    def unlocks(self, name: str) -> None:
        model = self.model
        held = model.lock is not None and (model.lost or model.cases[model.lock].stands == "verifies")
        makes_sense = model.cases[name].stands != "none" and held
        assert self._says(name, "unlock") is makes_sense
        if makes_sense:
            model.lock, model.lost = None, False
            if model.cases[name].stands == "waits":
                model.looks(name)

    # --- what must be the same ----------------------------------------------------------------------------------------

    def _holder(self) -> tuple[str, bool] | None:
        row = self.ledger.state.scopes.get(f"lock:{TARGET}")
        if row is None or not row.body:
            return None
        body = json.loads(row.body)
        incident = self.ledger.state.incidents[body["incident"]]
        assert incident is not None
        return incident.fold.runbook or "", body["unknown"]

    def _stands(self, name: str) -> str:
        incident = self._incident(name)
        if incident is None:
            return "none"
        run = incident.active_run
        if run is None:
            last = incident.run
            assert last is not None
            return "unknown" if last.result is Result.UNKNOWN else "over"
        if run.open_attempt is not None:
            return "acts"
        if run.phase is Phase.VERIFYING:
            return "verifies"
        return "asked" if pending_approval(incident) is not None and run.waits_until is None else "waits"

    @invariant()
    def every_run_stands_where_the_model_says(self) -> None:
        assert {name: self._stands(name) for name in NAMES} == {n: c.stands for n, c in self.model.cases.items()}

    @invariant()
    def the_lock_is_held_by_whom_the_model_says(self) -> None:
        expected = None if self.model.lock is None else (self.model.lock, self.model.lost)
        assert self._holder() == expected

    @invariant()
    def nothing_more_was_sent(self) -> None:
        assert self.sent == self.model.sent
        assert len(self.doing) <= 1


TestStateMachine = Machine.TestCase
TestStateMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None)
