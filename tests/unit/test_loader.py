"""Rule files → a set, or all that is wrong with it: each mistake with the exact message that people read."""

from dataclasses import replace
from pathlib import Path

import pytest

from responder.actions import ACTIONS
from responder.errors import BadRules
from responder.loader import Loaded, load_rules
from responder.recorded import Mode
from responder.runbook import Runbook
from tests.unit.stand_ins import CATALOGUE, SETTINGS, configured

MISTAKES = sorted((Path(__file__).parent / "mistakes").glob("*.yaml"))
POLICIES = "policies: {default: {levels: [{name: L1, after: 0, page: oncall}]}}\ndefault: default\n"
CUT = """runbook: cut
title: Cut
match: [VaRBreach, 'env="prod"']
target: risk/kelly
mode: auto
checks:
  var: {action: metrics.query, with: {service: metrics, query: max(var_pct), freshness: var_pct}}
steps:
  - {id: cut, action: parameter.reduce, with: {parameter: risk/kelly, to: 0.1, reason: 'VaR of {{ incident.target }}'}}
verify: {check: var, expect: value < 1.7, within: 2m}
"""


def load(**files: str) -> Loaded:
    """Files by name without suffix; `a__b` is folder a, file b."""
    texts = {name.replace("__", "/") + ".yaml": text for name, text in files.items()}
    return load_rules({"rules/policies.yaml": POLICIES, **texts}, CATALOGUE, configured())


def refused(**files: str) -> list[str]:
    with pytest.raises(BadRules) as raised:
        load(**files)
    return [f"{p.file}:{p.line}:{p.column} {p.message}" for p in raised.value.problems]  # type: ignore[attr-defined]


def cures(text: str) -> list[tuple[str, str]]:
    """Message and hint of every problem of one runbook."""
    with pytest.raises(BadRules) as raised:
        load(cut=text)
    return [(problem.message, problem.hint) for problem in raised.value.problems]  # type: ignore[attr-defined]


def only(loaded: Loaded) -> Runbook:
    (runbook,) = loaded.rules.runbooks.values()
    return runbook


@pytest.mark.parametrize("path", MISTAKES, ids=lambda path: path.stem)
def test_a_mistake_gets_its_message(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    expected = [line.removeprefix("#>").removeprefix(" ") for line in text.splitlines() if line.startswith("#>")]
    with pytest.raises(BadRules) as raised:
        load_rules({"rules/policies.yaml": POLICIES, path.name: text}, CATALOGUE, configured())
    assert [line.rstrip() for line in str(raised.value).splitlines()] == expected


def test_an_empty_file_is_no_runbook() -> None:
    assert refused(a="# nothing\n") == ["a.yaml:1:1 the file is empty"]


def test_there_is_a_file_for_each_mistake() -> None:
    assert len(MISTAKES) > 60


def test_a_good_runbook_is_loaded() -> None:
    loaded = load(cut=CUT)
    assert only(loaded).steps[0].with_["to"] == 0.1
    assert loaded.rules.default_policy == "default"


def test_problems_of_all_files_are_told_at_once() -> None:
    told = refused(
        a="runbook: a\n", b=CUT.replace("max(var_pct)", "'max(x{a=\"{{ y }}\"})'"), c="a: [", _defaults="stps: 1\n"
    )
    assert [line.split(":")[0] for line in told] == ["_defaults.yaml", "a.yaml", "a.yaml", "b.yaml", "c.yaml"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("instance", "a label is an input: declare 'instance' below `inputs:` and put {{ instance }} into `target`"),
        ("alert.labels.desk", "a label is an input: declare 'desk' below `inputs:` and put {{ desk }} into `target`"),
        ("labels.book", "an input is named alone: book"),
        ("labels.symbol", "steps use only inputs that occur in `target`; put {{ symbol }} there"),
        ("bok", "did you mean 'book'?"),
        ("symbl", "did you mean 'symbol'?"),
        ("incidnt.id", "did you mean 'incident'?"),
        ("incident.titel", "there are id, severity, target"),
        ("step.cut.output", "there are book, checks, incident, run"),
        ("value", "there are book, checks, incident, run"),
        ("alert.annotations.summary", "there are book, checks, incident, run"),
    ],
)
def test_a_name_that_is_not_there_gets_its_cure(name: str, hint: str) -> None:
    inputs = "inputs:\n  book: {label: book, pattern: '[a-z]+'}\n  symbol: {label: symbol, type: currency_pair}\n"
    text = CUT.replace("target: risk/kelly\n", "target: 'risk/kelly/{{ book }}'\n" + inputs)
    ((message, told),) = cures(text.replace("incident.target", name))
    assert (message, told[: len(hint)]) == (f"there is no {name!r} here", hint)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("3/6h", "write 3 per 6h"),
        ("3x per6h", "write 3 per 6h"),
        ("3 in 90m", "write 3 per 90m"),
        ("often", "write how often within how long, such as 3 per 6h"),
        ("3", "write how often within how long, such as 3 per 6h"),
        ("3 per 6 hours", "write 3 per 6h"),
        ("3 per 6hrs", "write 6h"),
        ("3 per day", "write 3 per 1d"),
        ("3/hour", "write 3 per 1h"),
        ("3 a minute", "write 3 per 1m"),
        ("3 every week", "write 3 per 1w"),
        ("3 per run", "write how often within how long, such as 3 per 6h"),
    ],
)
def test_a_rate_gets_its_cure(written: str, hint: str) -> None:
    assert [told for _, told in cures(f"{CUT}limits: {{runs: {written}}}\n")] == [hint]


@pytest.mark.parametrize("written", ["6 per 24h", "6 per 1d", "6 per 90m"])
def test_a_rate_is_told_as_it_was_written(written: str) -> None:
    assert str(only(load(cut=f"{CUT}limits: {{runs: {written}}}\n")).limits.runs) == written


def test_rates_are_equal_whatever_their_words() -> None:
    day, hours = (only(load(cut=f"{CUT}limits: {{runs: 6 per {window}}}\n")).limits for window in ("1d", "24h"))
    assert day == hours


def test_a_step_needs_an_action_or_a_person() -> None:
    ((_, told),) = cures(CUT.replace("action: parameter.reduce, ", ""))
    assert told == "add `action:`, or `manual:` for what a person does"


# ------------------------------------------------------------------------------------------------------------- defaults

DEFAULTS = """match: ['platform="edge"', 'env="prod"']
env: prod
channel: '#edge'
links: {dashboard: http://a, wiki: http://b}
limits: {cooldown: 10m, runs: 3 per 6h}
evidence:
  - {action: metrics.query, with: {service: metrics, query: up}}
"""
PLAIN = CUT.replace("""[VaRBreach, 'env="prod"']""", "VaRBreach")


def test_defaults_of_the_folder_are_merged() -> None:
    evidence = "evidence:\n  - {action: metrics.query, with: {service: metrics, query: down}}\n"
    own = f"{PLAIN}limits: {{cooldown: 1m}}\nlinks: {{wiki: http://c}}\n{evidence}"
    runbook = only(load(edge___defaults=DEFAULTS, edge__cut=own))
    assert [str(m) for m in runbook.matchers] == ['alertname="VaRBreach"', 'platform="edge"', 'env="prod"']
    assert (runbook.channel, runbook.links) == ("#edge", {"dashboard": "http://a", "wiki": "http://c"})
    assert (runbook.limits.cooldown, str(runbook.limits.runs)) == (60_000_000, "3 per 6h")
    assert [e.with_["query"] for e in runbook.evidence] == ["up", "down"]


def test_defaults_reach_their_own_folder_only() -> None:
    loaded = load(edge___defaults=DEFAULTS, edge__deeper__cut=CUT)
    assert only(loaded).channel is None


def test_a_runbook_without_match_does_not_inherit_one() -> None:
    loaded = load(edge___defaults=DEFAULTS, edge__halt=PLAIN.replace("match: VaRBreach\n", ""))
    assert only(loaded).match == ()
    assert loaded.rules.matching({"platform": "edge", "env": "prod"}) == ()


def test_a_problem_in_merged_parts_is_told_where_it_is_written() -> None:
    bad = DEFAULTS.replace("query: up", "quary: up").replace("3 per 6h", "3/6h")
    own = PLAIN + "evidence:\n  - {action: metrics.quiry, with: {}}\n"
    assert refused(edge___defaults=bad, edge__cut=own) == [
        "edge/_defaults.yaml:5:31 a limit is a number and a duration",
        "edge/_defaults.yaml:7:29 the key 'query' is missing",
        "edge/_defaults.yaml:7:54 unknown key",
        "edge/cut.yaml:12:14 unknown action 'metrics.quiry'",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("brake: true\n", "_defaults.yaml:1:1 not a default"),
        ("steps: []\n", "_defaults.yaml:1:1 not a default"),
        ("chanel: x\n", "_defaults.yaml:1:1 unknown key"),
        ("match: VaRBreach\n", "_defaults.yaml:1:8 a default matches labels, not names of alerts"),
        ("- a\n", "_defaults.yaml:1:1 defaults are written as `key: value` pairs"),
    ],
)
def test_what_defaults_must_not_hold(text: str, told: str) -> None:
    assert refused(_defaults=text, cut=CUT)[0] == told


# ------------------------------------------------------------------------------------------------------------- policies


def test_policies_of_all_files_come_together_and_the_shipped_one_gives_way() -> None:
    own = "policies: {night: {levels: [{name: L1, after: 0, page: oncall}]}}\ndefault: night\n"
    own += "by_severity: {info: default}\n"
    rules = load(edge__policies=own).rules
    assert (rules.default_policy, sorted(rules.policies)) == ("night", ["default", "night"])
    assert rules.policy_for(None, "info", 0) == "default"


def test_nothing_is_said_twice_by_policies() -> None:
    own = "policies: {night: {}}\ndefault: night\n"
    assert refused(a__policies=own, b__policies=own) == [
        "b/policies.yaml:1:12 this stands in a/policies.yaml:1 already",
        "b/policies.yaml:2:1 this stands in a/policies.yaml:2 already",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("policies: {n: {chat: [rom]}}", "policies.yaml:1:23 unknown notifier 'rom'"),
        ("policies: {n: {levels: [{name: L1, after: 0, page: oncal}]}}", "policies.yaml:1:52 unknown notifier 'oncal'"),
        (
            "policies: {n: {levels: [{name: a, after: 5m}, {name: b, after: 1m}]}}",
            "policies.yaml:1:57 levels must stand in the order of their 'after'",
        ),
        ("default: nobody", "policies.yaml:1:10 unknown policy 'nobody'"),
        ("by_severity: {high: nobody}", "policies.yaml:1:21 unknown policy 'nobody'"),
        ("polices: {}", "policies.yaml:1:1 unknown key"),
    ],
)
def test_mistakes_in_policies(text: str, told: str) -> None:
    assert refused(policies=text) == [told]


def test_policies_that_are_wrong_are_known_all_the_same() -> None:
    own = "policies: {night: {levels: [{name: a, after: 5m}, {name: b, after: 1m}]}}\n"
    with pytest.raises(BadRules) as raised:
        load(edge__policies=own, more__policies="default: night\n", cut=CUT + "escalation: night\n")
    (problem,) = raised.value.problems
    assert problem.hint == "write 'b' above 'a', which comes after 5m"  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------- several runbooks


def test_two_runbooks_of_one_name() -> None:
    assert refused(a=CUT, b=CUT.replace("VaRBreach", "Other")) == ["b.yaml:1:10 two runbooks are called 'cut'"]


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ("VaRBreach", "VaRBreach", True),
        ("VaRBreach", "[Other, VaRBreach]", True),
        ("VaRBreach", """'alertname=~"VaR.*"'""", True),
        ("""'alertname=~"VaR.*"'""", """'alertname=~".*Breach"'""", True),
        ("""'severity="high"'""", "VaRBreach", True),
        ("VaRBreach", "Other", False),
        ("""[VaRBreach, 'platform="a"']""", """[VaRBreach, 'platform="b"']""", False),
        ("""[VaRBreach, 'severity=~"high|low"']""", """[VaRBreach, 'severity="none"']""", False),
    ],
)
def test_two_runbooks_for_one_alert(first: str, second: str, overlap: bool) -> None:
    empty = "runbook: {}\ntitle: T\ntarget: t\nmatch: {}\n"
    files = {"a": empty.format("a", first), "b": empty.format("b", second)}
    if overlap:
        assert refused(**files) == ["b.yaml:4:1 an alert can match this and 'a' (a.yaml:4), and then neither would run"]
    else:
        assert len(load(**files).rules.runbooks) == 2


def test_runs_in_a_circle() -> None:
    runs = "runbook: {0}\ntitle: T\nmatch: Alert_{0}\ntarget: t\nunless_fixed: {{5m: {{run: {1}}}}}\n"
    told = refused(a=runs.format("a", "b"), b=runs.format("b", "c"), c=runs.format("c", "b"), d=runs.format("d", "d"))
    assert told == [
        "b.yaml:5:26 this leads back: b → c → b",
        "c.yaml:5:26 this leads back: c → b → c",
        "d.yaml:5:26 this leads back: d → d",
    ]


def test_runbooks_that_wait_for_each_other() -> None:
    waits = "runbook: {0}\ntitle: T\nmatch: Alert_{0}\ntarget: t\nyields_to: [{1}]\n"
    told = refused(a=waits.format("a", "b"), b=waits.format("b", "c"), c=waits.format("c", "a"))
    assert told == [
        "a.yaml:5:13 these wait for each other: a → b → c → a",
        "b.yaml:5:13 these wait for each other: b → c → a → b",
        "c.yaml:5:13 these wait for each other: c → a → b → c",
    ]


def test_what_is_started_needs_an_input_that_its_starter_does_not_hold() -> None:
    given = "runbook: {0}\ntitle: T\n{1}target: t:{2}\ninputs: {{symbol: {{{3}one_of: [a]}}}}\n"
    start = "unless_fixed: {5m: {run: b}}\n"
    stop = given.format("b", "", "{{ symbol }}", "")
    starter = given.format("a", "match: A\n", "{{ symbol }}", "label: symbol, ")
    assert len(load(a=starter + start, b=stop).rules.runbooks) == 2
    poor = given.format("a", "match: A\n", "x", "label: symbol, ")
    assert refused(a=poor + start, b=stop) == [
        "a.yaml:6:26 'b' needs the input 'symbol', which the target here does not hold"
    ]


def test_a_calendar_stands_in_one_file() -> None:
    one = "calendars: {office: {days: mon-fri, timezone: UTC}}\n"
    use = "runbook: a\ntitle: T\nmatch: A\ntarget: t\ncalendar: office\n"
    rules = load(calendars=one, a=use).rules
    assert set(rules.calendars) == {"office"}
    assert rules.runbooks["a"].calendar is not None
    assert refused(calendars=one, x__calendars=one, a=use) == [
        "x/calendars.yaml:1:13 this stands in calendars.yaml:1 already"
    ]


def test_what_is_wrong_with_a_calendar_is_told_once() -> None:
    use = "runbook: a\ntitle: T\nmatch: A\ntarget: t\ncalendar: office\n"
    told = refused(calendars="calendars: {office: {days: mon-fry, timezone: UTC}}\n", a=use)
    assert len(told) == 1
    assert told[0].startswith("calendars.yaml:1:28 'fry' is not a day")


def test_a_run_of_another_env() -> None:
    one = "runbook: a\ntitle: T\nmatch: A\ntarget: t\nenv: staging\nunless_fixed: {5m: {run: b}}\n"
    assert refused(a=one, b="runbook: b\ntitle: T\ntarget: t\nenv: prod\n") == [
        "a.yaml:6:26 'b' is of another env: prod and staging"
    ]


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("HaltTrading", "these are names of runbooks, not of alerts; did you mean 'halt-trading'?"),
        ("VaRBreach", "these are names of runbooks, not of alerts"),
        ("halt-trade", "did you mean 'halt-trading'?"),
        ("cuts", "there is only 'halt-trading'"),
    ],
)
def test_an_unknown_runbook_gets_its_cure(written: str, hint: str) -> None:
    started = "runbook: halt-trading\ntitle: Halt\ntarget: trading\n"
    with pytest.raises(BadRules) as raised:
        load(halt=started, cut=f"{CUT}unless_fixed: {{5m: {{run: {written}}}}}\n")
    assert [problem.hint for problem in raised.value.problems] == [hint]  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------- templates and the rest


@pytest.mark.parametrize(
    ("match", "told"),
    [
        ("5", "edge/cut.yaml:3:8 text is needed here, not a number (5)"),
        ("[Slow, 5]", "edge/cut.yaml:3:15 text is needed here, not a number (5)"),
    ],
)
def test_a_match_that_is_no_text_is_told_once_and_where_it_stands(match: str, told: str) -> None:
    own = PLAIN.replace("match: VaRBreach", f"match: {match}").replace("service: metrics", "service: metrics-prod")
    settings = SETTINGS.replace("  metrics: {", "  metrics-prod: {env: prod, ")
    with pytest.raises(BadRules) as raised:
        load_rules(
            {"edge/_defaults.yaml": "match: ['a=\"b\"', 'c=\"d\"']\n", "edge/cut.yaml": own, "policies.yaml": POLICIES},
            CATALOGUE,
            configured(settings),
        )
    (problem,) = raised.value.problems
    assert f"{problem.file}:{problem.line}:{problem.column} {problem.message}" == told  # type: ignore[attr-defined]
    assert (problem.path == "match") is (match == "5")  # type: ignore[attr-defined]


def test_default_matchers_written_as_pairs_get_their_cure() -> None:
    with pytest.raises(BadRules) as raised:
        load(edge___defaults="match: {platform: edge}\n", edge__cut=PLAIN)
    (problem,) = raised.value.problems
    assert (problem.file, problem.hint) == (  # type: ignore[attr-defined]
        "edge/_defaults.yaml",
        "write a list of matchers: ['platform=\"edge\"']",
    )


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (
            "action: prometheus.query, with: {service: metrics, query: x, freshness: max(x)}",
            "write the selector alone, such as var_pct; functions belong to `query:`",
        ),
        (
            "action: http.request, with: {service: risk, method: PUT, path: /a, probe: {path: /b, expect: body == x}}",
            'text stands in quotes: "x"',
        ),
        (
            "action: http.request, with: {service: risk, method: POST, path: /a, body: {a: 1}}",
            "did you mean 'json'?",
        ),
        ("action: http.request, with: {service: risk, url: /a}", "did you mean 'path'?"),
    ],
)
def test_parameters_of_the_packaged_actions_get_their_cure(given: str, hint: str) -> None:
    catalogue = replace(CATALOGUE, actions=ACTIONS)
    text = f"runbook: a\ntitle: T\nmatch: [A, 'env=\"prod\"']\ntarget: t\nsteps:\n  - {{id: a, {given}}}\n"
    with pytest.raises(BadRules) as raised:
        load_rules({"rules/policies.yaml": POLICIES, "a.yaml": text}, catalogue, configured())
    assert hint in [problem.hint for problem in raised.value.problems]  # type: ignore[attr-defined]


def test_an_instruction_may_hold_what_its_step_sees() -> None:
    text = CUT.replace(
        "verify:", "  - {id: call, manual: 'After {{ steps.cut.status }}: {{ incident.target }}'}\nverify:"
    )
    assert only(load(cut=text)).steps[1].manual == "After {{ steps.cut.status }}: {{ incident.target }}"


def test_templates_are_not_taken_for_values_of_the_wrong_type() -> None:
    text = """runbook: stop
title: Stop
match: [Stop, 'env="prod"']
target: risk/{{ book }}
inputs: {book: {label: book, pattern: '[a-z]+'}}
steps:
  - {id: ask, action: api.call, with: {service: risk, path: '/n/{{ book }}'}}
  - id: stop
    action: api.call
    with: {service: risk, method: POST, path: /s, json: '{{ steps.ask.output }}', tries: '{{ run.number }}'}
"""
    assert only(load(stop=text)).steps[1].with_["tries"] == "{{ run.number }}"
    assert refused(stop=text.replace("path: /s, ", "")) == ["stop.yaml:10:5 the key 'path' is missing"]


def test_a_reading_use_of_an_action_that_can_change_may_be_a_check() -> None:
    text = CUT.replace("checks:\n", "checks:\n  up: {action: api.call, with: {service: risk, path: /up}}\n")
    assert "up" in only(load(cut=text)).checks


def test_the_hash_changes_with_texts_types_and_ceiling_only() -> None:
    def digest(text: str, settings: str) -> str:
        return load_rules({"p/policies.yaml": POLICIES, "a.yaml": text}, CATALOGUE, configured(settings)).rules.hash

    known = digest(CUT, SETTINGS)
    assert digest(CUT, SETTINGS + "limits: {concurrency: 3}\n") == known
    assert (
        len(
            {
                known,
                digest(CUT + "\n", SETTINGS),
                digest(CUT, SETTINGS + "mode: observe\n"),
                digest(CUT, SETTINGS + "types: {a: b}\n"),
            }
        )
        == 4
    )


def test_the_set_carries_ceiling_and_types() -> None:
    rules = load_rules({"p/policies.yaml": POLICIES}, CATALOGUE, configured(SETTINGS + "mode: observe\n")).rules
    assert rules.ceiling is Mode.OBSERVE
    assert "currency_pair" in rules.types


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("with: {service: metrics, query: x}, retry: {unless: value > 1}", "nothing is waited for"),
        (
            "with: {service: metrics, query: x}, expect: value < 1, retry: {unless: vlaue > 1}",
            "there is no 'vlaue' here",
        ),
    ],
)
def test_what_ends_the_tries_of_a_reading_is_checked(step: str, said: str) -> None:
    text = CUT.replace("  - {id: cut,", f"  - {{id: look, action: metrics.query, {step}}}\n  - {{id: cut,")
    (problem,) = refused(cut=text)
    assert said in problem


def test_a_change_is_not_tried_again_by_its_answer() -> None:
    text = CUT.replace("{id: cut,", "{id: cut, expect: value < 1, retry: {unless: value > 1},")
    (problem,) = refused(cut=text)
    assert "a change is never done again because of its answer" in problem
