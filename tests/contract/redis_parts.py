"""The user whom the Redis readers come as."""

from __future__ import annotations

from typing import Any

from responder.contracts import Secret
from responder.runbook import Runbook
from responder.services import RedisService
from tests.servers import Redis

PASSWORD = "s3cret-redis-password"
RUNBOOK = Runbook(runbook="redis-latency", title="Redis is slow", target="redis")


def user(server: Redis, password: str = PASSWORD, **fields: Any) -> RedisService:
    secret = Secret("env REDIS_PASSWORD", lambda: password)
    return RedisService.model_validate({"url": server.url, "username": "responder", "password": secret, **fields})
