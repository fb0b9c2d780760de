"""Runbooks of every kind, as a person might write them: for the property that whatever loads can be replayed.

Composed of all keys of the language, each with values that mostly fit; what does not fit the loader refuses. Not here:
what is asserted (test_any_runbook).
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

NAMES = ("r0", "r1", "r2", "r3")
ALERTS = ("A0", "A1", "A2")
INPUTS = {
    "symbol": {"label": "symbol", "type": "currency_pair"},
    "side": {"label": "side", "one_of": ["long", "short"]},
    "size": {"label": "size", "type": "whole_number"},
    "anything": {"label": "anything", "pattern": "(?s).*"},
}
KELLY = "risk-api/kelly_fraction"
TARGETS = (
    KELLY, KELLY, "trading", "book/{{ symbol }}", "book/{{ symbol }}", "x/{{ anything }}/{{ side }}", "redis:metrics",
    "book/{{ size }}",
)  # fmt: skip
DURATIONS = st.sampled_from(["1s", "5s", "30s", "1m", "2m", "7m"])
LONGER = st.sampled_from(["1m", "3m", "5m", "20m", "1h"])
ROLES = st.sampled_from(["risk-manager", "operator"])
TEXTS = st.sampled_from(["Too much", "ü 東京 😀 \u202e", "<!channel> `a` *b*", "a" * 700, "one\ntwo", "100 % {x}", "[a](b)"])
ABOUT_VALUE = st.sampled_from(
    [
        "value > 1", "value < 1", "value == 1", "not value > 2", "value in [1, 2.5]", "value > 0.5 and value < 2",
        "value == 1 or value == 'on'", "value.status == 200", "value.status < 300 and value.body.trading == 'halted'",
        "value != null", "value", "value == true", "value > 1 and value < 1", "value - 1 > -0.5",
    ]
)  # fmt: skip
HARMFUL = st.sampled_from(["value > before", "value > before + 0.2", "value.status > before.status", "value == 'bad'"])


def some(given: st.SearchStrategy[Any], chances: int = 3) -> st.SearchStrategy[Any]:
    """The value, or nothing in most cases; nothing is what the smallest example has."""
    return st.one_of(*[st.none()] * (chances - 1), given)


def parts(**given: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping of what is there."""
    found = st.fixed_dictionaries(given)
    return found.map(lambda made: {name.rstrip("_"): value for name, value in made.items() if value is not None})


def texts_with(inputs: tuple[str, ...]) -> st.SearchStrategy[str]:
    """What may stand where a template may."""
    names = ["{{ incident.id }}", "{{ run.number }}", "{{ incident.severity }}", *(f"{{{{ {name} }}}}" for name in inputs)]
    return st.sampled_from(["a", *names, *(f"a-{name}" for name in names)])


# --- readings and steps -----------------------------------------------------------------------------------------------


def queries(inputs: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """A query of Prometheus."""
    fitting = ["max(var_pct)", *(f'max(var_pct{{a="{{{{ {name} }}}}"}})' for name in inputs)]
    freshness = ["var_pct", *(f'var_pct{{a=~"{{{{ {name} }}}}"}}' for name in inputs)]
    with_ = parts(
        service=st.just("metrics"), query=st.sampled_from(fitting), freshness=some(st.sampled_from(freshness), 2),
        all=some(st.booleans(), 5),
    )  # fmt: skip
    return parts(action=st.just("prometheus.query"), with_=with_)


def questions(inputs: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """A GET."""
    with_ = parts(
        service=st.sampled_from(["risk-api", "keyed-api"]),
        path=texts_with(inputs).map(lambda text: f"/api/{text}"),
        params=some(parts(q=texts_with(inputs), n=st.just(1))),
    )
    return parts(action=st.just("http.request"), with_=with_)


def readings(inputs: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Any reading."""
    return st.one_of(queries(inputs), queries(inputs), questions(inputs))


def calls(inputs: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """A change over HTTP, of every effect class."""
    probe = parts(path=st.just("/api/status"), expect=st.sampled_from(['body.trading == "halted"', "status == 204"]))
    with_ = parts(
        service=st.sampled_from(["risk-api", "keyed-api"]),
        method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
        path=texts_with(inputs).map(lambda text: f"/api/{text}"),
        json=some(parts(a=texts_with(inputs), b=st.lists(texts_with(inputs), max_size=2), c=st.just(1.5)), 2),
        headers=some(parts(**{"X-About": texts_with(inputs)})),
        expect_status=some(st.just([200, 404]), 5),
        probe=some(probe),
    )
    return parts(action=st.just("http.request"), with_=with_)


def cuts(inputs: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """A lower value of the parameter."""
    with_ = parts(parameter=st.just(KELLY), to=st.sampled_from([0.1, 0.05, 0.2, 5]), reason=texts_with(inputs))
    return parts(action=st.just("parameter.reduce"), with_=with_)


WAITS = st.sampled_from(["1s", "5s"]).map(lambda text: {"action": "wait", "with": {"for": text}})
MANUAL = TEXTS.map(lambda text: {"manual": text})


@st.composite
def steps(draw: st.DrawFn, number: int, inputs: tuple[str, ...], checks: list[str], reads: bool) -> dict[str, Any]:
    """One step; later ones look at those before it."""
    acting = [WAITS, MANUAL, readings(inputs)] if reads else [calls(inputs), calls(inputs), cuts(inputs), cuts(inputs)]
    use = draw(st.one_of(*acting) if draw(st.integers(0, 3)) else st.one_of(WAITS, MANUAL, readings(inputs)))
    seen = ["incident.severity == 'critical'", "run.number > 0", "run.cause == 'alert'"]
    seen += [f"checks.{name} > 1" for name in checks] + [f"{name} != 'a'" for name in inputs]
    for before in range(number):
        seen += [f"steps.s{before}.status == 'done'", f"steps.s{before}.output.status == 200", f"steps.s{before}.output > 0"]
    more = parts(
        title=some(TEXTS),
        when=some(st.sampled_from(seen)),
        timeout=some(st.sampled_from(["3s", "20s"])),
        retry=some(
            parts(attempts=st.integers(1, 5), first=DURATIONS, factor=some(st.sampled_from([1, 3.5])), cap=some(DURATIONS))
        ),
        expect=some(st.one_of(ABOUT_VALUE, st.sampled_from(seen))),
        on_failure=some(st.sampled_from(["abort", "continue"])),
        restore=None if reads else some(parts(approval=ROLES, remind=some(LONGER, 2)), 5),
        undo=None if reads else some(st.one_of(parts(approval=some(ROLES, 2)), calls(inputs), calls(inputs)), 5),
        brake=None if reads else some(st.booleans(), 5),
    ) if True else st.just({})
    return {"id": f"s{number}", **use, **draw(more)}
