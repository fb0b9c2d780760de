"""Whatever services and people answer, a replay ends, and ends without an internal error."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder.answers import Script, nameable, read_answers
from responder.assumptions import Assumption
from responder.cli import rehearsal, retelling
from responder.recordings import Recording
from responder.timing import MINUTE
from tests.acceptance.stage import ALERT, START, shipped, templates

WAITS = st.sampled_from(["0s", "1s", "9s", "45s"])
TIMES = st.integers(0, 20).map(lambda minutes: f"{minutes}m")
NUMBERS = st.sampled_from([-1, 0, 1.65, 1.75, 1.9, 2.5])
CHECK = st.one_of(
    NUMBERS,
    st.none(),
    st.sampled_from(["CLOSED", True]),
    st.fixed_dictionaries({"value": NUMBERS}, optional={"age": WAITS, "delay": WAITS, "times": st.integers(1, 5)}),
    st.fixed_dictionaries({"missing": st.just("gone")}, optional={"delay": WAITS}),
)
STEP = st.one_of(
    st.just("ok"),
    st.fixed_dictionaries({"temporary": st.just("503")}, optional={"delay": WAITS}),
    st.fixed_dictionaries({"refused": st.just("422")}, optional={"delay": WAITS}),
    st.fixed_dictionaries({"lost": st.sampled_from(["applied", "not_applied", "unclear"])}, optional={"delay": WAITS}),
    st.fixed_dictionaries({"ok": st.sampled_from([True])}, optional={"delay": WAITS}),
)
VERBS = st.sampled_from(["ack", "takeover", "done", "unlock", "restore", "pause", "resume"])
SAYS = st.builds(lambda verb, at: {verb: "alice", "at": at, "note": "because"}, VERBS, TIMES)
SETTLES = st.builds(
    lambda at, applied: {"settle": "bob", "at": at, "applied": applied, "note": "seen"}, TIMES, st.booleans()
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "parameters": st.fixed_dictionaries({"risk-api/kelly_fraction": st.sampled_from([0.05, 0.1, 0.25, 0.9])}),
        "checks": st.fixed_dictionaries(
            {}, optional={n: st.lists(CHECK, min_size=1, max_size=4) for n in ("var", "var_while_halted")}
        ),
        "steps": st.fixed_dictionaries(
            {}, optional={n: st.lists(STEP, min_size=1, max_size=4) for n in ("cut_kelly", "halt")}
        ),
        "services": st.fixed_dictionaries(
            {}, optional={n: st.builds(lambda at: {"down": "gone", "from": at}, TIMES) for n in ("risk-api", "metrics")}
        ),
        "people": st.lists(st.one_of(SAYS, SETTLES), max_size=4),
    },
)


@pytest.fixture
def errors() -> Iterator[list[str]]:
    found: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Kept(logging.ERROR)
    logging.getLogger("responder").addHandler(handler)
    yield found
    logging.getLogger("responder").removeHandler(handler)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANSWERS, st.sampled_from(list(Assumption)))
def test_every_replay_ends_without_an_internal_error(
    errors: list[str], answers: dict[str, Any], assumption: Assumption
) -> None:
    rules, config = shipped()
    known = nameable([rules], config.parameters, config.services)
    script = read_answers("a.yaml", yaml.safe_dump(answers).encode(), known) if answers else Script()
    alert = {"status": "firing", "labels": dict(ALERT)}
    recording = Recording("alert", START, json.dumps({"version": "4", "alerts": [alert]}).encode())
    stage = rehearsal.Stage(config, templates().render, rules)
    plot = rehearsal.plot_of([recording], script, assumption, 75 * MINUTE, [stage], START)
    replay = rehearsal.rehearse(plot, stage)
    assert errors == []
    assert len(replay.tales) == 1
    assert json.dumps(retelling.as_json(replay))
    assert max(map(len, retelling.as_text(replay).splitlines())) <= 80
