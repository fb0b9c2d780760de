"""Warnings: for each code a design that gets it and one that does not, and the comments that allow one."""

from pathlib import Path

import pytest

from responder.app import CATALOGUE as REAL
from responder.config import Config, read_config
from responder.conflicts import Entry
from responder.documents import parse_document
from responder.environment import Environment
from responder.lint import warnings
from responder.policies import Policies
from responder.problems import Problem
from responder.references import Surroundings
from responder.risks import Code, Subject, risks_of
from responder.runbook import Runbook
from tests.unit.stand_ins import CATALOGUE, SETTINGS, configured

POLICIES = "policies: {default: {levels: [{name: L1, after: 0, page: oncall}]}}\ndefault: default\n"
GOOD = """runbook: cut
title: Cut
match: [VaRBreach, 'env="prod"']
target: risk/kelly
mode: auto
limits: {cooldown: 10m, runs: 3 per 6h}
checks:
  var: {action: metrics.query, with: {service: metrics, query: max(var_pct), freshness: var_pct}}
only_if: {check: var, expect: value > 1.8}
steps:
  - id: cut
    action: parameter.reduce
    with: {parameter: risk/kelly, to: 0.1, reason: VaR}
    timeout: 5s
verify: {check: var, expect: value < 1.7, within: 2m}
unless_fixed:
  2m: {page: oncall}
  5m: {run: halt}
escalation: default
"""
HALT = """runbook: halt
title: Halt
target: risk/trading
brake: true
limits: {runs: 3 per 24h}
steps:
  - {id: halt, action: parameter.reduce, with: {parameter: risk/orders, to: 0, reason: VaR}, timeout: 5s}
checks:
  var:
    action: metrics.query
    with: {service: metrics, query: 'max(var_pct{env="prod"})', freshness: 'var_pct{env="prod"}'}
verify: {check: var, expect: value < 1.7, within: 2m}
env: prod
"""
TWO_PARAMETERS = SETTINGS.replace(
    "notifiers:",
    """  risk/orders: {service: risk, read: {path: /o, value: o}, write: {path: /o}, floor: 0, total_per_day: 100}
notifiers:""",
)


def settings(text: str = TWO_PARAMETERS) -> Config:
    return configured(text)


def entry(file: str, text: str) -> Entry:
    document = parse_document(file, text)
    return Entry(document, Runbook.model_validate(document.value, by_alias=True, by_name=False), whole=True)


def lint(*texts: str, policies: str = POLICIES, config: Config | None = None) -> tuple[Problem, ...]:
    entries = [entry(f"{index}.yaml", text) for index, text in enumerate(texts)]
    given = Policies.model_validate(parse_document("policies.yaml", policies).value, by_alias=True, by_name=False)
    names = {e.runbook.runbook for e in entries}
    around = Surroundings(CATALOGUE, config or settings(), names, given.policies)
    return warnings(entries, given, around)


def codes(*texts: str, policies: str = POLICIES, config: Config | None = None) -> list[str]:
    return [f"{p.file.removesuffix('.yaml')}:{p.line} {p.code}" for p in lint(*texts, policies=policies, config=config)]


def changed(old: str, new: str, text: str = GOOD) -> str:
    assert old in text
    return text.replace(old, new)


def test_good_runbooks_get_no_warning() -> None:
    assert codes(GOOD, HALT) == []


RISKY = [
    ("verify: {check: var, expect: value < 1.7, within: 2m}\n", "", ["0:10 no-verification", "0:17 dead-promise"]),
    (", freshness: var_pct", "", ["0:8 no-freshness"]),
    ("    timeout: 5s\n", "", ["0:11 no-timeout"]),
    ("cooldown: 10m, ", "", ["0:6 no-cooldown"]),
    (", runs: 3 per 6h", "", ["0:6 no-run-limit"]),
    ("limits: {cooldown: 10m, runs: 3 per 6h}\n", "", ["0:1 no-cooldown", "0:1 no-run-limit"]),
    ("escalation: default\n", "", ["0:1 no-escalation"]),
    ("value > 1.8}", "value > 1.8, if_missing: act_and_page}", ["0:9 acts-blind"]),
    ("match: [VaRBreach, ", "match: [", ["0:3 any-alert"]),
    ("match: [VaRBreach, ", "match: ['alertname!=\"Watchdog\"', ", ["0:3 any-alert"]),
    ("target: risk/kelly", "target: rsik/kely", ["0:4 unrelated-target"]),
    ("max(var_pct)", "'max(rate(var_pct[5m]))'", ["0:15 short-verification"]),
    ("max(var_pct)", "'max(increase(var_pct[100s]))'", []),
    ("within: 2m", "within: 2m, hold: 30s", []),
    ("value < 1.7", "value < 1.9", ["0:15 already-verified"]),
    ("value < 1.7", "value > 1.7", ["0:15 already-verified"]),
    ("within: 2m", "within: 6m", ["0:18 early-machine"]),
    ("2m: {page: oncall}", "2m: {page: room}", ["0:17 silent-page"]),
    ("unless_fixed:", "inputs: {desk: {label: desk, pattern: '[a-z]+'}}\nunless_fixed:", ["0:16 unused-input"]),
    ("match:", "brake: true\nyields_to: [halt]\nmatch:", ["0:4 brake-yields"]),
]


STOP = "  - {id: stop, action: parameter.reduce, with: {parameter: risk/orders, to: 0, reason: VaR}, timeout: 5s}\n"
BRAKE = STOP.replace("timeout", "brake: true, timeout")
BEHIND = [
    (f"verify:{BRAKE}", ["0:15 brake-behind"]),
    (f"verify:{STOP}", []),
    (f"steps:{BRAKE}", []),
    (f"brake{BRAKE}", []),
]


@pytest.mark.parametrize(("where", "expected"), BEHIND, ids=["behind", "no brake", "before", "behind a brake"])
def test_a_brake_behind_a_change_that_may_be_refused_is_warned_of(where: str, expected: list[str]) -> None:
    place, step = where.partition("  - ")[0], where[where.index("  - ") :]
    text = changed("    timeout: 5s\n", "    timeout: 5s\n    brake: true\n") if place == "brake" else GOOD
    first = place == "steps:"
    text = changed("steps:\n", f"steps:\n{step}", text) if first else changed("verify:", f"{step}verify:", text)
    found = [p for p in lint(text, HALT) if p.code == "brake-behind"]
    assert [f"{p.file.removesuffix('.yaml')}:{p.line} {p.code}" for p in found] == expected
    assert all("behind cut: where a limit refuses that one" in p.message for p in found)
    assert all("write it before cut, or say `brake: true` there too" in (p.hint or "") for p in found)


@pytest.mark.parametrize(("old", "new", "expected"), RISKY)
def test_a_risky_design_is_warned_of(old: str, new: str, expected: list[str]) -> None:
    assert codes(changed(old, new), HALT) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max(var_pct)", "'max(rate(var_pct[2m]))'"),
        ("max(var_pct)", "'max(irate(var_pct[5m]))'"),
        ("value < 1.7", "value <= 1.8"),
        ("value > 1.8}", "value > 1.8, if_missing: act_and_page}\nbrake: true"),
        ("cooldown: 10m, runs: 3 per 6h}", "cooldown: 10m}\nbrake: true"),
        ("cooldown: 10m, runs", "cooldown: 10m, ineffective"),
        ("match: [VaRBreach, ", "match: ['alertname=~\"VaR.*\"', "),
        ("target: risk/kelly", "target: risk"),
        (
            "    action: parameter.reduce\n    with: {parameter: risk/kelly, to: 0.1, reason: VaR}\n",
            "    manual: Cut\n",
        ),
    ],
)
def test_a_design_that_is_meant_is_not(old: str, new: str) -> None:
    assert codes(changed(old, new), HALT) == []


def test_an_overlap_is_told_with_a_value_that_can_be() -> None:
    (told,) = lint(changed("value < 1.7", "value < 1.9"), HALT)
    assert told.message == "at 1.85 it acts and counts as fixed already: `only_if` and `verify` overlap"

    (told,) = lint(changed("value < 1.7", "value != 3"), HALT)
    assert told.message.startswith("at 2.4 it acts")


def test_what_must_hold_for_a_while_needs_that_much_longer() -> None:
    text = changed("max(var_pct)", "'max(increase(var_pct[100s]))'").replace("within: 2m", "within: 2m, hold: 30s")
    (told,) = lint(text, HALT)
    assert (told.code, told.hint) == (
        Code.SHORT_VERIFICATION,
        "write `within: 2m10s` or more, or query a shorter range",
    )


def test_another_check_may_hold_meanwhile() -> None:
    other = "checks:\n  loss: {action: metrics.query, with: {service: metrics, query: loss, freshness: loss}}\n"
    text = changed("value < 1.7", "value < 1.9").replace("verify: {check: var", "verify: {check: loss")
    assert codes(text.replace("checks:\n", other), HALT) == []


def test_a_templated_field_of_another_kind_does_not_hide_the_change() -> None:
    text = STOP.replace("/stop/{{ book }}'", "/stop', expect_status: ['{{ run.number }}']")
    assert unsafe(text)


def test_a_run_that_only_reads_needs_no_limits_and_no_verification() -> None:
    look = "runbook: look\ntitle: Look\nmatch: Odd\ntarget: anything\nescalation: default\nsteps:\n"
    assert codes(look + "  - {id: ask, action: api.call, with: {service: risk, path: /status}}\n") == []
    assert codes(look + "  - {id: ask, action: metrics.query, with: {service: metrics, query: up}}\n") == []


def test_a_brake_without_any_limit_runs_unheard() -> None:
    (only,) = lint(GOOD, changed("limits: {runs: 3 per 24h}\n", "", HALT))
    assert (only.code, only.message) == (
        Code.NO_RUN_LIMIT,
        "nothing limits how often this runs, so nobody hears that it runs again and again",
    )


def test_what_is_read_for_each_value_depends_on_it() -> None:
    text = GOOD + "inputs: {desk: {label: desk, pattern: '[a-z]+'}}\nevidence:\n"
    reads = "  - {{each: desk, action: metrics.query, with: {{service: metrics, query: '{}'}}}}\n"
    assert codes(text + reads.format("sum(pnl)"), HALT) == ["0:22 unused-each"]
    assert codes(text + reads.format('sum(pnl{desk="{{ desk }}"})'), HALT) == []


def test_a_change_that_nobody_could_put_back() -> None:
    text = changed("    timeout: 5s\n", "    timeout: 5s\n    restore: {approval: risk-manager}\n")
    assert codes(text, HALT) == []
    nobody = settings(TWO_PARAMETERS[: TWO_PARAMETERS.index("auth:")])
    assert codes(text, HALT, config=nobody) == ["0:15 nobody-restores"]


# --- which env is asked -----------------------------------------------------------------------------------------------

CHECK = "query: max(var_pct), freshness: var_pct"


def prod(query: str, freshness: str = 'var_pct{env="prod"}') -> str:
    """GOOD as a runbook of prod with such a check."""
    return changed(CHECK, f"query: '{query}', freshness: '{freshness}'").replace(
        "title: Cut\n", "title: Cut\nenv: prod\n"
    )


@pytest.mark.parametrize(
    ("query", "freshness", "expected"),
    [
        ('max(var_pct{env="prod"})', 'var_pct{env="prod"}', 0),
        ("max(var_pct)", 'var_pct{env="prod"}', 1),
        ('max(var_pct{env="prod"})', "var_pct", 1),
        ('max(var_pct{env="staging"})', "var_pct", 2),
        ('max(var_pct{env="prod"}) and on () (a > 0)', 'var_pct{env="prod"}', 1),
        ("vector(1)", 'var_pct{env="prod"}', 0),
        ("100", 'var_pct{env="prod"}', 0),
    ],
)
def test_a_query_that_reads_other_envs_as_well(query: str, freshness: str, expected: int) -> None:
    assert codes(prod(query, freshness), HALT) == ["0:9 unscoped-query"] * expected


def test_whoever_has_no_env_cannot_name_one() -> None:
    assert codes(GOOD.replace(CHECK, "query: max(a), freshness: a"), HALT) == []


def test_every_query_that_reads_other_envs_is_told() -> None:
    evidence = "evidence:\n  - {action: metrics.query, with: {service: metrics, query: count(up)}}\n"
    step = "steps:\n  - {id: look, action: metrics.query, with: {service: metrics, query: sum(pnl)}}\n"
    text = prod('max(var_pct{env="prod"})').replace("steps:\n", step) + evidence
    assert codes(text, HALT) == ["0:12 unscoped-query", "0:23 unscoped-query"]
    assert (
        codes(
            text.replace("count(up)", "'count(up{env=\"prod\"})'").replace("sum(pnl)", "'sum(pnl{env=\"prod\"})'"), HALT
        )
        == []
    )


def test_a_query_that_reads_other_envs_is_told_with_its_cure_and_may_be_allowed() -> None:
    text = prod("max(var_pct) + max(var_pct) + max(loss)")
    (told,) = lint(text, HALT)
    assert told.message == 'var_pct, loss may be of another env: nothing says env="prod"'
    assert told.hint is not None
    assert told.hint.startswith('write env="prod" into the braces of each')
    allowed = text.replace("  var: {", "  # lint: allow unscoped-query this Prometheus knows prod alone\n  var: {")
    assert codes(allowed, HALT) == []


# --- what repeating a change means ------------------------------------------------------------------------------------

STOP = """runbook: stop
title: Stop
match: [Stop, 'env="prod"']
target: queue/{{ book }}
env: prod
inputs: {book: {label: book, pattern: '[a-z]+'}}
limits: {cooldown: 10m, runs: 3 per 6h}
escalation: default
checks:
  up: {action: http.request, with: {service: api, path: /up}}
steps:
  - id: stop
    action: http.request
    with: {service: api, method: POST, path: '/stop/{{ book }}'}
    timeout: 5s
verify: {check: up, expect: value.status == 200, within: 2m}
"""
API = "services: {api: {kind: http, env: prod, url: 'https://a'MORE}}\n"
"""With room for more settings of the service."""


def unsafe(text: str, config: str = API) -> bool:
    found = entry("stop.yaml", text)
    read = read_config("responder.yaml", config.replace("MORE", ""), REAL, Environment({}, Path("/")))
    around = Surroundings(REAL, read, {"stop"}, {"default"})
    told = {problem.code for problem in risks_of(Subject(found.runbook, found.document, around))}
    assert told <= {Code.UNSAFE_STEP}
    return bool(told)


def test_a_post_that_nobody_could_ask_after() -> None:
    assert unsafe(STOP)
    assert not unsafe(STOP.replace("method: POST", "method: PUT"))
    assert not unsafe(STOP.replace("/stop/{{ book }}'", "/stop', probe: {path: /s, expect: body.stopped}"))
    assert not unsafe(STOP, API.replace("MORE", ", idempotency_keys: true"))
    assert unsafe(STOP, API.replace("MORE", ", idempotency_keys: false"))


SILENCE = """runbook: hush
title: Hush
match: [Lag, 'env="prod"']
target: am
steps:
  - id: hush
    action: alertmanager.silence
    with: {service: am, matchers: {alertname: Lag}, for: 15m, comment: rebuilt}
    timeout: 5s
"""
AM = "services: {am: {kind: alertmanager, env: prod, url: 'http://am-1:9093/'}}\nalertmanagers: [MORE]\n"


@pytest.mark.parametrize(
    ("asked", "unheard"),
    [
        ("", True),
        ("{url: 'http://am-2:9093'}", True),
        ("{url: 'http://am-1:9093/alertmanager'}", True),
        ("{url: 'http://am-2:9093'}, {url: 'http://AM-1:9093'}", False),
        ("{url: 'http://am-1:9093/'}", False),
    ],
)
def test_a_silence_in_an_alertmanager_that_nobody_asks_what_fires(asked: str, unheard: bool) -> None:
    """Alertmanager does not tell the end of what is silenced (contracts.md A5)."""
    read = read_config("responder.yaml", AM.replace("MORE", asked), REAL, Environment({}, Path("/")))
    found = entry("0.yaml", SILENCE)
    around = Surroundings(REAL, read, {"hush"}, {"default"})
    told = [p for p in risks_of(Subject(found.runbook, found.document, around)) if p.code == Code.UNHEARD_SILENCE]
    assert [(p.line, "add `- url: http://am-1:9093`" in p.hint) for p in told] == ([(8, True)] if unheard else [])


# --- what only the set shows ------------------------------------------------------------------------------------------


def test_a_runbook_that_nothing_starts() -> None:
    assert codes(changed("  5m: {run: halt}\n", ""), HALT) == ["1:1 never-started"]


def test_promises_of_what_another_runbook_starts() -> None:
    assert codes(GOOD, HALT + "unless_fixed: {10m: {page: oncall}}\n") == ["1:14 unheard-promises"]
    own = HALT + "match: Halt\nescalation: default\nunless_fixed: {10m: {page: oncall}}\n"
    assert codes(GOOD, own) == []


def test_one_parameter_under_two_locks() -> None:
    other = (
        GOOD.replace("runbook: cut", "runbook: lower").replace("VaRBreach", "Loss").replace("risk/kelly\n", "risk\n")
    )
    assert codes(GOOD, HALT, other) == ["0:4 split-lock", "2:4 split-lock"]
    assert codes(GOOD, HALT, other.replace("target: risk\n", "target: risk/kelly\n")) == []


def test_one_parameter_under_a_lock_for_each_label() -> None:
    text = (
        changed("target: risk/kelly", "target: risk/{{ desk }}") + "inputs: {desk: {label: desk, pattern: '[a-z]+'}}\n"
    )
    assert codes(text, HALT) == ["0:4 split-lock"]


def test_a_policy_that_wakes_nobody() -> None:
    silent = POLICIES.replace("page: oncall", "page: room")
    assert "0:19 silent-policy" in codes(GOOD, HALT, policies=silent)
    assert "0:19 silent-policy" in codes(GOOD, HALT, policies="policies: {default: {}}\ndefault: default\n")


@pytest.mark.parametrize(
    ("ladder", "changes", "warned"),
    [
        ("grace: 70s, levels: [{name: L1, after: 0, page: oncall}]", {}, True),
        ("grace: 71s, levels: [{name: L1, after: 0, page: oncall}]", {}, False),
        ("grace: 30s, levels: [{name: L1, after: 1m, page: oncall}]", {}, True),
        ("grace: 30s, levels: [{name: L1, after: 2m, page: oncall}]", {}, False),
        ("grace: 30s, levels: [{name: L1, after: 0}, {name: L2, after: 2m, page: oncall}]", {}, False),
        ("levels: [{name: L1, after: 0, page: oncall}]", {}, False),
        ("grace: 1m, levels: [{name: L1, after: 0, page: oncall}]", {"mode: auto": "mode: observe"}, False),
    ],
)
def test_a_grace_that_ends_before_anything_can_be_fixed(ladder: str, changes: dict[str, str], warned: bool) -> None:
    text = changed("within: 2m}", "within: 2m, settle: 30s, hold: 30s}")
    for old, new in changes.items():
        text = changed(old, new, text)
    policies = f"policies: {{default: {{{ladder}}}}}\ndefault: default\n"
    assert ("0:15 grace-too-short" in codes(text, HALT, policies=policies)) == warned


def test_alerts_without_a_runbook_that_reach_the_console_only() -> None:
    console = POLICIES.replace("page: oncall", "page: console")
    told = [(p.file, p.path, p.code) for p in lint(GOOD, HALT, policies=console)]
    assert told == [("policies.yaml", "default", "nobody-woken")]


# --- comments that allow ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new", "expected"), [case for case in RISKY if len(case[2]) == 1])
def test_each_warning_can_be_allowed(old: str, new: str, expected: list[str]) -> None:
    lines = changed(old, new).splitlines()
    place, _, code = expected[0].partition(" ")
    number = int(place.partition(":")[2])
    lines.insert(number - 1, f"# lint: allow {code} because it is meant")
    assert codes("\n".join(lines), HALT) == []
    lines.pop(number - 1)
    lines[number - 1] += f"  # lint: allow {code} because it is meant"
    assert codes("\n".join(lines), HALT) == []


def test_several_comments_stand_above_one_line() -> None:
    text = changed("limits: {cooldown: 10m, runs: 3 per 6h}\n", "limits: {}\n")
    both = "# lint: allow no-cooldown one\n# why\n# lint: allow no-run-limit two\nlimits:"
    assert codes(text, HALT) == ["0:6 no-cooldown", "0:6 no-run-limit"]
    assert codes(text.replace("limits:", both), HALT) == []


def test_a_comment_covers_its_own_line_and_the_one_below() -> None:
    text = changed("cooldown: 10m, ", "")
    near = text.replace("mode: auto\n", "mode: auto  # lint: allow no-cooldown meant\n")
    assert codes(near, HALT) == ["0:5 useless-allow", "0:6 no-cooldown"]


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("no-cooldown", "this allows nothing: it gives no reason"),
        ("no-cooldwn meant", "there is no warning 'no-cooldwn' to allow"),
        ("no-timeout meant", "nothing here is warned of as no-timeout"),
    ],
)
def test_a_comment_that_allows_nothing_is_told(comment: str, message: str) -> None:
    text = changed("limits: {cooldown: 10m,", f"# lint: allow {comment}\nlimits: {{")
    told = lint(text, HALT)
    assert [(p.line, p.code) for p in told] == [(6, "useless-allow"), (7, "no-cooldown")]
    assert told[0].message == message


def test_a_warning_says_its_code() -> None:
    (warning,) = lint(changed(", freshness: var_pct", ""), HALT)
    assert str(warning).splitlines()[0].endswith("that cannot tell how old its answer is [no-freshness]")
