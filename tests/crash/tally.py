"""What the campaigns of outages count, and how one life is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.crash.campaign import TOLD
from tests.crash.forks import Ended


@dataclass
class Tally:
    """`operations`: how many database operations (or kill points) a life without a fault has."""

    cycles: int = 0
    failed: int = 0
    lost: int = 0
    doubled: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def wrong(self, place: str, said: str) -> None:
        """One more failure."""
        self.lost += said.startswith("I1")
        self.doubled += said.startswith("I2")
        if len(self.failures) < TOLD:
            self.failures.append(f"{place}: {said}")

    def judge(self, place: str, ended: Ended, matters: Callable[[str], bool] = bool, over: bool = True) -> None:
        """A life that came to its end. `matters`: which violations count; `over`: the incident must be closed."""
        self.cycles += 1
        for said in ended.report["violations"]:
            if matters(said):
                self.wrong(place, said)
        if len(ended.report["incidents"]) != 1:
            self.wrong(place, f"I1: {ended.report['incidents']}")
            return
        (incident,) = ended.report["incidents"]
        if over and not incident["closed"]:
            self.wrong(place, f"not over: {incident}")
        result = str(incident["runs"][0][1]) if incident["runs"] else "none"
        self.ends[result] = self.ends.get(result, 0) + 1
