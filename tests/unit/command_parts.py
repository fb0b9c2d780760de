"""What people say, and what happened before: for the tests of `commands`."""

from __future__ import annotations

from typing import Any

from responder import facts as f
from responder.commands import Command
from responder.desk import Shelf
from responder.draft import Draft
from responder.records import Change, Keys, State
from tests.builders import Ledger, a_runbook, call_step, fired, opened, rules_of

RESTORED = call_step("cut", restore={"approval": "desk", "remind": "4h"})
HALT = a_runbook(runbook="halt", match=(), steps=[call_step("halt")])
BOOK = Shelf(rules_of(a_runbook(steps=[RESTORED]), HALT), "test")


class Happens:
    """Facts, as they would have come."""

    id = "before"

    def __init__(self, facts: tuple[f.Fact, ...]) -> None:
        self.facts = facts

    def reads(self) -> Keys:
        return Keys()

    def apply(self, state: State) -> Change[None]:
        draft = Draft(self.id, state, BOOK)
        draft.open(opened())
        for fact in (fired(), *self.facts):
            draft.record("i1", fact)
        return Change(draft.writes(), None)


def says(ledger: Ledger, verb: str, actor: str = "alice", note: str = "", **said: Any) -> None:
    ledger.do(Command(f"c{len(ledger.writes)}", "i1", verb, actor, BOOK, None, note=note, **said))
