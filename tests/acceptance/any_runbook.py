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
    KELLY, KELLY, "trading", "book/{{ symbol }}", "book/{{ symbol }}", "x/{{ anything }}/{{ side }}", "redis:cache",
    "book/{{ size }}",
)  # fmt: skip
DURATIONS = st.sampled_from(["1s", "5s", "30s", "1m", "2m", "7m"])
LONGER = st.sampled_from(["1m", "3m", "5m", "20m", "1h"])
ROLES = st.sampled_from(["risk-manager", "operator"])
TEXTS = st.sampled_from(
    ["Too much", "ü 東京 😀 \u202e", "<!channel> `a` *b*", "a" * 700, "one\ntwo", "100 % {x}", "[a](b)"]
)
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
    names = [
        "{{ incident.id }}",
        "{{ run.number }}",
        "{{ incident.severity }}",
        *(f"{{{{ {name} }}}}" for name in inputs),
    ]
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
        path=st.one_of(
            *[st.sampled_from(["/api/status", "/api/a"])] * 4, texts_with(inputs).map(lambda text: f"/api/{text}")
        ),
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
        seen += [
            f"steps.s{before}.status == 'done'",
            f"steps.s{before}.output.status == 200",
            f"steps.s{before}.output > 0",
        ]
    more = {
        "title": some(TEXTS),
        "when": some(st.sampled_from(seen)),
        "timeout": some(st.sampled_from(["3s", "20s"])),
        "retry": some(RETRIES),
        "expect": some(st.one_of(ABOUT_VALUE, st.sampled_from(seen))),
        "on_failure": some(st.sampled_from(["abort", "continue"])),
    }
    changes = use.get("with", {}).get("method") is not None or use.get("action") == "parameter.reduce"
    if changes:
        role = draw(ROLES)
        own = parts(approval=st.just(role)) if use["action"] == "parameter.reduce" else with_role(calls(inputs), role)
        more["restore"] = some(parts(approval=st.just(role), remind=some(LONGER, 2)), 5)
        more["undo"] = some(st.one_of(own, with_role(calls(inputs), role)))
        more["brake"] = some(st.booleans(), 5)
    return {"id": f"s{number}", **use, **draw(parts(**more))}


RETRIES = parts(
    attempts=st.integers(1, 5), first=DURATIONS, factor=some(st.sampled_from([1, 3.5])), cap=some(DURATIONS)
)


def with_role(made: st.SearchStrategy[dict[str, Any]], role: str) -> st.SearchStrategy[dict[str, Any]]:
    """An undo of its own, mostly with the role that may."""
    return st.builds(lambda use, more: {**use, **more}, made, st.sampled_from([*[{"approval": role}] * 5, {}]))


# --- runbooks ---------------------------------------------------------------------------------------------------------

HOURS = st.sampled_from(
    [
        "session",
        ["session", "night"],
        {"outside": "night"},
        {"within": "session", "outside": ["night"], "otherwise": "wait"},
        {"within": "night", "otherwise": "wait"},
        {"outside": "session", "otherwise": "deny"},
    ]
)
CALENDARS = {
    "session": {"days": "mon-fri", "from": "09:15", "to": "15:30", "timezone": "Asia/Kolkata"},
    "night": {"dates": ["2026-11-20..2026-11-22"], "from": "22:00", "to": "05:00", "timezone": "America/New_York"},
}
CRONS = st.sampled_from(["*/7 * * * *", "0 * * * *", "30 4 29 2 *"])
LIMITS = parts(
    cooldown=some(LONGER, 2), runs=some(st.sampled_from(["1 per 10m", "2 per 1h"]), 2),
    ineffective=some(st.just("1 per 1h"), 2),
)  # fmt: skip


@st.composite
def runbooks(draw: st.DrawFn, name: str, names: tuple[str, ...]) -> dict[str, Any]:
    """One runbook as its file would hold it."""
    started = draw(st.sampled_from(["match", "match", "match", "match", "hand", "cron"]))
    target = draw(st.sampled_from([known for known in TARGETS if started != "cron" or "{{" not in known]))
    inputs = tuple(known for known in INPUTS if f"{{{{ {known} }}}}" in target)
    others = draw(
        st.lists(st.sampled_from([known for known in INPUTS if known not in inputs]), max_size=2, unique=True)
    )
    checks = {f"c{n}": draw(checked(inputs)) for n in range(draw(st.integers(0, 3)))}
    reads = started == "cron" or draw(st.integers(0, 9)) == 0
    count = draw(st.sampled_from([0, 1, 1, 2, 2, 3, 4]))
    found = {
        "runbook": name,
        "title": draw(TEXTS),
        "target": target,
        "inputs": {known: INPUTS[known] for known in (*inputs, *others)},
        "checks": checks,
        "steps": [draw(steps(number, inputs, sorted(checks), reads)) for number in range(count)],
        "evidence": [draw(evidence(inputs, (*inputs, *others))) for _ in range(draw(st.integers(0, 2)))],
        **draw(aside(name, names if started != "cron" else ())),
        **draw(judged(sorted(checks))),
    }
    if started == "match":
        found["match"] = draw(matches(name))
    elif started == "cron":
        found["schedule"] = draw(parts(cron=CRONS, timezone=some(st.just("Asia/Kolkata"))))
    return found


def checked(inputs: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """A check."""
    more = parts(max_age=some(st.sampled_from(["10s", "5m"])), timeout=some(st.just("2s")))
    return st.builds(lambda use, rest: {**use, **rest}, readings(inputs), more)


@st.composite
def evidence(draw: st.DrawFn, inputs: tuple[str, ...], declared: tuple[str, ...]) -> dict[str, Any]:
    """A reading for people, once or for each value."""
    each = draw(some(st.sampled_from(declared), 2)) if declared else None
    known = inputs if each is None else (*inputs, each)
    title = draw(some(texts_with(known)))
    return {**draw(readings(known)), **({"each": each} if each else {}), **({"title": title} if title else {})}


def matches(name: str) -> st.SearchStrategy[Any]:
    """Mostly an alert of its own."""
    own = ALERTS[int(name[1:]) % len(ALERTS)]
    return st.sampled_from(
        [own, own, [own], [own, 'severity=~"critical|warning|"'], f'alertname=~"{own}.*"', 'alertname="A1"']
    )


def aside(name: str, names: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """What concerns the runbook as a whole."""
    earlier, later = [other for other in names if other < name], [other for other in names if other > name]
    yields_to = some(st.sampled_from(earlier)) if earlier else st.none()
    run = some(st.sampled_from(later), 2) if later else st.none()
    promise = parts(page=st.sampled_from(["boss", ["first", "boss"]]), run=run, countdown=some(st.just("1m")))
    return parts(
        impact=some(TEXTS, 2), mode=st.sampled_from(["auto", "auto", "auto", "observe"]), brake=some(st.booleans()),
        channel=some(st.just("#other")), owner=some(st.just("desk")), links=some(st.just({"w": "https://w.example/"})),
        limits=some(LIMITS), yields_to=yields_to, calendar=some(HOURS, 5),
        finish_once_started=some(st.booleans()), escalation=some(st.sampled_from(["ladder", "quiet"]), 2),
        unless_fixed=some(st.dictionaries(LONGER, promise, max_size=3), 2),
    )  # fmt: skip


def judged(checks: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """What is asked before and after."""
    if not checks:
        return st.just({})
    only_if = parts(
        check=st.sampled_from(checks), expect=ABOUT_VALUE, if_missing=some(st.sampled_from(["page", "act_and_page"]))
    )
    verify = parts(
        check=st.sampled_from(checks), expect=ABOUT_VALUE, settle=some(st.sampled_from(["5s", "30s"])), within=LONGER,
        hold=some(st.sampled_from(["5s", "20s"])), harmful=some(HARMFUL, 2),
    )  # fmt: skip
    return parts(only_if=some(only_if, 2), verify=st.one_of(st.none(), verify, verify, verify))


# --- a set of them ----------------------------------------------------------------------------------------------------

LADDERS = {
    "policies": {
        "ladder": {
            "chat": ["room"], "grace": "2m", "acknowledgement": "4m",
            "levels": [{"name": "L1", "after": 0, "page": "first"}, {"name": "L2", "after": "10m", "page": "second"}],
        },
        "quiet": {"chat": ["room"], "levels": []},
    },
    "default": "ladder",
    "by_severity": {"info": "quiet"},
}  # fmt: skip
DEFAULTS = parts(
    owner=some(st.just("all")), mode=some(st.just("auto")), limits=some(LIMITS),
    match=some(st.just(['severity!="none"'])),
)  # fmt: skip


@st.composite
def rule_files(draw: st.DrawFn) -> dict[str, str]:
    """The texts of a folder of rules, by their names."""
    names = NAMES[: draw(st.integers(1, 3))]
    files: dict[str, Any] = {f"a/{name}.yaml": draw(runbooks(name, names)) for name in names}
    defaults = draw(some(DEFAULTS))
    files |= {"a/_defaults.yaml": defaults} if defaults else {}
    files |= {"policies.yaml": LADDERS, "calendars.yaml": {"calendars": CALENDARS}}
    return {name: json.dumps(value, indent=1, ensure_ascii=False) for name, value in files.items()}
