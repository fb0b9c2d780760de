"""The demo platform over ASGI with a clock that the test turns: the story of a breach in numbers, and the ledger."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from responder.demo.platform import PlatformSettings, create_platform
from responder.demo.scenario import STRESS, Scenario

AUTHORISED = {"Authorization": "Bearer s3cret"}
SETTLED = 60.0


class TurnedClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def platform(clock: TurnedClock) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_platform(PlatformSettings(token="s3cret"), clock))
    return httpx.AsyncClient(transport=transport, base_url="http://platform", headers=AUTHORISED)


async def worst_var(platform: httpx.AsyncClient) -> float:
    levels: dict[str, float] = (await platform.get("/api/status")).json()["var_pct"]
    return max(levels.values())


async def metrics(platform: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families((await platform.get("/metrics")).text)
    return {(s.name, s.labels.get("symbol", "")): s.value for family in families for s in family.samples}


async def stress(platform: httpx.AsyncClient, scenario: Scenario) -> None:
    (await platform.post("/demo/stress", json=STRESS[scenario].model_dump())).raise_for_status()


async def cut(platform: httpx.AsyncClient, kelly: float = 0.1) -> httpx.Response:
    return await platform.post("/api/risk/emergency-reduce", json={"kelly_fraction": kelly, "reason": "VaR breach"})


async def test_health_and_readiness_answer_as_the_operations_say(platform: httpx.AsyncClient) -> None:
    assert (await platform.get("/health")).json() == {"status": "healthy"}
    assert (await platform.get("/api/ready")).json() == {"ready": True}


async def test_the_status_names_the_present_parameters(platform: httpx.AsyncClient) -> None:
    status = (await platform.get("/api/status")).json()
    assert status["kelly_fraction"] == 0.25
    assert (status["trading"], status["router"], status["circuit_breaker"]) == ("running", "running", "CLOSED")
    assert set(status["var_pct"]) == {"BTC-USD", "ETH-USD", "SOL-USD"}
    assert status["limits"] == {"var_pct": 2.0, "var_alert_pct": 1.8, "circuit_breaker_var_pct": 2.5}


async def test_a_calm_market_stays_below_the_threshold(platform: httpx.AsyncClient, clock: TurnedClock) -> None:
    for _ in range(200):
        clock.now += 0.7
        assert await worst_var(platform) < 1.7


async def test_stress_raises_var_gradually_above_the_alert_and_below_the_breaker(
    platform: httpx.AsyncClient, clock: TurnedClock
) -> None:
    await stress(platform, Scenario.VAR_BREACH)
    assert await worst_var(platform) < 1.3
    clock.now += 1.0
    halfway = await worst_var(platform)
    clock.now += SETTLED
    status = (await platform.get("/api/status")).json()
    assert halfway < 1.8 < max(status["var_pct"].values()) < 2.5
    assert sum(level > 1.8 for level in status["var_pct"].values()) == 2
    assert status["circuit_breaker"] == "CLOSED"


async def test_var_falls_after_the_cut(platform: httpx.AsyncClient, clock: TurnedClock) -> None:
    await stress(platform, Scenario.VAR_BREACH)
    clock.now += SETTLED
    answer = await cut(platform)
    assert (answer.status_code, answer.json()["kelly_fraction"]) == (200, 0.1)
    assert await worst_var(platform) > 1.8
    clock.now += SETTLED
    assert await worst_var(platform) < 0.9


async def test_var_follows_with_its_time_constant(platform: httpx.AsyncClient, clock: TurnedClock) -> None:
    await stress(platform, Scenario.VAR_BREACH)
    clock.now += PlatformSettings().time_constant
    assert await worst_var(platform) == pytest.approx(1.2 + (2.16 - 1.2) * 0.632, rel=0.011)


async def test_reading_often_does_not_change_where_var_ends(clock: TurnedClock) -> None:
    async def var_after(readings: int) -> float:
        clock.now = 1000.0
        transport = httpx.ASGITransport(create_platform(PlatformSettings(), clock))
        async with httpx.AsyncClient(transport=transport, base_url="http://platform") as platform:
            await stress(platform, Scenario.VAR_BREACH)
            for reading in range(1, readings + 1):
                clock.now = 1000.0 + 3.0 * reading / readings
                await platform.get("/metrics")
            return await worst_var(platform)

    assert await var_after(1) == pytest.approx(await var_after(30))


async def test_a_market_that_does_not_respond_needs_the_halt(platform: httpx.AsyncClient, clock: TurnedClock) -> None:
    await stress(platform, Scenario.VAR_BREACH_UNFIXED)
    clock.now += SETTLED
    await cut(platform)
    clock.now += SETTLED
    assert await worst_var(platform) > 2.0
    assert (await metrics(platform))["position_size_usd", "BTC-USD"] == pytest.approx(240_000)
    halted = (await platform.post("/api/stop-trading")).json()
    assert halted["trading"] == "halted"
    clock.now += SETTLED
    assert await worst_var(platform) < 0.01
    assert (await metrics(platform))["trading_halted", ""] == 1


async def test_metrics_carry_every_name_of_the_operations(platform: httpx.AsyncClient, clock: TurnedClock) -> None:
    clock.now += 42
    seen = await metrics(platform)
    assert {name for name, _ in seen} == {
        "var_pct", "kelly_fraction", "trading_halted", "router_paused", "circuit_breaker_state",
        "position_size_usd", "edge_blended_bps", "volatility_age_seconds", "model_switch_total", "redis_latency_p99",
    }  # fmt: skip
    assert seen["kelly_fraction", ""] == 0.25
    assert seen["volatility_age_seconds", ""] == 42
    await platform.post("/api/risk/refresh-volatility")
    assert (await metrics(platform))["volatility_age_seconds", ""] == 0


async def test_the_breaker_opens_above_its_limit_and_a_reset_half_opens_it(
    platform: httpx.AsyncClient, clock: TurnedClock
) -> None:
    await platform.post("/demo/stress", json={"factor": 3.0})
    clock.now += SETTLED
    assert (await metrics(platform))["circuit_breaker_state", ""] == 2
    still = (await platform.post("/api/circuit-breaker/reset")).json()
    assert still["circuit_breaker"] == "OPEN", "VaR is above the limit: it opens again at once"
    await cut(platform)
    clock.now += SETTLED
    assert (await platform.get("/api/status")).json()["circuit_breaker"] == "OPEN"
    assert (await platform.post("/api/circuit-breaker/reset")).json()["circuit_breaker"] == "HALF_OPEN"


async def test_a_reset_of_a_closed_breaker_changes_nothing(platform: httpx.AsyncClient) -> None:
    assert (await platform.post("/api/circuit-breaker/reset")).json()["circuit_breaker"] == "CLOSED"


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/api/router/pause", "router", "paused"),
        ("/api/router/resume", "router", "running"),
        ("/api/stop-trading", "trading", "halted"),
        ("/api/start-trading", "trading", "running"),
    ],
)
async def test_switches(platform: httpx.AsyncClient, path: str, field: str, value: str) -> None:
    for _ in range(2):
        assert (await platform.post(path)).json()[field] == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"kelly_fraction": 0.1}',
        b'{"kelly_fraction": 0.1, "reason": ""}',
        b'{"kelly_fraction": 0, "reason": "r"}',
        b'{"kelly_fraction": 1.5, "reason": "r"}',
        b'{"kelly_fraction": NaN, "reason": "r"}',
        b'{"kelly_fraction": true, "reason": "r"}',
        b'{"kelly_fraction": "0.1", "reason": "r"}',
        b'{"kelly_fraction": 0.1, "reason": "r", "symbol": "BTC-USD"}',
    ],
)
async def test_a_nonsensical_cut_is_refused_and_changes_nothing(platform: httpx.AsyncClient, body: bytes) -> None:
    assert (await platform.post("/api/risk/emergency-reduce", content=body)).status_code == 422
    assert (await platform.get("/api/status")).json()["kelly_fraction"] == 0.25
    (entry,) = (await platform.get("/demo/ledger")).json()["calls"]
    assert entry["status"] == 422


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cr\u00e9t"])
async def test_a_change_needs_the_token_and_a_reading_does_not(clock: TurnedClock, header: str | None) -> None:
    transport = httpx.ASGITransport(create_platform(PlatformSettings(token="s3cret"), clock))
    headers = [] if header is None else [(b"Authorization", header.encode())]
    async with httpx.AsyncClient(transport=transport, base_url="http://platform", headers=headers) as stranger:
        assert (await cut(stranger)).status_code == 401
        assert (await stranger.post("/demo/stress", json={"factor": 9.0})).status_code == 401
        assert (await stranger.get("/api/status")).json()["kelly_fraction"] == 0.25
        assert (await stranger.get("/metrics")).status_code == 200


async def test_the_ledger_lists_every_changing_call_in_order(platform: httpx.AsyncClient, clock: TurnedClock) -> None:
    await stress(platform, Scenario.VAR_BREACH)
    clock.now += 1.5
    body = {"kelly_fraction": 0.1, "reason": "VaR breach"}
    for _ in range(2):
        await platform.post("/api/risk/emergency-reduce", json=body, headers={"Idempotency-Key": "i-1/cut/1"})
    clock.now += 1
    await platform.post("/api/stop-trading")
    cut_entry = {
        "time": 1.5,
        "path": "/api/risk/emergency-reduce",
        "body": body,
        "idempotency_key": "i-1/cut/1",
        "status": 200,
    }
    stop_entry = {"time": 2.5, "path": "/api/stop-trading", "body": None, "idempotency_key": None, "status": 200}
    assert (await platform.get("/demo/ledger")).json() == {"calls": [cut_entry, cut_entry, stop_entry]}


async def test_a_huge_body_is_refused(platform: httpx.AsyncClient) -> None:
    assert (await platform.post("/api/stop-trading", content=b" " * 100_000)).status_code == 413
    assert (await platform.get("/api/status")).json()["trading"] == "running"


def test_settings_do_not_show_their_token() -> None:
    assert "s3cret" not in repr(PlatformSettings(token="s3cret"))


async def test_the_router_counts_its_switches_until_it_is_paused(
    platform: httpx.AsyncClient, clock: TurnedClock
) -> None:
    async def switches() -> float:
        return (await metrics(platform))["model_switch_total", ""]

    clock.now += 60.0
    assert await switches() == pytest.approx(6.0)
    await stress(platform, Scenario.MODEL_SWITCHING)
    clock.now += 10.0
    assert await switches() == pytest.approx(16.0)
    await platform.post("/api/router/pause")
    clock.now += 60.0
    assert await switches() == pytest.approx(16.0)
    await platform.post("/api/router/resume")
    clock.now += 1.0
    assert await switches() == pytest.approx(17.0)


async def test_redis_becomes_slow_and_quick_again(platform: httpx.AsyncClient, clock: TurnedClock) -> None:
    async def latency() -> float:
        return (await metrics(platform))["redis_latency_p99", ""]

    assert await latency() == 900.0
    await stress(platform, Scenario.REDIS_LATENCY)
    clock.now += SETTLED
    assert await latency() == pytest.approx(9000.0)
    await platform.post("/demo/stress", json={})
    clock.now += SETTLED
    status = (await platform.get("/api/status")).json()
    assert status["redis_latency_p99_us"] == pytest.approx(900.0)


async def test_each_story_breaks_what_it_says(platform: httpx.AsyncClient, clock: TurnedClock) -> None:
    await stress(platform, Scenario.HOT_RELOAD_REFUSED)
    clock.now += SETTLED
    assert 1.6 < await worst_var(platform) < 1.7
    await stress(platform, Scenario.BREAKER_RESET)
    clock.now += SETTLED
    assert (await platform.get("/api/status")).json()["circuit_breaker"] == "OPEN"
    await cut(platform)
    clock.now += SETTLED
    await platform.post("/api/circuit-breaker/reset")
    clock.now += SETTLED
    status = (await platform.get("/api/status")).json()
    assert status["circuit_breaker"] == "HALF_OPEN"
    assert max(status["var_pct"].values()) < 1.7
