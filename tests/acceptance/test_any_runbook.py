"""For any runbook that loads, and any alert: a replay ends without an internal error. What does not load says why.

Nothing is judged here but that the machine holds together: no loop fails, no template is broken, nothing is logged as
an error, every journal folds to the stored state, and in the end nothing is overdue.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from responder.actions import ACTIONS
from responder.assumptions import Assumption, beginning
from responder.config import Config, read_config
from responder.contracts import Clock
from responder.environment import Environment
from responder.errors import BadRules, Rejected
from responder.journal import fold
from responder.loader import load_rules
from responder.pretending import Pretending
from responder.problems import Problem
from responder.rules import Rules
from responder.schedules import ArmSchedules
from responder.simulate import Scene, Simulation, asks, sleep
from responder.simulated_services import SimulatedServices
from responder.sources import shipped_rules
from responder.timing import HOUR, SECOND
from tests.acceptance.any_runbook import ALERTS, rule_files
from tests.acceptance.stage import CATALOGUE, SETTINGS, START, templates
from tests.invariants import told

EXAMPLES = int(os.environ.get("RESPONDER_EXAMPLES", "60"))
"""As in test_properties: more of them before a release; a hundred take about ten seconds."""
MOST_EVENTS = 3_000
"""Of one incident: more would be a circle."""


@cache
def configured() -> Config:
    environment = Environment({"HOME": "/var/ops"}, shipped_rules(), check_secrets=False)
    return read_config("responder.yaml", f"mode: auto\n{SETTINGS}", CATALOGUE, environment)


class Rehearsal(Simulation):
    """A simulation under an assumption, as `replay` makes it."""

    def __init__(self, rules: Rules, assumption: Assumption) -> None:
        config = configured()

        def performer(clock: Clock) -> Pretending:
            simulated = SimulatedServices(config.parameters, beginning([rules], config.parameters), sleep)
            return Pretending(
                ACTIONS, simulated.connect, config.parameters, clock, sleep, assumption=assumption, rules=rules,
                services=config.services, simulated=simulated, started=START,
            )  # fmt: skip

        super().__init__(
            Scene(
                rules=rules,
                parameters=config.parameters,
                notifiers=config.notifiers,
                render=templates().render,
                performs=performer,
                start=START,
                fallback="console",
            )
        )
        self.arm()

    def arm(self) -> None:
        """Arm the schedules, as the start of the server does."""
        self._submit(lambda desk: lambda shelf: ArmSchedules(desk.new_id(), shelf))


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.getMessage()} {record.exc_info[1]!r}" if record.exc_info else record.getMessage())


@contextmanager
def rehearsed(rules: Rules, assumption: Assumption) -> Iterator[Rehearsal]:
    """One rehearsal, closed at its end; nothing was logged as an error."""
    log = _Errors()
    logging.getLogger("responder").addHandler(log)
    rehearsal = Rehearsal(rules, assumption)
    try:
        yield rehearsal
        assert log.said == []
    finally:
        logging.getLogger("responder").removeHandler(log)
        rehearsal.close()


# --- what happens -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Happening:
    """One thing that happens; its text is what a failing example shows."""

    text: str
    do: Callable[[Rehearsal], object]

    def __repr__(self) -> str:
        return self.text


def fires(labels: Mapping[str, str], summary: str) -> Happening:
    return Happening(f"fires({labels}, {summary!r})", lambda r: r.fires(labels, summary=summary))


def resolves(labels: Mapping[str, str]) -> Happening:
    return Happening(f"resolves({labels})", lambda r: r.resolves(labels))


def after(seconds: int) -> Happening:
    return Happening(f"after({seconds}s)", lambda r: r.advance(seconds * SECOND))


def restarts(seconds: int) -> Happening:
    def do(rehearsal: Rehearsal) -> None:
        rehearsal.restart(seconds * SECOND)
        rehearsal.arm()

    return Happening(f"restarts({seconds}s)", do)


def says(verb: str, **more: Any) -> Happening:
    def do(rehearsal: Rehearsal) -> None:
        for incident in rehearsal.incidents():
            try:
                rehearsal.person(verb, "alice", "because {{ x }} <!channel>", incident=incident.id, **more)
            except Rejected:
                continue  # it made no sense now, and the person was told so

    return Happening(f"{verb}({more or ''})", do)


HOSTILE = st.sampled_from(
    ['a"b', "{{ x }}", "../..", "a\nb\r\n", "<!channel>", "\u202e\u2028", "é😀", "a" * 3_000, " ", "1e999"]
)


def mostly(*good: str) -> st.SearchStrategy[str]:
    """A value that fits its type, or once in six one that need not."""
    return st.one_of(*[st.sampled_from(good)] * 5, HOSTILE)


ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
LABELS = st.fixed_dictionaries(
    {
        "alertname": st.sampled_from([*ALERTS, *ALERTS, "B"]),
        "symbol": mostly("BTC-USD", "ETH-USD"),
        "side": mostly("long", "short"),
        "size": mostly("1", "20"),
    },
    optional={
        "severity": st.sampled_from(["critical", "warning", "info", "INFO", "odd"]),
        "anything": HOSTILE | ANYTHING,
    },
)
FIRES = st.builds(fires, LABELS, HOSTILE)
HAPPENINGS = st.one_of(
    FIRES,
    FIRES,
    LABELS.map(resolves),
    st.sampled_from([1, 7, 61, 400, 1_300]).map(after),
    st.sampled_from([1, 7, 61, 400, 1_300]).map(after),
    st.sampled_from([0, 10, 300, 7_300]).map(restarts),
    st.sampled_from(
        [
            says("ack"), says("takeover"), says("done"), says("settle", applied=True), says("settle", applied=False),
            says("unlock"), says("restore"),
            Happening("pauses", lambda r: r.pauses()), Happening("resumes", lambda r: r.resumes()),
            Happening("resolves what is fixed", lambda r: r.resolves_fixed()),
        ]
    ),
)  # fmt: skip


LIVES = st.builds(lambda first, rest: [first, *rest], FIRES, st.lists(HAPPENINGS, max_size=9))


# --- the property -----------------------------------------------------------------------------------------------------


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(rule_files(), st.sampled_from(Assumption), LIVES)
def test_what_loads_can_be_replayed_and_what_does_not_says_where(
    files: dict[str, str], assumption: Assumption, happenings: list[Happening]
) -> None:
    for name, text in files.items():
        note(f"--- {name}\n{text}")
    try:
        rules = load_rules(files, CATALOGUE, configured()).rules
    except BadRules as refusal:
        assert refusal.problems  # noqa: PT017 - both ends are good
        for problem in refusal.problems:
            says_where(problem, files)
        return
    with rehearsed(rules, assumption) as rehearsal:
        for happening in happenings:
            happening.do(rehearsal)
            assert rehearsal.failing == []
        holds_together(rehearsal)
        comes_to_rest(rehearsal)
        holds_together(rehearsal)


def says_where(problem: object, files: Mapping[str, str]) -> None:
    """File, line and column exist, and the message and its cure are for people."""
    assert isinstance(problem, Problem)
    lines = files[problem.file].splitlines()
    assert 1 <= problem.line <= len(lines)
    assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
    assert problem.message
    assert "Traceback" not in str(problem)
    assert "pydantic" not in str(problem)


def holds_together(rehearsal: Rehearsal) -> None:
    assert rehearsal.failing == []
    assert rehearsal.plain == []
    for incident in rehearsal.incidents():
        events = rehearsal.events(incident)
        assert len(events) < MOST_EVENTS
        assert told(fold(events)) == told(incident)
    assert len(rehearsal.tales()) == len(rehearsal.incidents())


def comes_to_rest(rehearsal: Rehearsal) -> None:
    """People do what they are asked, and then nothing is under way or overdue; what recurs may go on."""
    rehearsal.resumes()
    for _ in range(5):
        rehearsal.until_quiet(2 * HOUR, asks)
        if not rehearsal.does_by_hand():
            break
    for _ in range(30):  # a schedule may just have come due, and its run be under way
        if not rehearsal.busy:
            break
        rehearsal.advance(7 * SECOND)
    assert not rehearsal.busy
    now = rehearsal.clock()
    overdue = [(i.id, due) for i in rehearsal.incidents() if not i.closed for due in i.agenda if due.due < now - SECOND]
    assert overdue == []
