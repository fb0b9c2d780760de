"""What a step can do, by the name that runbooks use. To add an action: write its class, and its line in this table."""

from __future__ import annotations

from collections.abc import Mapping

from responder.actions.alertmanager import AlertmanagerSilence
from responder.actions.command import CommandRun
from responder.actions.http import HttpRequest
from responder.actions.parameter import ParameterReduce
from responder.actions.postgres import (
    PostgresLongQueries,
    PostgresPoolUsage,
    PostgresReplicationStatus,
    PostgresTopStatements,
)
from responder.actions.postgres_changes import PostgresPromote, PostgresTerminateQueries
from responder.actions.prometheus import PrometheusQuery
from responder.actions.redis import (
    RedisClientList,
    RedisDiagnose,
    RedisGet,
    RedisHgetall,
    RedisInfo,
    RedisLatency,
    RedisSlowlog,
    RedisXrevrange,
)
from responder.actions.wait import Wait
from responder.contracts import Action

ACTIONS: Mapping[str, type[Action]] = {
    "alertmanager.silence": AlertmanagerSilence,
    "command.run": CommandRun,
    "http.request": HttpRequest,
    "parameter.reduce": ParameterReduce,
    "postgres.long_queries": PostgresLongQueries,
    "postgres.pool_usage": PostgresPoolUsage,
    "postgres.promote": PostgresPromote,
    "postgres.replication_status": PostgresReplicationStatus,
    "postgres.terminate_queries": PostgresTerminateQueries,
    "postgres.top_statements": PostgresTopStatements,
    "prometheus.query": PrometheusQuery,
    "redis.client_list": RedisClientList,
    "redis.diagnose": RedisDiagnose,
    "redis.get": RedisGet,
    "redis.hgetall": RedisHgetall,
    "redis.info": RedisInfo,
    "redis.latency": RedisLatency,
    "redis.slowlog": RedisSlowlog,
    "redis.xrevrange": RedisXrevrange,
    "wait": Wait,
}
