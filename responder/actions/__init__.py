"""What a step can do, by the name that runbooks use. To add an action: write its class, and its line in this table."""

from __future__ import annotations

from collections.abc import Mapping

from responder.actions.http import HttpRequest
from responder.actions.parameter import ParameterReduce
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
from responder.actions.redis_failover import RedisFailover
from responder.actions.redis_publish import RedisPublish
from responder.actions.redis_sentinel import RedisSentinel
from responder.actions.redis_write_test import RedisWriteTest
from responder.actions.wait import Wait
from responder.contracts import Action

ACTIONS: Mapping[str, type[Action]] = {
    "http.request": HttpRequest,
    "parameter.reduce": ParameterReduce,
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
    "redis.write_test": RedisWriteTest,
    "redis.xrevrange": RedisXrevrange,
    "wait": Wait,
}
