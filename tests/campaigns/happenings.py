"""What happens in the world of a seed: alerts, people, faults and deaths, each at its instant.

`random_moments` spreads them over minutes (C4); `races` puts several of them at the same instant, where something comes
due as well (C21). Pure: the same seed gives the same list.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from responder.timing import MINUTE, SECOND
from tests.campaigns.rule_seeds import PEOPLE
from tests.campaigns.services import HIGH, LOW, WORSE


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happens `at` µs after the beginning, after so many turns of the loop of that instant."""

    at: int
    turns: int
    what: str
    given: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """A line of the story."""
        given = " ".join(f"{name}={value}" for name, value in self.given.items())
        return f"{self.at / SECOND:9.3f} +{self.turns} {self.what} {given}".rstrip()


@dataclass(frozen=True, slots=True)
class Lot:
    """All that is drawn for a world beside its rules."""

    seed: int
    happenings: tuple[Happening, ...]
    kelly: float
    faulty: int
    helps: dict[str, float]
    blocks: tuple[int, ...]
    """Turns of the loop that operations wait before they are written, in order and again from the beginning."""


LENGTH = 150 * SECOND


def lot(seed: int, runbooks: int, *, races: bool) -> Lot:
    """Everything of one world with so many runbooks."""
    chance = random.Random(f"{'c21' if races else 'c4'} {seed}")
    made = _races(chance, runbooks) if races else _random_moments(chance, runbooks)
    wave = _waves(random.Random(f"waves {races} {seed}"), runbooks)
    made = [*wave, *(made[1:] if wave and wave[0].at == 0 else made)]
    helps = {target: chance.choice((LOW, LOW, HIGH, WORSE)) for target in TARGETS}
    return Lot(
        seed,
        tuple(sorted(made, key=lambda one: one.at)),
        kelly=chance.choice((0.25, 0.25, 0.4, 0.1)),
        faulty=chance.choice((0, 10, 30, 70)),
        helps={target: value for target, value in helps.items() if chance.random() < 0.9},
        blocks=tuple(chance.choice((0, 0, 1, 3)) for _ in range(17)),
    )


TARGETS = ("risk-api/kelly_fraction", "kelly", "trading", "desk")


def _random_moments(chance: random.Random, runbooks: int) -> list[Happening]:
    first = Happening(0, 0, "fires", _alert(chance, runbooks))
    return [first, *(_happening(chance, runbooks, chance.randrange(LENGTH)) for _ in range(chance.randint(4, 16)))]


def _waves(chance: random.Random, runbooks: int) -> list[Happening]:
    """In most worlds, what single happenings seldom come to together."""
    wave = chance.choice((_again, _overtaken, _overtaken, _overtaken, _forgotten, None))
    begins = chance.randrange(60) * SECOND
    return [] if wave is None else [Happening(at, 0, what, given) for at, what, given in wave(chance, runbooks, begins)]


Wave = list[tuple[int, str, dict[str, Any]]]


def _firing(name: int, severity: str, instance: str) -> dict[str, Any]:
    return {"name": f"A{name}", "severity": severity, "instance": instance, "truncated": 0}


def _again(chance: random.Random, runbooks: int, begins: int) -> Wave:
    """The same alert from one instance after the other, so that its runbook runs again and again."""
    name, gap = chance.randrange(runbooks), chance.randrange(8, 25) * SECOND
    return [(begins + n * gap, "fires", _firing(name, "critical", instance)) for n, instance in enumerate("abcd")]


def _overtaken(chance: random.Random, runbooks: int, begins: int) -> Wave:
    """The first alert is a milder one, and a severe one of another runbook comes while its run is being verified."""
    first, second = chance.sample(range(runbooks), 2) if runbooks > 1 else (0, 0)
    later = chance.randrange(5, 15) * SECOND
    # Neither check gets better by the first change, or there would be nothing to overtake.
    checks = [{"check": f"risk{name}", "to": HIGH} for name in (first, second)]
    bad = [(after * SECOND, "value", check) for after in (1, 4) for check in checks]
    severe = [(later, "fires", _firing(second, "critical", "c"))]
    return [(0, "fires", _firing(first, chance.choice(("warning", "high")), "d")), *bad, *severe]


def _forgotten(chance: random.Random, runbooks: int, begins: int) -> Wave:
    """Both Alertmanagers are restarted at once, and know nothing for longer than it takes to look twice."""
    back = {"seconds": chance.randrange(30, 39)}
    return [(begins, "fires", _firing(chance.randrange(runbooks), "critical", "b")),
            *((begins + 57 * SECOND, "restart", {"which": which, **back}) for which in (0, 1))]  # fmt: skip


DUE = (0, 0, 15, 30, 45, 60, 90, 120, 121, 150)
"""Seconds at which something comes due: graces, levels, promises, countdowns, deadlines, ends of acknowledgements."""


def _races(chance: random.Random, runbooks: int) -> list[Happening]:
    made = [Happening(0, 0, "fires", _alert(chance, runbooks))]
    for _ in range(chance.randint(2, 4)):
        near = chance.choice((0, 0, 0, 1, SECOND // 100, SECOND))
        at = max(0, chance.choice(DUE) * SECOND + chance.choice((-1, 1)) * near)
        made += [_happening(chance, runbooks, at, people=True) for _ in range(chance.randint(2, 5))]
    made += [_happening(chance, runbooks, chance.randrange(LENGTH)) for _ in range(chance.randint(0, 4))]
    return made


def _happening(chance: random.Random, runbooks: int, at: int, *, people: bool = False) -> Happening:
    names, weights = zip(*(_AMONG_PEOPLE if people else _ANYTHING).items(), strict=True)
    what = chance.choices(names, weights)[0]
    return Happening(at, chance.randrange(9) if people else 0, what, _GIVEN[what](chance, runbooks))


_ANYTHING = {
    "fires": 22, "resolves": 14, "both": 3, "garbage": 1, "person": 34, "pause": 6, "resume": 5, "dark": 3, "blind": 3,
    "stale": 2, "light": 5, "value": 10, "by_hand": 5, "pagers": 3, "dies": 9, "silence": 5, "restart": 3, "cut": 3,
    "untold_end": 3, "untold_fire": 2,
}  # fmt: skip
_AMONG_PEOPLE = {**_ANYTHING, "person": 70, "pause": 14, "resume": 10, "fires": 16, "resolves": 16}

VERBS = {
    "ack": 6, "takeover": 3, "approve": 14, "approve_earlier": 2, "deny": 3, "done": 6, "settle": 6, "unlock": 3,
    "snooze": 2, "escalate": 2, "hold": 2, "cancel": 4, "restore": 4, "note": 1, "override": 6,
}  # fmt: skip


def _alert(chance: random.Random, runbooks: int) -> dict[str, Any]:
    return {
        "name": f"A{chance.randrange(runbooks)}" if chance.random() < 0.97 else "Unheard",
        "severity": chance.choice(("critical", "critical", "warning")),
        "instance": chance.choice("aaabcd"),
        "truncated": chance.choice((0, 0, 0, 0, 3)),
    }


def _person(chance: random.Random, runbooks: int) -> dict[str, Any]:
    verb = chance.choices(tuple(VERBS), tuple(VERBS.values()))[0]
    whom = {"verb": verb, "actor": chance.choice(PEOPLE), "which": chance.randrange(6)}
    more: dict[str, dict[str, Any]] = {
        "settle": {"applied": chance.random() < 0.5},
        "override": {"lasts": chance.choice((1, 1, 10)) * MINUTE},
    }
    return whom | more.get(verb, {})


def _pause(chance: random.Random, runbooks: int) -> dict[str, Any]:
    return {"scope": chance.choice(("pause:global", "pause:global", "pause:runbook:r0", "pause:service:risk-api"))}


def _value(chance: random.Random, runbooks: int) -> dict[str, Any]:
    return {"check": f"risk{chance.randrange(runbooks)}", "to": chance.choice((LOW, HIGH, WORSE, None))}


def _nothing(chance: random.Random, runbooks: int) -> dict[str, Any]:
    return {}


def _watcher(chance: random.Random, most: int) -> dict[str, Any]:
    """One of the two Alertmanagers, for a while."""
    return {"which": chance.randrange(2), "seconds": chance.randrange(1, most)}


_GIVEN: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "fires": _alert,
    "resolves": _alert,
    "both": _alert,
    "garbage": _nothing,
    "person": _person,
    "pause": _pause,
    "resume": _pause,
    "dark": _nothing,
    "blind": _nothing,
    "stale": _nothing,
    "light": _nothing,
    "value": _value,
    "by_hand": lambda chance, runbooks: {"to": chance.choice((0.3, 0.2, 0.05))},
    "silence": lambda chance, runbooks: {
        "name": f"A{chance.randrange(runbooks)}",
        "seconds": chance.choice((5, 40, 90)),
    },
    "restart": lambda chance, runbooks: _watcher(chance, 30),
    "cut": lambda chance, runbooks: _watcher(chance, 60),
    "untold_end": _alert,
    "untold_fire": _alert,
    "pagers": lambda chance, runbooks: {"down": chance.randrange(5, 100) * SECOND},
    "dies": lambda chance, runbooks: {"down": chance.choice((1, SECOND, 15 * SECOND, 70 * SECOND))},
}
