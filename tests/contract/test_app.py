"""The wired program on a real SQLite file: start, reload, broken rules, a store that is gone, and a second start."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from responder.app import CATALOGUE, App, build
from responder.config import load_config
from responder.contracts import Message
from responder.errors import BadConfig, BadRules, StoreUnavailable
from responder.notifiers.console import Console

RUNBOOK = """\
runbook: look
title: Somebody should look
match: [Strange]
target: desk
steps:
  - {id: look, manual: Look at the desk}
"""


def write(folder: Path, runbook: str = RUNBOOK, more: str = "") -> Path:
    """A configuration with one own runbook."""
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "rules" / "look.yaml").write_text(runbook)
    path = folder / "responder.yaml"
    path.write_text(f"listen: 127.0.0.1:0\nstore: sqlite:///{folder}/responder.db\nrules: [./rules]\n{more}")
    return path


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[App]:
    """The program, working but for the listening socket."""
    app = await build(load_config(path, CATALOGUE, {}), {})
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


def client(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app.web), base_url="http://responder")


def notification(name: str) -> bytes:
    alert = {
        "status": "firing",
        "labels": {"alertname": name, "severity": "warning"},
        "startsAt": "2026-11-20T10:00:00Z",
    }
    return json.dumps({"version": "4", "receiver": "r", "groupKey": "g", "alerts": [alert]}).encode()


async def test_an_alert_is_taken_in_and_its_runbook_begins(tmp_path: Path) -> None:
    async with running(write(tmp_path)) as app, client(app) as web:
        assert (await web.post("/webhook/alertmanager", content=notification("Strange"))).status_code == 200
        found = (await web.get("/api/v1/incidents")).json()["incidents"]
        assert [(i["runbook"], i["target"]) for i in found] == [("look", "desk")]
        assert (await web.get("/-/ready")).status_code == 200


async def test_a_reload_swaps_everything_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with running(path) as app:
        before = app.desk.shelf.current.hash
        write(tmp_path, RUNBOOK.replace("manual:", "manaul:"))
        with pytest.raises(BadRules, match="did you mean 'manual'"):
            await app.reload()
        assert app.desk.shelf.current.hash == before
        write(tmp_path, RUNBOOK.replace("target: desk", "target: table"))
        assert "changed: look" in await app.reload()
        assert app.desk.shelf.current.runbooks["look"].target == "table"
        assert app.desk.shelf.rules(before) is not None, "runs under way keep the rules that they began with"


async def test_what_cannot_change_while_running_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with running(path) as app:
        path.write_text(path.read_text().replace("127.0.0.1:0", "127.0.0.1:9098"))
        with pytest.raises(BadConfig, match="listen cannot change while running"):
            await app.reload()


async def test_a_start_with_broken_rules_goes_on_with_the_last_good_ones_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with running(path) as app:
        good = app.desk.shelf.current.hash
    write(tmp_path, RUNBOOK.replace("title:", "titel:"))
    async with running(path) as app, client(app) as web:
        assert app.desk.shelf.current.hash == good
        told = (await web.get("/api/v1/incidents")).json()["incidents"]
        assert [i["target"] for i in told] == ["responder:rules"]
        assert "config_last_reload_successful 0.0" in (await web.get("/metrics")).text


async def test_the_first_start_with_broken_rules_is_refused_with_the_place(tmp_path: Path) -> None:
    path = write(tmp_path, RUNBOOK.replace("title:", "titel:"))
    with pytest.raises(BadRules, match=r"rules/look\.yaml:2:1.*unknown key"):
        await build(load_config(path, CATALOGUE, {}), {})


async def test_a_second_process_on_the_same_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with running(path):
        with pytest.raises(BadConfig, match="is in use by process"):
            await build(load_config(path, CATALOGUE, {}), {})


class Pager(Console):
    """A pager that keeps what it was asked to send."""

    pages = True
    sent: list[Message] = []  # noqa: RUF012  one list for the test's one pager

    async def send(self, message: Message) -> str:
        self.sent.append(message)
        return ""


async def test_a_store_that_is_gone_pages_once_from_memory_and_resolves_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(write(tmp_path)) as app:
        pager = Pager(kind="console")
        pager.sent.clear()
        app.emergency.pagers = {"oncall": pager}

        async def gone() -> int:
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as broken:
            broken.setattr(app.store, "open_incidents", gone)
            for _ in range(3):
                await app._look_at_store(app.store.now())
        app.emergency._tried.clear()
        await app._look_at_store(app.store.now())
        assert [(m.kind, m.key) for m in pager.sent] == [
            ("page", "responder/responder/store-down"),
            ("resolve", "responder/responder/store-down"),
        ]


async def test_an_outage_ends_with_a_write_that_succeeds_not_with_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(write(tmp_path)) as app:
        pager = Pager(kind="console")
        pager.sent.clear()
        app.emergency.pagers = {"oncall": pager}

        async def full(operation: object) -> None:
            raise StoreUnavailable("disk full")

        with monkeypatch.context() as broken:
            broken.setattr(app.store, "submit", full)
            app._store_is_down("disk full")
            for _ in range(3):
                await app._look_at_store(app.store.now())
        assert [m.kind for m in pager.sent] == ["page"]


async def test_a_restart_finds_what_was_open(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with running(path) as app, client(app) as web:
        await web.post("/webhook/alertmanager", content=notification("Strange"))
    async with running(path) as app, client(app) as web:
        again = await web.post("/webhook/alertmanager", content=notification("Strange"))
        assert again.json()["repeated"] == 1
        assert len((await web.get("/api/v1/incidents")).json()["incidents"]) == 1
