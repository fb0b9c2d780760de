"""The built-in evaluator: its payload against one that a real Alertmanager sent, its timing, its query API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
import yaml

from responder.demo import alert_rules
from responder.demo.alert_rules import AlertRule
from responder.demo.evaluator import Evaluator, EvaluatorSettings, Times
from responder.demo.instant_query import create_query_api, number
from responder.demo.notification import Route, SentAlert, payload, told_by, worth_telling
from responder.demo.prometheus import ScrapeJob, Timing, alertmanager_config, prometheus_config
from responder.demo.promql import Moment, Sample, Scrape, parse
from responder.errors import BadConfig, BadSyntax
from responder.timing import MILLISECOND, SECOND, format_time, parse_time

# Sent by Alertmanager 0.25.0 for three alerts posted to its API, one of them ended; only the port was changed.
CAPTURED = (
    r'{"receiver":"ops/team\\.dotted-name","status":"firing","alerts":[{"status":"resolved",'
    r'"labels":{"alertname":"VaRBreach","desk":"a \"b\" \\ ü\n\u003c\u0026\u003e","instance":"h:1","job":"a",'
    r'"symbol":"ETH-USD"},"annotations":{"note":"same","summary":"VaR \u003e 1.8 \u0026 rising \u2028 ETH-USD"},'
    r'"startsAt":"2026-11-20T17:02:43Z","endsAt":"2026-11-20T17:05:00.123456Z",'
    r'"generatorURL":"http://p/x?a=1\u0026b=2","fingerprint":"ab0bf2db05321d63"},{"status":"firing",'
    r'"labels":{"alertname":"VaRBreach","desk":"a \"b\" \\ ü\n\u003c\u0026\u003e","instance":"h:1","job":"a",'
    r'"symbol":"SOL-USD"},"annotations":{"note":"same","summary":"VaR \u003e 1.8 \u0026 rising \u2028 SOL-USD"},'
    r'"startsAt":"2026-11-20T17:02:42.5Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://p/x?a=1\u0026b=2",'
    r'"fingerprint":"8528b60c51a65304"},{"status":"firing","labels":{"alertname":"VaRBreach",'
    r'"desk":"a \"b\" \\ ü\n\u003c\u0026\u003e","instance":"h:1","job":"b","symbol":"BTC-USD"},'
    r'"annotations":{"note":"same","summary":"VaR \u003e 1.8 \u0026 rising \u2028 BTC-USD"},'
    r'"startsAt":"2026-11-20T17:02:42.5Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://p/x?a=1\u0026b=2",'
    r'"fingerprint":"428768b64c4ec902"}],"groupLabels":{"alertname":"VaRBreach",'
    r'"desk":"a \"b\" \\ ü\n\u003c\u0026\u003e"},"commonLabels":{"alertname":"VaRBreach",'
    r'"desk":"a \"b\" \\ ü\n\u003c\u0026\u003e","instance":"h:1"},"commonAnnotations":{"note":"same"},'
    r'"externalURL":"http://127.0.0.1:9093","version":"4","groupKey":"{}:{alertname=\"VaRBreach\",'
    r' desk=\"a \\\"b\\\" \\\\ ü\\n\u003c\u0026\u003e\"}","truncatedAlerts":0}'
    "\n"
).encode()

START = parse_time("2026-11-20T17:00:00Z")
ROUTE = Route("responder", ("platform", "alertname", "env"), "http://evaluator:9090")
SHIPPED = alert_rules.shipped_alerting()


def var_breach(holds_for: int) -> AlertRule:
    (rule,) = alert_rules.shortened((SHIPPED / "rules" / "edge-risk.yml").read_text(), ["VaRBreach"], holds_for)
    return rule


class Outside:
    """What is beyond the evaluator's socket: a platform whose VaR the test sets, and a webhook that answers as told."""

    def __init__(self, holds_for: int, times: Times) -> None:
        self.var: dict[str, float] = {"BTC-USD": 1.2, "ETH-USD": 1.1}
        self.platform_status = 200
        self.answers: list[int | None] = []
        self.posted: list[httpx.Request] = []
        self.now = START
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        settings = EvaluatorSettings(
            metrics_url="http://platform/metrics",
            webhook_url="http://responder/webhook/alertmanager",
            rules=(var_breach(holds_for),),
            route=ROUTE,
            target_labels={"platform": "edge-risk", "env": "prod", "job": "edge-risk", "instance": "platform:8080"},
            token="s3cret",
            times=times,
        )
        self.evaluator = Evaluator(settings, self.client)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/metrics":
            if not self.var:
                raise httpx.ConnectError("the platform is gone")
            lines = [f'var_pct{{symbol="{symbol}"}} {value}' for symbol, value in self.var.items()]
            return httpx.Response(self.platform_status, text="# TYPE var_pct gauge\n" + "\n".join(lines) + "\n")
        self.posted.append(request)
        status = self.answers.pop(0) if self.answers else 200
        if status is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(status)

    async def until(self, seconds: float) -> list[tuple[float, dict[str, str]]]:
        """Ticks up to `seconds` after the start; what was posted meanwhile: (seconds, status by symbol)."""
        seen = []
        while self.now <= START + seconds * SECOND:
            before = len(self.posted)
            due = await self.evaluator.tick(self.now)
            for request in self.posted[before:]:
                alerts = json.loads(request.content)["alerts"]
                statuses = {alert["labels"]["symbol"]: alert["status"] for alert in alerts}
                seen.append(((self.now - START) / SECOND, statuses))
            assert due > self.now, "a tick that names no later instant would spin"
            self.now = due
        return seen


TIMES = Times(scrape_interval=SECOND, group_wait=0, group_interval=4 * SECOND, repeat_interval=3600 * SECOND)


@pytest.fixture
def outside() -> Outside:
    return Outside(2 * SECOND, TIMES)


def captured_alerts() -> list[SentAlert]:
    def alert(symbol: str, job: str, started: str, ended: str | None) -> SentAlert:
        labels = {
            "symbol": symbol, "job": job, "instance": "h:1", "alertname": "VaRBreach", "desk": 'a "b" \\ ü\n<&>',
        }  # fmt: skip
        annotations = {"summary": f"VaR > 1.8 & rising \u2028 {symbol}", "note": "same"}
        end = None if ended is None else parse_time(ended)
        return SentAlert(labels, annotations, parse_time(started), end, "http://p/x?a=1&b=2")

    return [
        alert("SOL-USD", "a", "2026-11-20T17:02:42.5Z", None),
        alert("BTC-USD", "b", "2026-11-20T17:02:42.5Z", None),
        alert("ETH-USD", "a", "2026-11-20T17:02:43Z", "2026-11-20T17:05:00.123456Z"),
    ]


def test_the_payload_is_byte_for_byte_that_of_a_real_alertmanager() -> None:
    route = Route("ops/team.dotted-name", ("alertname", "desk", "nowhere"), "http://127.0.0.1:9093")
    assert payload(route, captured_alerts()).decode() == CAPTURED.decode()


def test_when_a_group_is_told_again() -> None:
    sol, btc, ended = captured_alerts()
    hour = 3600 * SECOND
    told = told_by([sol, btc], START)
    assert worth_telling(None, [sol], START, hour)
    assert not worth_telling(None, [ended], START, hour), "what was never told as firing is not told as ended"
    assert not worth_telling(told, [sol, btc], START + hour, hour)
    assert worth_telling(told, [sol, btc], START + hour + 1, hour)
    assert not worth_telling(told, [sol], START, hour), "absence tells nothing"
    assert worth_telling(told_by([sol], START), [sol, btc], START, hour)
    assert worth_telling(told, [sol, btc, ended], START, hour)
    assert worth_telling(told, [ended], START, hour)
    assert not worth_telling(told_by([ended], START), [ended], START, hour)


async def test_an_alert_is_posted_with_what_the_shipped_rule_says(outside: Outside) -> None:
    outside.var["BTC-USD"] = 2.163
    await outside.until(2)
    (request,) = outside.posted
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["content-type"] == "application/json"
    (alert,) = json.loads(request.content)["alerts"]
    assert alert["labels"] == {
        "alertname": "VaRBreach", "severity": "critical", "platform": "edge-risk", "env": "prod",
        "symbol": "BTC-USD", "job": "edge-risk", "instance": "platform:8080",
    }  # fmt: skip
    assert alert["annotations"]["summary"] == "VaR of BTC-USD is 2.16%"
    assert alert["startsAt"] == format_time(START + 2 * SECOND)
    assert alert["generatorURL"] == (
        "http://evaluator:9090/graph?g0.expr=var_pct%7Bplatform%3D~%22%7Cedge-risk%22%7D+%3E+1.8&g0.tab=1"
    )


async def test_it_fires_after_for_joins_and_ends(outside: Outside) -> None:
    outside.var["BTC-USD"] = 2.1
    assert await outside.until(2.5) == [(2, {"BTC-USD": "firing"})]
    outside.var["ETH-USD"] = 1.9
    assert await outside.until(9.5) == [(6, {"BTC-USD": "firing", "ETH-USD": "firing"})]
    outside.var["BTC-USD"] = 1.8
    assert await outside.until(13.5) == [(10, {"BTC-USD": "resolved", "ETH-USD": "firing"})]
    outside.var["ETH-USD"] = 1.0
    assert await outside.until(60) == [(14, {"ETH-USD": "resolved"})]


async def test_a_value_that_falls_back_within_for_is_not_told(outside: Outside) -> None:
    for second in range(12):
        outside.var["BTC-USD"] = 2.1 if second % 2 else 1.2
        assert await outside.until(second + 0.5) == []


async def test_group_wait_collects_what_comes_together() -> None:
    outside = Outside(0, Times(group_wait=1500 * MILLISECOND, group_interval=4 * SECOND))
    outside.var = {"BTC-USD": 2.0}
    assert await outside.until(0.5) == []
    outside.var["ETH-USD"] = 2.0
    assert await outside.until(5) == [(1.5, {"BTC-USD": "firing", "ETH-USD": "firing"})]


async def test_a_long_breach_is_repeated() -> None:
    outside = Outside(0, Times(group_interval=4 * SECOND, repeat_interval=10 * SECOND))
    outside.var = {"BTC-USD": 2.0}
    assert [at for at, _ in await outside.until(30)] == [0, 12, 24]


@pytest.mark.parametrize("failure", [503, 500, None])
async def test_5xx_and_a_refused_connection_are_retried_with_the_same_body(
    outside: Outside, failure: int | None
) -> None:
    outside.var["BTC-USD"] = 2.1
    outside.answers = [failure, failure, failure]
    assert [at for at, _ in await outside.until(5)] == [2, 2.5, 3.25, 4.375]
    assert len({request.content for request in outside.posted}) == 1
    assert await outside.until(30) == [], "accepted once is enough"


async def test_after_the_deadline_a_new_flush_begins(outside: Outside) -> None:
    outside.var["BTC-USD"] = 2.1
    outside.answers = [503, 503, 503, 503, 503, 503, 200]
    times = [at for at, _ in await outside.until(40)]
    assert times == [2, 2.5, 3.25, 4.375, 6.0625, 8.59375, 12], "the deadline is 10 s after the flush began"


@pytest.mark.parametrize("refusal", [400, 401, 429, 302])
async def test_a_refused_notification_is_sent_again_at_group_interval(outside: Outside, refusal: int) -> None:
    outside.var["BTC-USD"] = 2.1
    outside.answers = [refusal, refusal]
    assert [at for at, _ in await outside.until(40)] == [2, 6, 10]


async def test_an_end_is_never_told_when_the_beginning_was_not(outside: Outside) -> None:
    outside.var["BTC-USD"] = 2.1
    outside.answers = [400]
    await outside.until(3.5)
    outside.var["BTC-USD"] = 1.0
    assert await outside.until(10.5) == []
    outside.var["BTC-USD"] = 2.1
    assert await outside.until(15) == [(13, {"BTC-USD": "firing"})], "a new group, not the old one's next flush at 14"


async def test_it_fires_again_after_its_end(outside: Outside) -> None:
    outside.var["BTC-USD"] = 2.1
    await outside.until(3.5)
    outside.var["BTC-USD"] = 1.0
    assert await outside.until(8.5) == [(6, {"BTC-USD": "resolved"})]
    outside.var["BTC-USD"] = 2.1
    assert await outside.until(20) == [(11, {"BTC-USD": "firing"})]


@pytest.mark.parametrize("answers", [True, False])
async def test_a_platform_that_cannot_be_scraped_ends_its_alerts_as_prometheus_would(
    outside: Outside, answers: bool
) -> None:
    outside.var["BTC-USD"] = 2.1
    await outside.until(3.5)
    if answers:
        outside.platform_status = 500
    else:
        outside.var = {}
    assert await outside.until(8) == [(6, {"BTC-USD": "resolved"})]
    assert [(sample.name, sample.value) for sample in outside.evaluator.scrapes[-1].samples] == [("up", 0.0)]


EARLIER = Scrape(START - 120 * SECOND, (Sample("var_pct", {"symbol": "ETH-USD", "env": "prod"}, 1.5),))
SCRAPE = Scrape(
    START,
    (
        Sample("var_pct", {"symbol": "BTC-USD", "env": "prod"}, 2.163),
        Sample("var_pct", {"symbol": "ETH-USD", "env": "prod"}, 1.1),
        Sample("kelly_fraction", {"env": "prod"}, 0.25),
    ),
)


async def asked(method: str, query: str, at: int) -> httpx.Response:
    transport = httpx.ASGITransport(create_query_api(lambda: (EARLIER, SCRAPE), lambda: at))
    async with httpx.AsyncClient(transport=transport, base_url="http://evaluator") as client:
        if method == "GET":
            return await client.get("/api/v1/query", params={"query": query})
        return await client.post("/api/v1/query", data={"query": query})


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("max(var_pct)", ["2.163"]),
        ("min(var_pct)", ["1.1"]),
        ("var_pct", ["2.163", "1.1"]),
        ('var_pct{symbol="ETH-USD"}', ["1.1"]),
        ('max(var_pct{symbol="ETH-USD", env="prod",})', ["1.1"]),
        ('var_pct{symbol="ETH-USD", env="staging"}', []),
        ("timestamp(var_pct)", ["1795194000", "1795194000"]),
        (" min( timestamp( var_pct ) ) ", ["1795194000"]),
        ("kelly_fraction", ["0.25"]),
        ("kelly_fraction{}", ["0.25"]),
        ('var_pct{symbol=""}', []),
        ('var_pct{symbol=~"ETH-USD|SOL-USD"}', ["1.1"]),
        ('kelly_fraction{symbol=~"|ETH-USD"}', ["0.25"]),
        ('var_pct{symbol=~"|SOL-USD"}', []),
        ("unheard_of", []),
        ("max(unheard_of)", []),
        ("sum(unheard_of)", []),
        ("sum(var_pct)", ["3.263"]),
        ("avg(kelly_fraction)", ["0.25"]),
        ("count(var_pct)", ["2"]),
        ("abs(0.1 - kelly_fraction)", ["0.15"]),
        ("var_pct > 2", ["2.163"]),
        ("2 < var_pct", ["2.163"]),
        ("kelly_fraction * 8 + 1 / 2", ["2.5"]),
        ("(kelly_fraction + 1) * 2", ["2.5"]),
        ("var_pct - var_pct", ["0", "0"]),
        ("100 * kelly_fraction / scalar(sum(kelly_fraction))", ["100"]),
        ("kelly_fraction / scalar(var_pct)", ["NaN"]),
        ("kelly_fraction / 0", ["+Inf"]),
        ("max(var_pct) and on() (min(kelly_fraction) == 0.25)", ["2.163"]),
        ("max(var_pct) and on() (min(kelly_fraction) == 1)", []),
        ("var_pct and kelly_fraction", []),
        ("var_pct and on(env) kelly_fraction", ["2.163", "1.1"]),
        ('avg(avg_over_time(var_pct{symbol="ETH-USD"}[1m]))', ["1.1"]),
        ('avg_over_time(var_pct{symbol="ETH-USD"}[15m])', ["1.3"]),
    ],
)
async def test_the_query_api_answers_as_prometheus_does(method: str, query: str, values: Sequence[str]) -> None:
    answer = await asked(method, query, START + 2_500_000)
    document = answer.json()
    assert (answer.status_code, document["status"], document["data"]["resultType"]) == (200, "success", "vector")
    assert [row["value"] for row in document["data"]["result"]] == [[1795194002.5, value] for value in values]


async def test_a_series_keeps_its_name_and_a_computed_one_has_none() -> None:
    (kelly,) = (await asked("GET", "kelly_fraction", START)).json()["data"]["result"]
    (stamp,) = (await asked("GET", "timestamp(kelly_fraction)", START)).json()["data"]["result"]
    (highest,) = (await asked("GET", "max(kelly_fraction)", START)).json()["data"]["result"]
    assert kelly["metric"] == {"__name__": "kelly_fraction", "env": "prod"}
    assert stamp["metric"] == {"env": "prod"}
    assert highest["metric"] == {}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "increase(x[5m])",
        "rate(x)",
        "max(",
        "max()",
        "var_pct[5m]",
        "avg_over_time(var_pct)",
        "avg_over_time(max(var_pct)[5m])",
        "var_pct or kelly_fraction",
        "sum by (symbol) (var_pct)",
        "1 2",
        "var_pct %",
        'var_pct{a!="b"}',
        'var_pct{a="b"',
        "(" * 40 + "1" + ")" * 40,
        'v{a="b"c="d"}',
    ],
)
async def test_what_it_cannot_evaluate_is_an_error_in_prometheus_shape(query: str) -> None:
    answer = await asked("POST", query, START)
    assert answer.status_code == 400
    document = answer.json()
    assert (document["status"], document["errorType"]) == ("error", "bad_data")
    assert set(document) == {"status", "errorType", "error"}


def counted(*values: float) -> list[Scrape]:
    """A counter scraped every second, the last time now."""
    first = START - (len(values) - 1) * SECOND
    return [Scrape(first + n * SECOND, (Sample("c_total", {"job": "x"}, value),)) for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ([100 + n for n in range(10)], 1.0),  # the whole range is covered
        ([100 + n for n in range(30)], 1.0),
        ([106, 107, 108, 109, 2, 3, 4, 5, 6, 7], 109.0 * 10 / 9 / 10 + -99.0 * 10 / 9 / 10),
        ([100, 102], 0.3),  # two samples: half an interval is added before them, none after
        ([0, 2], 0.2),  # it began at zero, so it cannot have been less before
        ([7, 7, 7], 0.0),
        ([5], None),
        ([], None),
    ],
)
def test_a_rate_is_what_prometheus_says(values: Sequence[float], rate: float | None) -> None:
    found = parse("rate(c_total[10s])")(Moment(counted(*values), START))
    assert isinstance(found, tuple)
    assert [(s.name, s.labels) for s in found] == ([] if rate is None else [("", {"job": "x"})])
    assert [s.value for s in found] == ([] if rate is None else [pytest.approx(rate)])


async def test_a_plain_number_is_a_scalar() -> None:
    answer = (await asked("GET", "1 + 2 * 3", START)).json()
    assert answer["data"] == {"resultType": "scalar", "result": [1795194000, "7"]}


async def test_old_samples_answer_no_question() -> None:
    assert (await asked("GET", "var_pct", START + 299 * SECOND)).json()["data"]["result"]
    assert not (await asked("GET", "var_pct", START + 300 * SECOND)).json()["data"]["result"]


async def test_the_instant_may_be_named() -> None:
    transport = httpx.ASGITransport(create_query_api(lambda: (EARLIER, SCRAPE), lambda: START))
    async with httpx.AsyncClient(transport=transport, base_url="http://evaluator") as client:
        for time in ("1795194001.25", "2026-11-20T17:00:01.25Z"):
            answer = await client.get("/api/v1/query", params={"query": "max(var_pct)", "time": time})
            assert answer.json()["data"]["result"] == [{"metric": {}, "value": [1795194001.25, "2.163"]}]
        assert (await client.get("/api/v1/query", params={"query": "var_pct", "time": "now"})).status_code == 400


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (5000.0, "5000"),
        (1e-7, "0.0000001"),
        (1e21, "1000000000000000000000"),
        (-0.25, "-0.25"),
        (float("nan"), "NaN"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
    ],
)
def test_numbers_are_written_without_an_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_a_rule_that_only_prometheus_can_evaluate_is_refused_by_name() -> None:
    rules = (SHIPPED / "rules" / "edge-risk.yml").read_text()
    (certificate,) = alert_rules.shortened(rules, ["TlsCertificateExpiring"], 0)
    with pytest.raises(BadSyntax, match="put prometheus on PATH"):
        parse(certificate.expr)
    with pytest.raises(BadConfig, match="no alert rule NoSuch"):
        alert_rules.shortened(rules, ["NoSuch"], 0)
    odd = AlertRule("Odd", "a > 1", 0, {}, {"summary": "{{ humanize $value }}"})
    with pytest.raises(BadConfig, match=r"Odd: .*humanize"):
        alert_rules.expanded(odd, {}, 1.0)


def test_a_shortened_rule_looks_back_as_much_shorter_and_holds_no_longer_than_it_is_shipped() -> None:
    text = (SHIPPED / "rules" / "edge-risk.yml").read_text()
    names = ["ExcessiveModelSwitching", "CircuitBreakerOpened"]
    own = 'platform=~"|edge-risk"'
    switching, breaker = alert_rules.shortened(text, names, SECOND)
    assert (switching.expr, switching.holds_for) == (f"rate(model_switch_total{{{own}}}[15s]) * 60 > 20", SECOND)
    assert (breaker.expr, breaker.holds_for) == (f"circuit_breaker_state{{{own}}} == 2", 0)


def test_shortened_rules_differ_from_the_shipped_ones_in_their_times_only() -> None:
    text = (SHIPPED / "rules" / "edge-risk.yml").read_text()
    written = yaml.safe_load(alert_rules.rule_file(alert_rules.shortened(text, ["VaRBreach"], SECOND), SECOND))
    shipped = next(rule for rule in yaml.safe_load(text)["groups"][0]["rules"] if rule["alert"] == "VaRBreach")
    assert written["groups"][0]["interval"] == "1s"
    assert written["groups"][0]["rules"] == [shipped | {"for": "1s"}]


def test_the_demo_keeps_the_shipped_webhook_settings() -> None:
    shipped = (SHIPPED / "alertmanager.yml").read_text()
    written = yaml.safe_load(alertmanager_config(shipped, Timing(), "http://127.0.0.1:1/webhook", Path("/run/token")))
    (receiver,) = written["receivers"]
    assert receiver["webhook_configs"] == [
        {
            "url": "http://127.0.0.1:1/webhook",
            "send_resolved": True,
            "max_alerts": 0,
            "http_config": {
                "follow_redirects": False,
                "authorization": {"type": "Bearer", "credentials_file": "/run/token"},
            },
        }
    ]
    assert written["route"]["group_by"] == ["platform", "alertname", "env"]
    assert written["route"]["group_interval"] == "2s"
    open_webhook = yaml.safe_load(alertmanager_config(shipped, Timing(), "http://127.0.0.1:1/webhook", None))
    assert "authorization" not in open_webhook["receivers"][0]["webhook_configs"][0]["http_config"]
    with pytest.raises(BadConfig, match="no receiver called responder"):
        alertmanager_config("receivers: [{name: other}]", Timing(), "http://127.0.0.1:1/webhook", None)


def test_prometheus_labels_what_it_scrapes() -> None:
    job = ScrapeJob("edge-risk", "127.0.0.1:8080", {"platform": "edge-risk", "env": "prod"})
    written = yaml.safe_load(prometheus_config(Timing(), [job], ["127.0.0.1:9093"], [Path("/run/rules.yml")]))
    assert written["scrape_configs"] == [
        {
            "job_name": "edge-risk",
            "static_configs": [{"targets": ["127.0.0.1:8080"], "labels": {"platform": "edge-risk", "env": "prod"}}],
        }
    ]
    assert written["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["127.0.0.1:9093"]}]}]
    assert written["rule_files"] == ["/run/rules.yml"]
