"""Runbooks that change nothing: what they read is told, people get the list, and are paged when it does not help."""

from __future__ import annotations

import pytest

from tests.acceptance.catalogues import alert, loaded
from tests.acceptance.stage import playing

LISTS = [
    ("nse-equities", "PostgresReplicationLag", "postgres-replication", "Promote nothing meanwhile"),
    ("nse-equities", "PostgresReplicaDown", "postgres-replication", "Promote nothing meanwhile"),
    ("nse-equities", "RedisReplicaDown", "redis-redundancy", "Start no failover meanwhile"),
    ("nse-equities", "RedisSentinelQuorumLost", "redis-redundancy", "Start no failover meanwhile"),
    ("nse-equities", "RedisReplicationBroken", "redis-redundancy", "Start no failover meanwhile"),
    ("trading-service", "SlowDatabaseQueries", "slow-database-queries", "CREATE INDEX CONCURRENTLY"),
]


@pytest.mark.parametrize(("platform", "name", "runbook", "said"), LISTS, ids=[name for _, name, _, _ in LISTS])
def test_people_get_the_list_and_nothing_is_changed(platform: str, name: str, runbook: str, said: str) -> None:
    with playing(loaded(platform)) as stage:
        stage.fires(alert(platform, name, "high"))
        stage.at("20:00")
        assert stage.incident.runbook == runbook
        assert stage.did == []
        assert any(said in line for line in stage.thread), stage.thread
        titles = [one.title for one in loaded(platform)[0].runbooks[runbook].evidence]
        read = stage.last_run.evidence or ()
        assert [one.title for one in read] == titles
        assert any(one.error is None for one in read), read
        assert stage.pages, "nobody was woken, though nothing is fixed"
