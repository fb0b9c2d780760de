"""Why a runbook answers an alert or does not, and what each gate says before anything is asked."""

import pytest

from responder.alert import Alert, fingerprint
from responder.explanations import GATES, Explanation, Forecast, explained
from responder.guards import INFORMED, LOCAL
from responder.loader import load_rules
from responder.timing import parse_time
from tests.unit.stand_ins import CATALOGUE, SETTINGS, configured

MONDAY = parse_time("2026-11-23T10:00:00Z")
POLICIES = """policies:
  default: {levels: [{name: L1, after: 0, page: oncall}]}
  night: {chat: [room], grace: 2m, levels: [{name: L1, after: 0, page: oncall}]}
by_severity: {warning: night}
default: default
"""
CALENDARS = "calendars: {office: {days: mon-fri, from: '09:00', to: '17:00', timezone: UTC}}\n"
CUT = """runbook: cut
title: Cut
match: [VaRBreach, 'env="prod"', 'severity=~"critical|high"']
target: risk/{{ book }}
env: prod
mode: auto
inputs:
  book: {label: book, pattern: '[a-z]+'}
  symbol: {label: symbol, type: currency_pair}
limits: {cooldown: 10m, runs: 3 per 6h}
checks:
  var: {action: metrics.query, with: {service: metrics, query: max(var_pct), freshness: var_pct}}
only_if: {check: var, expect: value > 1.8}
steps:
  - {id: cut, action: parameter.reduce, with: {parameter: risk/kelly, to: 0.1, reason: VaR}, timeout: 5s}
verify: {check: var, expect: value < 1.7, within: 2m}
unless_fixed: {5m: {run: halt}}
escalation: night
"""
HALT = "runbook: halt\ntitle: Halt\ntarget: trading\nenv: prod\nbrake: true\n"
RIGHT = {"env": "prod", "severity": "critical", "book": "fx", "symbol": "BTC-USD"}


def explain(
    labels: dict[str, str], *texts: str, name: str = "VaRBreach", now: int = MONDAY, ceiling: str = "auto"
) -> Explanation:
    files = {f"{index}.yaml": text for index, text in enumerate(texts or (CUT, HALT))}
    config = configured(f"{SETTINGS}mode: {ceiling}\n")
    sources = {"p/policies.yaml": POLICIES, "p/calendars.yaml": CALENDARS, **files}
    every = {"alertname": name, **labels}
    alert = Alert(fingerprint(every), every, {}, True, None, None, "")  # noqa: FBT003  (it fires)
    return explained(alert, load_rules(sources, CATALOGUE, config).rules, config.parameters, now)


def gate(one: Explanation, name: str) -> tuple[str, str]:
    (found,) = [verdict for verdict in one.verdicts if verdict.gate == name]
    return found.answer.value, found.reason


def changed(old: str, new: str) -> str:
    assert old in CUT
    return CUT.replace(old, new)


# --- which runbook ----------------------------------------------------------------------------------------------------


def test_the_runbook_that_answers() -> None:
    one = explain(RIGHT)
    assert (one.runbook and one.runbook.runbook, one.target, one.problems, one.good) == ("cut", "risk/fx", (), True)
    assert [(c.runbook, c.matches) for c in one.considered] == [("cut", True), ("halt", False)]
    assert one.considered[0].because == ('alertname="VaRBreach"', 'env="prod"', 'severity=~"critical|high"')
    assert one.considered[1].because == ("answers no alert: cut may start it",)


def test_every_matcher_that_failed_is_told_with_the_alerts_own_value() -> None:
    one = explain({**RIGHT, "env": "", "severity": "warning"})
    assert one.considered[0].because == (
        'the alert has no label env, and env="prod" wants one',
        'severity="warning" does not match severity=~"critical|high"',
    )
    assert (one.runbook, one.verdicts, one.good) == (None, (), False)


def test_a_long_value_is_cut_short() -> None:
    (why, *_) = explain({**RIGHT, "env": "x" * 5000}).considered[0].because
    assert why == f'env="{"x" * 59}…" does not match env="prod"'


def test_the_nearest_comes_first() -> None:
    near = "runbook: near\ntitle: T\nmatch: [VaRBreach, 'severity=\"info\"', 'book=\"x\"']\ntarget: t\n"
    far = "runbook: afar\ntitle: T\nmatch: Odd\ntarget: t\n"
    names = [c.runbook for c in explain({**RIGHT, "severity": "warning"}, CUT, HALT, near, far).considered]
    assert names == ["cut", "near", "afar", "halt"]


def test_several_that_match_are_all_named() -> None:
    # No example of one of these patterns satisfies the others, so the overlap cannot be proved before.
    matchers = """['symbol=~"BTC.*USD"', 'symbol=~".*C-U.*"']"""
    other = f"runbook: other\ntitle: T\nmatch: {matchers}\ntarget: t\n"
    one = explain(RIGHT, CUT, HALT, other)
    assert [c.runbook for c in one.considered if c.matches] == ["cut", "other"]
    assert one.problems == ("several runbooks match this alert: cut, other; none runs",)


def test_without_a_runbook_the_severity_says_who_is_told() -> None:
    assert explain({"severity": "warning"}, name="Odd").policy_name == "night"
    assert explain({"severity": "critical"}, name="Odd").policy_name == "default"
    assert explain(RIGHT).policy_name == "night"


def test_a_resolved_alert_starts_nothing_and_is_fine() -> None:
    rules = load_rules({"p/policies.yaml": POLICIES, "a.yaml": CUT, "b.yaml": HALT}, CATALOGUE, configured()).rules
    for name, answers in (("Odd", False), ("VaRBreach", True)):
        alert = Alert("0" * 16, {"alertname": name, **RIGHT}, {}, False, None, None, "")  # noqa: FBT003  (it is over)
        one = explained(alert, rules, {}, MONDAY)
        assert (one.runbook is not None, one.verdicts, one.good) == (answers, (), True)


# --- inputs and gates -------------------------------------------------------------------------------------------------


def test_a_bad_value_in_the_target_stops_it() -> None:
    one = explain({**RIGHT, "book": "FX-1"})
    answer, reason = gate(one, "inputs")
    assert (answer, one.good) == ("deny", False)
    assert reason == "label book='FX-1' is not /[a-z]+/: nothing is done, and people are paged"
    assert [(v.name, v.value, v.problem is None) for v in one.values] == [
        ("book", "FX-1", False),
        ("symbol", "BTC-USD", True),
    ]


def test_a_bad_value_for_evidence_pages_and_does_not_stop_it() -> None:
    one = explain({**RIGHT, "symbol": "btc"})
    answer, reason = gate(one, "inputs")
    assert (answer, one.good) == ("allow", True)
    assert reason.startswith("label symbol='btc' is not a currency_pair: only evidence needs it")


@pytest.mark.parametrize(
    ("own", "ceiling", "answer", "reason"),
    [
        ("auto", "auto", "allow", "mode auto: it acts"),
        (
            "auto",
            "observe",
            "deny",
            "mode auto, but responder.yaml allows observe at most: it tells what it would do, and changes nothing",
        ),
        ("observe", "auto", "deny", "mode observe: it tells what it would do, and changes nothing"),
    ],
)
def test_the_mode_and_its_ceiling(own: str, ceiling: str, answer: str, reason: str) -> None:
    one = explain(RIGHT, changed("mode: auto", f"mode: {own}"), HALT, ceiling=ceiling)
    assert gate(one, "mode") == (answer, reason)
    assert one.good is (answer == "allow")


def test_gates_are_told_in_the_order_in_which_they_are_asked() -> None:
    names = [verdict.gate for verdict in explain(RIGHT).verdicts]
    assert names == [
        *("inputs", "pause", "mode", "env", "cooldown", "runs", "ineffective", "lock", "storm", "relapse", "success"),
        *("calendar", "yields_to", "alerts", "only_if", "budget", "changes"),
    ]
    assert len(GATES) == len(LOCAL) + len(INFORMED)


def test_what_only_the_server_knows_is_unknown() -> None:
    one = explain(RIGHT)
    assert {v.gate for v in one.verdicts if v.answer is Forecast.UNKNOWN} == {
        *("pause", "cooldown", "runs", "lock", "storm", "relapse", "success", "alerts", "only_if", "budget"),
        "changes",
    }
    assert gate(one, "cooldown") == ("unknown", "asked when it runs: cooldown of 10m after its last run")
    assert gate(one, "runs") == ("unknown", "asked when it runs: limit of 3 per 6h")
    assert gate(one, "ineffective") == ("allow", "no limit")
    assert gate(one, "lock") == ("unknown", "asked when it runs: whether another run has locked risk/fx")
    assert gate(one, "budget") == ("unknown", "asked when it runs: at most 1 in 24h off risk/kelly")
    assert gate(one, "only_if") == (
        "unknown",
        "asked when it runs: check var (max(var_pct)) must say value > 1.8; without data it pages and does not act",
    )


def test_a_brake_passes_limits_whatever_the_server_knows() -> None:
    one = explain(RIGHT, changed("mode: auto", "mode: auto\nbrake: true"), HALT)
    passed = [v.gate for v in one.verdicts if v.reason.endswith("a brake passes it, and pages")]
    assert passed == ["cooldown", "runs", "lock", "storm", "relapse", "success", "changes"]
    assert {gate(one, name)[0] for name in passed} == {"allow"}


def test_a_root_cause_is_waited_for() -> None:
    one = explain(RIGHT, changed("mode: auto", "mode: auto\nyields_to: [halt]"), HALT)
    assert gate(one, "yields_to") == ("unknown", "asked when it runs: it waits while an incident of halt is open")


@pytest.mark.parametrize(
    ("hours", "now", "answer"),
    [
        ("office", "2026-11-23T10:00:00Z", "allow"),
        ("office", "2026-11-22T10:00:00Z", "deny"),
        ("{within: office, otherwise: wait}", "2026-11-22T10:00:00Z", "wait"),
        ("{outside: office}", "2026-11-23T10:00:00Z", "deny"),
    ],
)
def test_calendars_are_known_offline(hours: str, now: str, answer: str) -> None:
    one = explain(RIGHT, changed("mode: auto", f"mode: auto\ncalendar: {hours}"), HALT, now=parse_time(now))
    found, reason = gate(one, "calendar")
    assert (found, "office is" in reason) == (answer, True)
    assert one.good is (answer != "deny")


def test_without_a_step_that_acts_no_gate_is_asked() -> None:
    by_hand = "runbook: look\ntitle: T\nmatch: Odd\ntarget: t\nmode: auto\nsteps: [{id: look, manual: Look}]\n"
    one = explain({}, by_hand, name="Odd")
    assert [v.gate for v in one.verdicts] == ["inputs", "mode", "env"]
    assert one.good
