"""The way to a fake cluster without a network: what the wire raises is raised, time is nobody's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from responder.kubernetes_calls import KubernetesCall
from responder.kubernetes_connections import Reply
from responder.last_look import Clear
from tests.fakes.kubernetes import Cluster


def _nothing(_call: KubernetesCall) -> None:
    return


@dataclass(frozen=True)
class ClusterWay:
    """A Wire. `changed` hears every change that was asked for."""

    cluster: Cluster
    changed: Callable[[KubernetesCall], None] = _nothing

    async def ask(self, call: KubernetesCall, patience: float, clear: Clear) -> Reply:
        """See Wire."""
        await clear()
        token = self.cluster.token
        headers = {"authorization": f"Bearer {token}", "content-type": call.patch.value if call.patch else ""}
        raw = b"" if call.sent is None else json.dumps(call.sent).encode()
        path = call.resource.path(call.namespace, call.name)
        answer = self.cluster.handle(call.method, path, call.query, headers, raw)
        assert not self.cluster.unexpected, f"nobody foresaw {self.cluster.unexpected}"
        if call.changes:
            self.changed(call)
        if answer.fault is not None:
            raise aiohttp.SocketTimeoutError("lost")
        return Reply(answer.status, answer.headers, answer.content, secret=token)
