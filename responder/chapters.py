"""The chapters of the language reference: which models each one tells, its fixed words, and one small example.

What can be read from the models is not said here: keys, types, defaults and what each key means are filled in by
`manual`. Every example is loaded by a test, those of a runbook's parts together with a small runbook around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from responder.calendars import Calendar, Calendars
from responder.cron import Schedule
from responder.policies import Level, Policies, Policy, PolicyHours, Repeat, Storm
from responder.runbook import (
    Approval,
    Check,
    Evidence,
    Hours,
    Input,
    Limits,
    OnlyIf,
    Promise,
    Restore,
    Retry,
    Runbook,
    Step,
    Undo,
    Verify,
)


@dataclass(frozen=True, slots=True)
class Chapter:
    """`title` is the heading, `models` what is told in tables, the first one of them the chapter's own.

    `example` is YAML: keys of a runbook, or all of the file that `file` names.
    """

    title: str
    text: str
    models: tuple[type[BaseModel], ...] = ()
    example: str = ""
    file: str = "runbook"


OPENING: Final = """\
# The runbook language

Every key of every file that a runbook author writes, with its type, its default and what it means.
[runbooks.md](runbooks.md) is the way in, [cookbook.md](cookbook.md) has whole runbooks to begin with,
[mistakes.md](mistakes.md) the messages for what is wrong.

This page is made from the models that the loader checks files with (`make reference`); a test fails when it is out of
date.
"""

VALUES: Final = """\
| type | is written | means |
|---|---|---|
| duration | `30s`, `5m`, `1h30m`, `2d`, `250ms`; `0` | as Prometheus writes durations, largest unit first; a \
number without a unit is refused |
| rate | `3 per 6h` | so many within a window that moves along |
| name | `var-breach` | small letters, digits and `-`, beginning with a letter, at most 63 |
| identifier | `cut_kelly` | small letters, digits and `_`, beginning with a letter, at most 63 |
| text | `VaR above its limit` | quotes are needed around `{`, `[`, `#` after a space, `: `, and text that \
looks like a number |
| text, or a list | `pm` or `[pm, risk]` | one, or several |
| days | `mon-fri`, `sat, sun`, `[mon, wed]` | days of the week |
| dates | `'2026-12-24'`, `'2026-12-24..2027-01-02'` | days; the last one is included |
| time of day | `'09:15'`, `'24:00'` | in quotes |
| time zone | `Asia/Kolkata`, `UTC` | a place; abbreviations such as EST are refused |
"""

FILES: Final = """\
`rules:` in responder.yaml names folders (`./my-rules`), files, and shipped catalogues (`edge-risk`). In a folder
every `.yaml` and `.yml` file, deeper folders too, is a runbook, with these exceptions:

| file | holds |
|---|---|
| `_defaults.yaml` | [what every runbook of this folder begins with](#_defaultsyaml); not of the folders below it |
| `policies.yaml` | [who is told when](#policiesyaml) |
| `calendars.yaml` | [hours, sessions and freezes by name](#calendarsyaml) |
| what begins with `_` or `.`, and the folder `tests` | nothing that is loaded |

All files that are named are one set. They are checked together, and a set with a mistake in it does not replace the
one in use.

It is YAML 1.2: `NO`, `on` and `yes` are text. A key that stands twice is refused, and so are anchors and merge keys:
what a folder shares stands in its `_defaults.yaml`. A file may have 1,000,000 bytes.

`responder lint` tells every mistake, and [warns](#warnings) of what is risky.
"""

MATCHERS: Final = """\
`match` holds names of alerts and matchers as Alertmanager writes them: `name="value"`, `!=`, `=~` and `!~` with a
regular expression that the whole value must match. A label that is missing has the value "". Several names are
alternatives, and everything else must hold as well: `[VaRBreach, VaRStale, 'env="prod"']` are the alerts of either
name of prod. In YAML a matcher is best put into single quotes.

An alert that two runbooks match is answered by neither, and pages; where that can be proved it is refused at load.
"""

CONDITIONS: Final = """\
`expect`, `when` and `harmful` are written in one small language.

| | |
|---|---|
| compare | `<` `<=` `>` `>=` `==` `!=`, also as a chain: `1 < value < 2`; `value.status in [200, 204]` |
| join | `and`, `or`, `not`, brackets |
| calculate | `+` and `-` of numbers, nothing else: let the query calculate |
| constants | `1.8`, `"halted"`, `true`, `false`, `null` |

**What is missing, not a number (NaN) or of another type makes its comparison neither true nor false**: `not` leaves
it so, and what is unknown at the end does not hold. So `not value < 2` does not hold without data either.

| where | names |
|---|---|
| `only_if`, `verify` | `value`: the check's answer |
| `harmful` | `value`, and `before`: the answer before the first change |
| `when` of a step | inputs of the target, `steps.ID.status` and `steps.ID.output` of earlier steps, \
`checks.NAME`, `incident`, `run` |
| `expect` of a step | the same, and `value`: the step's own answer |
| `expect` of a probe | `status`, `body` |

`prometheus.query` answers a number. `http.request` answers `value.status` and `value.body`. The status of a step is
`done`, `skipped` or `failed`. A check that a step names is read right before the step, at most half a minute ago.
A step fails and says so when ten rounds of questions leave one of its checks older than its `max_age`.
"""

TEMPLATES: Final = """\
`{{ name }}` puts a value into a field of `with`, and into the `title` of evidence. Titles of runbooks and steps,
`impact` and `manual` are plain text. A placeholder holds a name with its fields, comparisons, `and`, `or`, `not`, `x
if y else z`, `+`, `-`, and the filters `float`, `int`, `join`, `length`, `lower`, `replace`, `round`,
`trim`, `upper`; no loops, no calls. Known are the inputs of the target, `steps.ID.output`, `checks.NAME`,
`incident.id`, `incident.severity`, `incident.target`, `run.number`, `run.runbook`, `run.cause`; in evidence also the
input of `each`.

Where a placeholder stands decides how its value is written. The tables of the actions name the position of each
field.

| position | the value becomes |
|---|---|
| promql | the inside of a double-quoted label value, or a number; it stands nowhere else in a query |
| json | a JSON value of its own type where it stands alone, else a part of that text |
| path | one part of the path, percent-encoded; never a slash |
| header | one line of printable ASCII |
| text | text for people |
| no | no placeholder may stand there: an alert never chooses whom to ask or what to do |

What a template makes is checked again before anything is done; a value that does not fit ends the run, and pages.
"""

RUNBOOK: Final = """\
One file, one runbook. `runbook`, `title` and `target` are needed; all else is left out where it is not.
"""

_RUNBOOK_EXAMPLE: Final = """\
runbook: var-breach
title: VaR above 90 % of its limit
match: [VaRBreach, 'env="prod"']
env: prod
target: risk-api/kelly_fraction
mode: auto
brake: true
checks:
  var:
    action: prometheus.query
    with: {service: metrics, query: 'max(var_pct{env="prod"})', freshness: 'var_pct{env="prod"}'}
    max_age: 30s
only_if: {check: var, expect: value > 1.8}
steps:
  - id: cut_kelly
    action: parameter.reduce
    with: {parameter: risk-api/kelly_fraction, to: 0.1, reason: VaR breach}
    timeout: 10s
verify: {check: var, expect: value < 1.7, settle: 30s, within: 2m, hold: 30s}
unless_fixed:
  10m: {page: pm}
escalation: edge-risk
"""

INPUTS: Final = """\
An input is the only way in which a label reaches a step, and it has exactly one of `type`, `pattern` and `one_of`.
Steps, checks and conditions use the inputs that stand in `target`; other inputs belong to the `each` of evidence. A
value that does not fit never reaches anything: when the input stands in `target`, nothing is done and people are
paged; otherwise only its evidence is left out, and people are told.
"""

CHECKS: Final = """\
A check is read when something needs it: `only_if` before the first change, `verify` after the last, a step that names
it right before that step. Its action must be one that only reads.
"""

ONLY_IF: Final = """\
Asked right before the first change, once a run. When it says no, nothing is done: the run is `cancelled`, and the
policy goes on; it is asked again when the alert fires anew. When there is no fresh answer, nothing is done and people
are paged at once; with `act_and_page` it acts, and they are paged as well.
"""

STEPS: Final = """\
Steps are done one after the other; a step has an `action` or is `manual`. Every change passes the gates first (pause,
`calendar`, `yields_to`, `cooldown`, `runs`, `ineffective`, the lock on the target, `only_if`, totals a day). An alert
that resolves stops the run before the next change.

A time that runs out makes the outcome of a change unknown, not failed. What follows is told by the effect class of
the step: see [Actions](#actions).
"""

UNDO: Final = """\
Used when `verify` finds the change `harmful`, the latest change first, and by a person's `responder restore`. What
lowered risk is put back by a person only, so the `undo` of a brake needs `approval`, or [restore](#restore) beside it.

It is verified: what was put back is read again where its action has a probe, and after the last one the check must
show, as `verify` says, that `harmful` does not hold any more. Where that is not shown, people are told. A change that
is not in force any more is left as it is: somebody has been there. So give an `http.request` that can be undone a
`probe`, and its undo too.
"""

VERIFY: Final = """\
All times count from the last outcome. The check is asked every 5 seconds from `settle` on; the run is fixed once the
condition has held for `hold`, on samples taken after the change, and ineffective when that has not come within
`within`. Without fresh data at the end it is `unverified`. "Resolved" is never proof: a run without `verify` ends
`unverified`, and people are paged.
"""

EVIDENCE: Final = """\
Read while the steps run; never waited for. With `each`, once for every value of that input among the alerts of the
incident.
"""

PROMISES: Final = """\
One clock, from the opening of the incident, with any number of times on it. An acknowledgement does not stop it, a
take-over does, and so does `fixed`. `run` starts only when the check of `verify` says right then that it did not
help: without fresh data people decide. With `countdown: 1m`, what comes at 5m is announced at 4m.
"""

HOURS: Final = """\
`calendar: nse` alone means `within: nse`. A brake passes its hours with a warning that pages.
`responder override ID --reason …`, or *Override hours…* in Slack, lets one run of an incident act all the same,
`responder run RUNBOOK --override …` one that a person starts.
"""

SCHEDULE: Final = """\
A runbook with a schedule has no `match`, and its steps only read. It needs `mode: auto` to do so. While every step is
well nobody is paged; a step that fails pages, and its incident stays open until somebody has acknowledged it. What
came due while the responder was down runs once, and says that it is late.
"""

RESULT_INTRO: Final = """\
How a run ends. People are paged at once when a gate refuses (other than an `only_if` that says there is nothing to
do), and when a run is ineffective, unverified, harmful, failed or unknown.
"""

DEFAULTS: Final = """\
It holds any of these keys of a [runbook](#runbook), and no others: {keys}. What a runbook says itself wins; `match`
and `evidence` are added to the runbook's own, and the pairs of `links`, `limits`, `checks` and `inputs` are merged.
`match` holds matchers here, no names, and a runbook without a `match` of its own does not inherit one.
"""

POLICIES: Final = """\
Times count from the opening of the incident. The first level is paged after `grace`, and at once when automation
cannot help. `fixed`, an acknowledgement, a snooze and a take-over stop the climb. All policies.yaml files of a set are
taken together; the shipped one gives way to yours. [escalation.md](escalation.md) tells what each setting does, with
timelines.
"""

CALENDARS: Final = """\
Open in the sessions of an exchange, or by days and hours of a place. A runbook uses them by name in its
[calendar](#calendar). The sessions of exchanges need an extra package (`pip install 'responder[calendars]'`), and so
does `responder lint` then.
"""

ACTIONS: Final = """\
What a step can do. The effect class says what follows when the answer to an attempt was lost, or the process died
meanwhile:

{effects}

Sending again passes the gates again, and is given up after four times, or `in_doubt` of the step's `retry`. A field
whose *placeholders* column says *no* holds no template.
"""

WARNINGS: Final = """\
What `responder lint` warns of. Such a runbook can be loaded and works; a good one would be written differently. A
warning that is meant is allowed by a comment with its code and a reason, on its line or on a line of its own above it:
`# lint: allow no-cooldown because a person starts this`.
"""

_CHECK: Final = (
    "checks:\n  var: {action: prometheus.query, with: {service: metrics, query: max(var_pct), freshness: var_pct}}\n"
)

CHAPTERS: Final[tuple[Chapter, ...]] = (
    Chapter("Files", FILES),
    Chapter("Values", VALUES),
    Chapter("Matchers", MATCHERS),
    Chapter("Conditions", CONDITIONS),
    Chapter("Templates", TEMPLATES),
    Chapter("runbook", RUNBOOK, (Runbook,), _RUNBOOK_EXAMPLE, "whole runbook"),
    Chapter(
        "inputs",
        INPUTS,
        (Input,),
        "inputs:\n"
        "  symbol: {label: symbol, type: currency_pair}\n"
        "  desk: {label: desk, pattern: '[a-z]{2,10}'}\n"
        "  market: {label: market, one_of: [spot, futures]}\n"
        "target: positions:{{ symbol }}:{{ desk }}:{{ market }}\n",
    ),
    Chapter("checks", CHECKS, (Check,), _CHECK),
    Chapter("only_if", ONLY_IF, (OnlyIf,), "only_if: {check: var, expect: value > 1.8}\n"),
    Chapter(
        "steps",
        STEPS,
        (Step,),
        "steps:\n"
        "  - id: ready\n"
        "    action: http.request\n"
        "    with: {service: risk-api, path: /api/ready}\n"
        "    expect: value.status == 200\n"
        "  - id: refresh\n"
        "    action: http.request\n"
        "    when: steps.ready.status == 'done'\n"
        "    with: {service: risk-api, method: POST, path: /api/risk/refresh-volatility}\n"
        "    timeout: 20s\n"
        "    on_failure: continue\n"
        "  - {id: look, manual: Look whether the volatility estimates are plausible}\n",
    ),
    Chapter(
        "retry",
        "After a temporary failure, in which nothing happened. What is sent again after an unknown outcome is "
        "counted by `in_doubt` alone.\n\n"
        "A step whose action only reads is also tried again while its `expect` does not hold: that is how a runbook "
        "waits for what it has begun. The chat shows how often it has looked and what it saw, and after the last try "
        "the step has failed. `unless` ends that early, where the answer says that waiting is of no use. A change is "
        "never done again because of its answer: let a reading step of its own wait for it.\n",
        (Retry,),
        "steps:\n"
        "  - id: ready\n"
        "    action: http.request\n"
        "    with: {service: risk-api, path: /api/ready}\n"
        "    retry: {attempts: 5, first: 1s, factor: 2, cap: 10s}\n"
        "  - id: new_pods\n"
        "    action: kubernetes.rollout_status\n"
        "    with: {service: cluster, namespace: trading-system-prod, workload: deployment/trading-system}\n"
        "    expect: value.done\n"
        "    retry: {attempts: 9, first: 5s, cap: 10s, unless: value.failed}\n",
    ),
    Chapter(
        "approval",
        "`approval: risk-manager` alone means one person with that role within ten minutes. People see what the step "
        "would do, with the value before; when that has changed by the time they say yes, they are asked again. "
        "Machines that only lower risk should not wait for people: keep approvals for what raises it, or cannot be "
        "taken back.\n",
        (Approval,),
        "steps:\n"
        "  - id: cut_kelly\n"
        "    action: parameter.reduce\n"
        "    with: {parameter: risk-api/kelly_fraction, to: 0.1, reason: VaR breach}\n"
        "    approval: {role: risk-manager, people: 2, within: 15m}\n",
    ),
    Chapter(
        "restore",
        "What is changed stays changed until a person puts it back with `responder restore`. The reminder belongs to "
        "the target and keeps no incident open.\n",
        (Restore,),
        "steps:\n"
        "  - id: cut_kelly\n"
        "    action: parameter.reduce\n"
        "    with: {parameter: risk-api/kelly_fraction, to: 0.1, reason: VaR breach}\n"
        "    restore: {approval: risk-manager, remind: 4h}\n",
    ),
    Chapter(
        "undo",
        UNDO,
        (Undo,),
        "steps:\n"
        "  - id: pause_router\n"
        "    action: http.request\n"
        "    with: {service: risk-api, method: POST, path: /api/router/pause}\n"
        "    undo: {action: http.request, with: {service: risk-api, method: POST, path: /api/router/resume}}\n"
        "verify: {check: var, expect: value < 1.7, within: 2m, harmful: value > before + 0.2}\n",
    ),
    Chapter(
        "verify", VERIFY, (Verify,), "verify: {check: var, expect: value < 1.7, settle: 30s, within: 2m, hold: 30s}\n"
    ),
    Chapter(
        "evidence",
        EVIDENCE,
        (Evidence,),
        "inputs:\n"
        "  symbol: {label: symbol, type: currency_pair}\n"
        "evidence:\n"
        "  - title: Edge of {{ symbol }} in basis points\n"
        "    each: symbol\n"
        "    action: prometheus.query\n"
        "    with: {service: metrics, query: 'avg(edge_blended_bps{symbol=\"{{ symbol }}\"})'}\n",
    ),
    Chapter(
        "limits",
        "Counted for one runbook on one target. A brake passes them with a warning that pages.\n",
        (Limits,),
        "limits: {cooldown: 10m, runs: 3 per 6h, ineffective: 2 per 24h}\n",
    ),
    Chapter(
        "unless_fixed",
        PROMISES,
        (Promise,),
        "unless_fixed:\n  2m: {page: pm}\n  5m: {run: halt-trading, page: cro, countdown: 1m}\n",
    ),
    Chapter("calendar", HOURS, (Hours,), "calendar: {within: session, outside: freeze, otherwise: wait}\n"),
    Chapter(
        "schedule",
        SCHEDULE,
        (Schedule,),
        "runbook: before-open\n"
        "title: Checks before the market opens\n"
        "env: prod\n"
        "target: before-open\n"
        "mode: auto\n"
        "schedule: {cron: '45 8 * * mon-fri', timezone: Asia/Kolkata}\n"
        "steps:\n"
        "  - id: ready\n"
        "    action: http.request\n"
        "    with: {service: risk-api, path: /api/ready}\n"
        "    expect: value.status == 200\n"
        "escalation: edge-risk\n",
        "whole runbook",
    ),
    Chapter(
        "_defaults.yaml",
        DEFAULTS,
        (),
        "match: ['platform=\"edge-risk\"', 'env=\"prod\"']\nenv: prod\n",
        "_defaults.yaml",
    ),
    Chapter(
        "policies.yaml",
        POLICIES,
        (Policies, Policy, Level, Repeat, PolicyHours, Storm),
        "policies:\n"
        "  desk:\n"
        "    chat: [trading-alerts]\n"
        "    grace: 2m\n"
        "    chat_only: [warning, info]\n"
        "    remind: 30m\n"
        "    repeat: {every: 30m, times: 2}\n"
        "    storm: {incidents: 10, within: 5m}\n"
        "    levels:\n"
        "      - {name: L1, after: 0, page: trading-oncall, fallback: [pm], mention: [S012ONCALL]}\n"
        "      - {name: L2, after: 15m, page: [quant, pm]}\n"
        "default: desk\n",
        "policies.yaml",
    ),
    Chapter(
        "calendars.yaml",
        CALENDARS,
        (Calendars, Calendar),
        "calendars:\n"
        "  session: {days: mon-fri, from: '09:15', to: '15:30', timezone: Asia/Kolkata}\n"
        "  freeze: {dates: ['2026-12-24..2027-01-02'], timezone: UTC}\n",
        "calendars.yaml",
    ),
)
"""In the order of the page. Results and actions follow them."""
