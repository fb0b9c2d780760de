"""What a step can do, by the name that runbooks use. To add an action: write its class, and its line in this table."""

from __future__ import annotations

from collections.abc import Mapping

from responder.actions.alertmanager import AlertmanagerSilence
from responder.actions.command import CommandRun
from responder.actions.http import HttpRequest
from responder.actions.kubernetes_pods import DeletePod, Evict
from responder.actions.kubernetes_readers import Events, Logs, Pods, Workload
from responder.actions.kubernetes_rollout import RolloutRestart, RolloutStatus
from responder.actions.kubernetes_scale import Scale
from responder.actions.kubernetes_settings import ConfigMapPatch, SetEnv
from responder.actions.kubernetes_undo import RolloutUndo
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
    RedisTimeseriesRange,
    RedisXrevrange,
)
from responder.actions.redis_failover import RedisFailover
from responder.actions.redis_publish import RedisPublish
from responder.actions.redis_sentinel import RedisSentinel
from responder.actions.redis_write_test import RedisWriteTest
from responder.actions.wait import Wait
from responder.contracts import Action

ACTIONS: Mapping[str, type[Action]] = {
    "alertmanager.silence": AlertmanagerSilence,
    "command.run": CommandRun,
    "http.request": HttpRequest,
    "kubernetes.configmap_patch": ConfigMapPatch,
    "kubernetes.delete_pod": DeletePod,
    "kubernetes.events": Events,
    "kubernetes.evict": Evict,
    "kubernetes.logs": Logs,
    "kubernetes.pods": Pods,
    "kubernetes.rollout_restart": RolloutRestart,
    "kubernetes.rollout_status": RolloutStatus,
    "kubernetes.rollout_undo": RolloutUndo,
    "kubernetes.scale": Scale,
    "kubernetes.set_env": SetEnv,
    "kubernetes.workload": Workload,
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
    "redis.failover": RedisFailover,
    "redis.get": RedisGet,
    "redis.hgetall": RedisHgetall,
    "redis.info": RedisInfo,
    "redis.latency": RedisLatency,
    "redis.publish": RedisPublish,
    "redis.sentinel": RedisSentinel,
    "redis.slowlog": RedisSlowlog,
    "redis.timeseries_range": RedisTimeseriesRange,
    "redis.write_test": RedisWriteTest,
    "redis.xrevrange": RedisXrevrange,
    "wait": Wait,
}
