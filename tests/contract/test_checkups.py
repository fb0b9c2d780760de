"""What `responder doctor` finds about services, against real ones: reachable, allowed what the runbooks do, clocks."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from responder import checkups
from responder.actions import ACTIONS
from responder.checkups import SKEW, Finding, Needs, apart, looked_over
from responder.connections import Connections, open_transport
from responder.contracts import Parameter, Secret, Service
from responder.redis_steps import RedisStep
from responder.rights import SAMPLES, uses_of
from responder.runbook import Runbook
from responder.services import (
    AlertmanagerService,
    CommandService,
    HttpService,
    KubernetesService,
    PostgresService,
    PrometheusService,
    RedisSentinelService,
    RedisService,
)
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.fakes.kubernetes import TOKEN, ApiServer, Cluster
from tests.fakes.kubernetes_objects import NAMESPACE
from tests.fakes.server import FakeServer, HangsUp
from tests.servers import Alertmanager, Postgres, Prometheus, Redis, Sentinel, free_port
from tests.system.patience import eventually

PASSWORD = "s3cret-password-of-a-test"
SECRET = Secret("env PASSWORD", lambda: PASSWORD)
AGREES = "its clock agrees with ours within 5s"


def needs(
    *uses: tuple[str, dict[str, Any]], parameters: Mapping[str, Parameter] | None = None, **every_step: Any
) -> Needs:
    steps = [
        {"id": f"s{number}", "action": name, "with": with_, **every_step} for number, (name, with_) in enumerate(uses)
    ]
    runbook = Runbook.model_validate({"runbook": "it", "title": "It", "target": "it", "steps": steps})
    return Needs(uses_of([runbook], ACTIONS, parameters or {}), parameters or {})


async def looked(service: Service, given: Needs, now: Any = wall_clock) -> list[tuple[bool | None, str]]:
    connections = Connections({"it": service}, open_transport)
    found = await looked_over("it", connections.connect("it"), given, now)
    await connections.close()
    assert {one.what for one in found} == {"service it"}
    assert not any(PASSWORD in one.says for one in found)
    return [(one.good, one.says) for one in found]


def bad(found: list[tuple[bool | None, str]]) -> list[str]:
    return [says for good, says in found if good is False]


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "resolution", "skew"),
    [(100, 0, 0), (90, 0, -10), (115, 0, 5), (99, 1, 0), (95, 2, -3), (110, 0, 0)],
)
def test_a_clock_is_only_as_wrong_as_it_must_be(theirs: int, resolution: int, skew: int) -> None:
    """Ours went from 100 to 110 while the answer was on its way."""
    assert apart(theirs, resolution, 100, 110) == skew


# --- Kubernetes -------------------------------------------------------------------------------------------------------

SPACE = {"service": "it", "namespace": NAMESPACE}
RESTART = ("kubernetes.rollout_restart", {**SPACE, "workload": "deployment/trading-app"})
PODS = ("kubernetes.pods", {**SPACE, "selector": "app=trading"})


def cluster_at(url: str, token: str = TOKEN, namespace: str = NAMESPACE) -> KubernetesService:
    return KubernetesService(url=url, token=Secret("env T", lambda: token), namespaces=(namespace,))


async def test_a_cluster_is_asked_for_exactly_what_the_runbooks_do() -> None:
    cluster = Cluster(rights={("get", "deployments"), ("patch", "deployments"), ("list", "pods")})
    async with ApiServer(cluster) as server:
        found = await looked(cluster_at(server.url), needs(RESTART, PODS))
    says = f"its user may do all that the runbooks do in {NAMESPACE}"
    assert found == [(True, "it answers, and knows us"), (True, AGREES), (True, says)]
    asked = {(one["verb"], one["resource"], one.get("name", "")) for one in cluster.reviews}
    assert asked == {
        ("get", "deployments", "trading-app"),
        ("patch", "deployments", "trading-app"),
        ("list", "pods", ""),
    }
    assert cluster.asked == [], "nothing but reviews was asked"


async def test_a_right_that_a_cluster_does_not_give_is_named_as_the_rule_that_gives_it() -> None:
    cluster = Cluster(rights={("get", "deployments")})
    async with ApiServer(cluster) as server:
        found = await looked(cluster_at(server.url), needs(RESTART, PODS))
    told = f"its user may not do this in {NAMESPACE}; add to its Role (responder rbac): "
    assert bad(found) == [
        told + '{apiGroups: [""], resources: [pods], verbs: [list]}',
        told + '{apiGroups: ["apps"], resources: [deployments], resourceNames: ["trading-app"], verbs: [patch]}',
    ]


async def test_a_cluster_that_does_not_know_us_or_must_not_be_touched_there_is_found() -> None:
    async with ApiServer(Cluster()) as server:
        (refused,) = await looked(cluster_at(server.url, "another-token"), needs(RESTART))
        outside = await looked(cluster_at(server.url, namespace="elsewhere"), needs(RESTART))
    assert refused[0] is False
    assert "it does not know us; check the service's token" in refused[1]
    assert "the service allows the namespaces elsewhere only" in bad(outside)[0]


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with Postgres() as server:
        server.execute("CREATE ROLE responder LOGIN")
        yield server


def at_database(server: Postgres, **fields: Any) -> PostgresService:
    where = f"postgresql://{server.address}/postgres"
    return PostgresService.model_validate({"url": where, "username": "responder", "tls": "off", **fields})


PROMOTE = ("postgres.promote", {"candidates": ["it"], "fencing": "the old one is stopped"})
END = ("postgres.terminate_queries", {"service": "it", "users": ["r"], "spared": ["o"], "older_than": "1s"})


async def test_a_role_is_asked_for_each_grant_and_the_cure_is_the_grant(database: Postgres) -> None:
    found = await looked(at_database(database), needs(PROMOTE, END))
    assert found[:2] == [(True, "it is a primary, and knows us as responder"), (True, AGREES)]
    assert len(bad(found)) == 3
    for says in bad(found):
        grant = re.fullmatch(r"its role lacks a right: (GRANT .*) \(responder rbac\)", says)
        assert grant is not None, says
        database.execute(grant[1])
    assert (await looked(at_database(database), needs(PROMOTE, END)))[2:] == [
        (True, "its role has every right that the runbooks need")
    ]


async def test_a_clock_that_is_wrong_is_found(database: Postgres) -> None:
    found = await looked(at_database(database), needs(), lambda: wall_clock() + 60 * SECOND)
    (says,) = bad(found)
    assert re.fullmatch(r"its clock is (59|1m|60).* behind ours: set both by NTP", says), says


async def test_a_database_that_is_not_there_or_lets_nobody_in_is_found(database: Postgres) -> None:
    away = PostgresService(url=f"postgresql://127.0.0.1:{free_port()}/x", username="r", tls="off")
    (gone,) = await looked(away, needs())
    assert (gone[0], "check that it runs" in gone[1]) == (False, True)
    (unknown,) = await looked(at_database(database, username="nobody-s"), needs())
    assert (unknown[0], "it does not let us in" in unknown[1]) == (False, True)


async def test_that_patroni_answers_a_question_does_not_prove_that_it_takes_an_order(database: Postgres) -> None:
    async with Asked() as patroni:
        service = at_database(database, patroni={"url": patroni.url, "member": "db-1"})
        found = await looked(service, needs(PROMOTE))
    assert (True, "its Patroni answers GET /cluster, for which it asks nobody who they are") in found
    unproven = "whether its Patroni takes our POST is not proven: that is known only when a promotion is sent"
    assert (None, unproven) in found


class Asked(FakeServer):
    """A Patroni that must be told nothing."""

    def __init__(self) -> None:
        super().__init__([Route("/cluster", self._cluster)])

    async def _cluster(self, _request: Request) -> Response:
        return JSONResponse({"members": []})


def test_every_grant_and_every_command_of_the_actions_can_be_asked_about() -> None:
    for action in ACTIONS.values():
        for grant in action.grants:
            assert any(pattern.fullmatch(grant) for pattern, _ in checkups._PRIVILEGES), grant
        if issubclass(action, RedisStep):
            assert {*action.commands, *action.sentinel_commands} <= SAMPLES.keys()


# --- Redis ------------------------------------------------------------------------------------------------------------

GET = ("redis.get", {"service": "it", "key": "var_pct:{{ symbol }}"})
WRITE = ("redis.write_test", {"service": "it"})
SAY = ("redis.publish", {"service": "it", "channel": "param.reload", "message": "all"})
RIGHTS = "~var_pct:* ~responder:write-test &param.reload -@all +exists +getrange +set +publish"


@pytest.fixture(scope="module")
def cache() -> Iterator[Redis]:
    with Redis() as server:
        yield server


def at_cache(server: Redis) -> RedisService:
    return RedisService(url=server.url, username="responder", password=SECRET)


def allow(server: Redis, rights: str) -> None:
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "responder", "reset", "on", f">{PASSWORD}", *rights.split())


async def test_a_redis_is_asked_what_it_would_allow_and_nothing_is_written(cache: Redis) -> None:
    allow(cache, f"{RIGHTS} +time +acl|dryrun")
    found = await looked(at_cache(cache), needs(GET, WRITE, SAY))
    says = "its user may do all that the runbooks do"
    assert found == [(True, "it answers, and knows us"), (True, AGREES), (True, says)]
    with cache.client() as admin:
        assert admin.dbsize() == 0


@pytest.mark.parametrize("taken", ["+set", "~responder:write-test", "&param.reload", "+getrange", "~var_pct:*"])
async def test_each_right_that_is_missing_is_found_by_a_dry_run(cache: Redis, taken: str) -> None:
    allow(cache, f"{RIGHTS} +acl|dryrun".replace(taken, ""))
    found = await looked(at_cache(cache), needs(GET, WRITE, SAY))
    assert bad(found)
    assert all("(responder rbac)" in says for says in bad(found))


async def test_without_a_dry_run_what_reads_is_read_and_the_rest_is_said_to_be_unknown(cache: Redis) -> None:
    allow(cache, RIGHTS)
    found = await looked(at_cache(cache), needs(GET, WRITE, SAY))
    unknown = "not proven, since only doing it would show it: set responder:write-test, publish param.reload; "
    assert found[1:] == [
        (None, "its clock was not compared: allow +time"),
        (True, "its user may do the rest of all that the runbooks do"),
        (None, f"{unknown}allow +acl|dryrun (Redis 7), and the server is asked instead"),
    ]
    allow(cache, RIGHTS.replace("+getrange", ""))
    (says,) = bad(await looked(at_cache(cache), needs(GET, WRITE, SAY)))
    assert "GETRANGE var_pct:responder 0 0: its user may not do this" in says
    with cache.client() as admin:
        assert admin.dbsize() == 0


async def test_a_redis_that_does_not_know_us_is_found(cache: Redis) -> None:
    allow(cache, "-@all")
    wrong = RedisService(url=cache.url, username="responder", password=Secret("env P", lambda: "another-password"))
    (found,) = await looked(wrong, needs(GET))
    assert (found[0], "it does not know us" in found[1]) == (False, True)


async def test_every_sentinel_is_looked_at_and_no_failover_is_sent() -> None:
    with Redis() as master, Sentinel(master) as sentinel:
        gone = f"127.0.0.1:{free_port()}"
        allow(master, "~responder:* -@all +info +role +set +time +acl|dryrun")
        service = RedisSentinelService(
            sentinels=(sentinel.address,), master="mymaster", username="responder", password=SECRET
        )
        failover = needs(("redis.failover", {"service": "it", "after": "0s"}), retry={"attempts": 2})
        found = await looked(service, failover)
        assert bad(found) == []
        assert (True, f"Sentinel {sentinel.address}: its user may do all that the runbooks do") in found
        assert (True, f"master {master.address}: its user may do all that the runbooks do") in found
        one_gone = service.model_copy(update={"sentinels": (sentinel.address, gone)})
        assert any(gone in says for says in bad(await looked(one_gone, failover)))
        assert "FAILOVER" not in sentinel.log.read_text()


async def test_a_replica_without_our_user_is_found_before_it_is_the_master() -> None:
    """A replica inherits no users, and a failover asks INFO, ROLE and SET of it."""
    with Redis() as master, Redis(replica_of=master) as replica, Sentinel(master) as sentinel:
        rights = "~responder:* -@all +info +role +set +time +acl|dryrun"
        allow(master, rights)
        service = RedisSentinelService(
            sentinels=(sentinel.address,), master="mymaster", username="responder", password=SECRET
        )
        with sentinel.client() as client:
            eventually("it knows the replica", lambda: client.sentinel_slaves("mymaster"), bool)
        failover = needs(("redis.failover", {"service": "it", "after": "0s"}), retry={"attempts": 2})
        (says,) = bad(await looked(service, failover))
        assert says.startswith(f"replica {replica.address}: ")
        assert "it does not know us" in says
        assert "each server has users of its own, so set ours there as well (responder rbac)" in says
        allow(replica, rights.replace(" +set", ""))
        (says,) = bad(await looked(service, failover))
        assert (says.startswith(f"replica {replica.address}: "), "allow +set" in says) == (True, True), says
        allow(replica, rights)
        found = await looked(service, failover)
        assert bad(found) == []
        assert (True, f"replica {replica.address}: its user may do all that the runbooks do") in found
        assert (True, f"replica {replica.address}: {AGREES}") in found
        replica.kill()
        (says,) = bad(await looked(service, failover))
        assert says.startswith(f"replica {replica.address}: ")


async def test_a_failover_that_gives_up_before_the_sentinels_notice_is_found() -> None:
    with Redis() as master, Sentinel(master, down_after=60_000) as sentinel:
        service = RedisSentinelService(sentinels=(sentinel.address,), master="mymaster")
        with_ = {"service": "it"}
        shipped = needs(("redis.failover", with_), retry={"attempts": 20, "first": "5s", "factor": 1})
        said = "a dead master is called down after 1m 00s (down-after-milliseconds)"
        assert (True, f"{said}, and step s0 of it tries for 1m 35s") in await looked(service, shipped)
        with sentinel.client() as client:
            client.execute_command("SENTINEL", "SET", "mymaster", "down-after-milliseconds", 90_000)
        (says,) = bad(await looked(service, shipped))
        assert "1m 30s" in says
        assert "have 10s for their own failover, but step s0 of it tries only for 1m 35s: lower" in says
        planned = needs(("redis.failover", {**with_, "planned": True}))
        assert bad(await looked(service, planned)) == []


# --- HTTP -------------------------------------------------------------------------------------------------------------


class Risk(FakeServer):
    """An API that tells a parameter and its status, and must not be told anything."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        super().__init__([Route("/limits", self._get), Route("/status", self._get), Route("/", self._get)])

    async def _get(self, request: Request) -> Response:
        self.seen.append(f"{request.method} {request.url.path}")
        known = request.headers.get("authorization") == f"Bearer {PASSWORD}"
        return JSONResponse({"kelly": 0.25}) if known else JSONResponse({"error": "who?"}, 401)


KELLY = Parameter.model_validate(
    {
        "service": "it",
        "read": {"path": "/limits", "value": "kelly"},
        "write": {"path": "/limits", "body": {"kelly": "{{ value }}"}},
        "floor": 0.1,
        "total_per_day": 0.2,
    }
)
HALT = {"service": "it", "method": "POST", "path": "/halt", "probe": {"path": "/status", "expect": "body.kelly > 1"}}


async def test_an_http_api_is_read_where_runbooks_read_it_and_what_cannot_be_known_is_said() -> None:
    given = needs(
        ("parameter.reduce", {"parameter": "kelly", "to": 0.1, "reason": "x"}),
        ("http.request", HALT),
        parameters={"kelly": KELLY},
    )
    async with Risk() as server:
        found = await looked(HttpService(url=server.url, bearer=SECRET), given)
        assert found == [
            (True, "GET /limits: answers 200"),
            (True, AGREES),
            (True, "GET /status: answers 200"),
            (None, "known only when it is sent: POST /limits, POST /halt"),
        ]
        assert server.seen == ["GET /limits", "GET /status"], "nothing but reads was sent"
        refused = await looked(HttpService(url=server.url), given)
        assert ["check the service's credentials" in says for says in bad(refused)] == [True, True]


async def test_an_http_api_that_nothing_reads_is_asked_whether_it_is_there() -> None:
    async with Risk() as server:
        assert (await looked(HttpService(url=server.url, bearer=SECRET), needs()))[0] == (
            True,
            "it answers (/ with 200)",
        )
        assert (await looked(HttpService(url=server.url), needs()))[0][0] is None
    (gone,) = await looked(HttpService(url=f"http://127.0.0.1:{free_port()}"), needs())
    assert (gone[0], "check that it runs" in gone[1]) == (False, True)
    async with HangsUp() as nobody:
        assert bad(await looked(HttpService(url=nobody.url), needs()))


async def test_prometheus_and_alertmanager_are_known_by_what_they_answer() -> None:
    silence = {"service": "it", "matchers": ["alertname=A"], "duration": "5m", "comment": "c"}
    with (
        Prometheus("global: {}\n") as metrics,
        Alertmanager("route: {receiver: x}\nreceivers: [{name: x}]\n") as alerts,
    ):
        ask = needs(("prometheus.query", {"service": "it", "query": "up"}))
        found = await looked(PrometheusService(url=metrics.url), ask)
        assert found == [(True, "it answers queries"), (True, AGREES)]
        found = await looked(AlertmanagerService(url=alerts.url), needs(("alertmanager.silence", silence)))
        assert re.fullmatch(r"it is Alertmanager \d.*", found[0][1])
        assert [good for good, _ in found] == [True, True, True, None]
        assert alerts.get("/api/v2/silences") == []
        mistaken = [AlertmanagerService(url=metrics.url), PrometheusService(url=alerts.url)]
        assert all([bad(await looked(service, needs())) for service in mistaken])


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_a_folder_and_each_executable_that_is_used_must_be_nobody_else_s_to_write(tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir(mode=0o755)
    run = ("command.run", {"service": "it", "command": "good.sh", "probe": {"command": "look.sh"}})
    (folder / "good.sh").write_text("#!/bin/sh\nexit 1\n")
    (folder / "good.sh").chmod(0o755)
    service = CommandService(folder=str(folder))
    (says,) = bad(await looked(service, needs(run)))
    assert "look.sh: nothing was run: No such file or directory" in says
    (folder / "look.sh").write_text("#!/bin/sh\n")
    (folder / "look.sh").chmod(0o777)
    (says,) = bad(await looked(service, needs(run)))
    assert "can be written by others" in says
    (folder / "look.sh").chmod(0o755)
    assert (await looked(service, needs(run)))[1] == (True, "every executable that the runbooks use can be run")
    folder.chmod(0o777)
    assert "can be written by others" in bad(await looked(service, needs()))[0]
    assert "check the service's `folder`" in bad(await looked(CommandService(folder="/no/such"), needs()))[0]


# --- all of them ------------------------------------------------------------------------------------------------------


async def test_one_that_never_answers_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkups, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        found = await looked(RedisService(url=url, username="responder", password=SECRET), needs())
    assert found == [(False, "no answer within 0.2 s; check that it runs, and the network between")]


async def test_a_mistake_of_ours_is_told_without_what_it_held() -> None:
    class Broken:
        service = HttpService(url="http://127.0.0.1:1")
        name = "it"

        async def send(self, *_: Any) -> Any:
            raise ValueError(PASSWORD)

    broken: Any = Broken()
    assert await looked_over("it", broken, needs(), wall_clock) == [
        Finding("service it", good=False, says="ValueError: a mistake of the responder; report it")
    ]
    assert SKEW == 5 * SECOND
