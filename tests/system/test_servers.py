"""The test servers themselves: each starts, answers, and comes back on the same port after an outage."""

import httpx
import psycopg
import pytest
import redis

from tests.servers import Alertmanager, Postgres, Prometheus, Redis, Sentinel, Server, ServerFailed

RULES = """
groups:
  - name: test
    interval: 100ms
    rules:
      - {alert: Always, expr: vector(1), labels: {severity: critical}}
"""
PROMETHEUS = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
"""
ALERTMANAGER = """
route: {receiver: nobody}
receivers: [{name: nobody}]
"""


def assert_gone(server: Server) -> None:
    with pytest.raises(ServerFailed, match="not running"):
        _ = server.pid
    assert not server.folder.exists()


def test_prometheus_evaluates_rules_and_survives_an_outage() -> None:
    with Prometheus(PROMETHEUS, {"rules.yml": RULES}) as server:
        assert server.query("vector(2)")[0]["value"][1] == "2"
        assert server.get("/api/v1/rules")["data"]["groups"][0]["rules"][0]["name"] == "Always"

        server.kill()
        with pytest.raises(httpx.TransportError):
            server.query("vector(2)")

        server.start()
        assert server.query("vector(3)")[0]["value"][1] == "3"
    assert_gone(server)


def test_prometheus_refuses_a_bad_reload_and_keeps_running() -> None:
    with Prometheus(PROMETHEUS, {"rules.yml": RULES}) as server:
        server.configure("no: such key")
        with pytest.raises(httpx.HTTPStatusError):
            server.reload()
        assert server.query("vector(1)")


def test_a_server_that_cannot_start_shows_its_log() -> None:
    server = Prometheus("no: such key")
    with pytest.raises(ServerFailed, match="field no not found"), server:
        pass
    assert_gone(server)


def test_two_alertmanagers_form_a_cluster() -> None:
    with (
        Alertmanager(ALERTMANAGER, cluster=True) as first,
        Alertmanager(ALERTMANAGER, peers=[first.cluster_address]) as second,
    ):
        first.post_alerts([{"labels": {"alertname": "VaRBreach"}}])
        assert [alert["labels"] for alert in first.alerts()] == [{"alertname": "VaRBreach"}]
        assert len(second.get("/api/v2/status")["cluster"]["peers"]) == 2
    assert_gone(first)


def test_sentinel_knows_its_master_and_replica_follows() -> None:
    with Redis() as master, Redis(replica_of=master) as replica, Sentinel(master) as sentinel:
        with master.client() as client:
            assert client.set("key", "value")
        with replica.client() as client:
            assert client.info("replication")["master_port"] == master.port
        with sentinel.client() as client:
            assert client.sentinel_master("mymaster")["port"] == master.port

        master.kill()
        with pytest.raises(redis.ConnectionError), master.client() as client:
            client.ping()


def test_postgres_gives_every_caller_a_database_of_its_own(postgres: Postgres, database: str) -> None:
    def build(url: str) -> None:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE facts (fact text)")

    copy = postgres.database(postgres.template("with_facts", build))
    with psycopg.connect(copy) as connection:
        connection.execute("INSERT INTO facts VALUES ('kept')")
        assert connection.execute("SELECT fact FROM facts").fetchall() == [("kept",)]
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regclass('facts')").fetchone() == (None,)


def test_postgres_keeps_what_was_committed_over_a_kill() -> None:
    with Postgres(durable=True) as server:
        url = server.database()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE facts AS SELECT 'committed' AS fact")
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        server.start()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT fact FROM facts").fetchall() == [("committed",)]
    assert_gone(server)


async def test_async_tests_are_awaited(request: pytest.FixtureRequest) -> None:
    assert request.node.name == "test_async_tests_are_awaited"
