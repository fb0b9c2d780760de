"""The transaction that tells what is silenced in Alertmanager by now, and what is not any more.

Nothing else would tell it: a silenced alert is left out of notifications, its end too (contracts.md A5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from responder import facts as f
from responder.draft import Book, Draft, Turn, Worker
from responder.records import Change, Keys, State


@dataclass(frozen=True, slots=True)
class MarkSilences:
    """What was told already is not told again; answers None where there is nothing to tell.

    `silenced`: fingerprint -> its silence. `firing`: fingerprints that fire there and are not silenced.
    """

    id: str
    incident: str
    silenced: Mapping[str, str]
    firing: frozenset[str]
    book: Book
    by: Worker | None

    def reads(self) -> Keys:
        """The incident."""
        return Keys(incidents=frozenset({self.incident}))

    def apply(self, state: State) -> Change[Turn | None]:
        """See the class."""
        draft = Draft(self.id, state, self.book, self.by)
        known = {e.fingerprint: e.silenced for e in draft.incident(self.incident).firing}
        fresh = tuple(sorted(mark for mark in self.silenced if known.get(mark) == ""))
        back = tuple(sorted(mark for mark in self.firing if known.get(mark)))
        if fresh:
            why = "; ".join(dict.fromkeys(self.silenced[mark] for mark in fresh))
            draft.record(self.incident, f.AlertsSilenced(fingerprints=fresh, why=why))
        if back:
            draft.record(self.incident, f.AlertsUnsilenced(fingerprints=back))
        turn = draft.advance(self.incident) if fresh or back else None
        return Change(draft.writes(), turn)
