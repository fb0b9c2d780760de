"""A bad rules file is merged and the pod is moved: on the new node the last good set acts, from the store they share.

The wired program in real time on real stores: what is read at a start is what is tested.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from responder.app import CATALOGUE, App, build
from responder.config import load_config
from tests.fakes.server import FakeServer

GOOD = """\
runbook: cut
title: Too much risk
match: TooMuchRisk
target: orders
mode: auto
steps:
  - {id: call, action: http.request, with: {service: risk-api, method: POST, path: /api/orders}}
"""
BAD = GOOD.replace("target: orders", "target: orders\nstpes: []")
MENDED = GOOD.replace("path: /api/orders", "path: /api/orders-mended")


class RiskApi(FakeServer):
    """Notes what it is told to do."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.called = asyncio.Event()
        super().__init__([Route("/api/{what}", self._do, methods=["POST"])])

    async def _do(self, request: Request) -> JSONResponse:
        self.done.append(request.url.path)
        self.called.set()
        return JSONResponse({"ok": True})


def node(folder: Path, store: str, api: str, text: str) -> Path:
    """A node with its own checkout of the rules; the store is elsewhere."""
    (folder / "rules").mkdir(parents=True, exist_ok=True)
    (folder / "rules" / "cut.yaml").write_text(text)
    path = folder / "responder.yaml"
    path.write_text(
        f"listen: 127.0.0.1:0\nstore: {store}\nrules: [./rules]\nmode: auto\n"
        f"services:\n  risk-api: {{kind: http, url: '{api}'}}\n"
    )
    return path


@asynccontextmanager
async def pod(path: Path) -> AsyncIterator[tuple[App, httpx.AsyncClient]]:
    app = await build(load_config(path, CATALOGUE, {}), {})
    await app.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app.web), base_url="http://responder") as web:
            yield app, web
    finally:
        await app.stop()


async def fires(web: httpx.AsyncClient, instance: str) -> None:
    labels = {"alertname": "TooMuchRisk", "severity": "critical", "instance": instance}
    alert = {"status": "firing", "labels": labels, "startsAt": "2026-11-20T10:00:00Z"}
    body = {"version": "4", "receiver": "r", "groupKey": "g", "alerts": [alert]}
    answer = await web.post("/webhook/alertmanager", content=json.dumps(body).encode())
    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["sqlite on a volume", "postgresql"])
async def test_a_bad_file_is_merged_and_the_pod_is_moved(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "volume").mkdir()
    sqlite = f"sqlite:///{tmp_path}/volume/responder.db"
    store = request.getfixturevalue("database") if kind == "postgresql" else sqlite
    async with RiskApi() as api:
        async with pod(node(tmp_path / "one", store, api.url, GOOD)) as (app, _):
            good = app.desk.shelf.current.hash
        moved = node(tmp_path / "two", store, api.url, BAD)
        async with pod(moved) as (app, web):
            assert app.desk.shelf.current.hash == good
            assert (await web.get("/-/ready")).status_code == 200
            await fires(web, "a")
            async with asyncio.timeout(60):
                await api.called.wait()
            assert api.done == ["/api/orders"]
            told = (await web.get("/api/v1/incidents")).json()["incidents"]
            assert {one["target"] for one in told} == {"responder:rules", "orders"}
            mine = next(one["id"] for one in told if one["target"] == "orders")
            story = (await web.get(f"/api/v1/incidents/{mine}")).json()
            said = [event["fact"]["problem"] for event in story["events"] if event["kind"] == "problem_found"]
            assert len(said) == 1
            assert "could not be loaded, the last good cut answers: rules/cut.yaml:" in said[0]
            assert "did you mean 'steps'" in said[0] or "unknown key" in said[0]
            node(tmp_path / "two", store, api.url, MENDED)
            assert "changed: cut" in await app.reload()
            assert app.desk.shelf.current.hash != good
        node(tmp_path / "three", store, api.url, BAD)
        async with pod(tmp_path / "three" / "responder.yaml") as (app, _):
            step = app.desk.shelf.current.runbooks["cut"].steps[0]
            assert step.with_["path"] == "/api/orders-mended", "the last good set is the latest good one"
