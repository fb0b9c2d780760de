"""`responder rbac`: what it prints is applied to real servers; then the runbook's actions work, and before they do not.

Of Redis every single command is taken away again, to see that none is too many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml

from responder.actions import ACTIONS
from responder.app import CATALOGUE
from responder.cli import run
from responder.config import Config, load_config
from responder.connections import Connections, open_transport
from responder.errors import Permanent, Temporary
from responder.loader import load_rules
from responder.perform import Ended, Performer
from responder.recorded import Outcome
from responder.runbook import Runbook, Step
from responder.sources import Folders, read_sources, shipped_rules
from responder.timing import SECOND
from responder.wall_clock import wall_clock
from tests.servers import Postgres, Redis, Sentinel

PASSWORD = "s3cret-password-of-a-test"
ENVIRON = {"PASSWORD": PASSWORD, "TOKEN": "t"}
SECRET = "{env: PASSWORD}"


@dataclass
class Installed:
    """A configuration and one runbook on disk, and what the command says about them."""

    path: Path
    capsys: pytest.CaptureFixture[str]

    def printed(self, *words: str) -> str:
        self.capsys.readouterr()
        status = run(["rbac", "--config", str(self.path), *words])
        seen = self.capsys.readouterr()
        assert status == 0, seen.out + seen.err
        return seen.out

    @property
    def config(self) -> Config:
        return load_config(self.path, CATALOGUE, ENVIRON)

    @property
    def runbook(self) -> Runbook:
        config = self.config
        sources = read_sources(config.rules, Folders(shipped_rules(), config.folder))
        return load_rules(sources, CATALOGUE, config).rules.runbooks["all-of-it"]

    async def done(self) -> dict[str, Ended]:
        """Every reading and step of the runbook, done as the responder does it; what is not even prepared, too."""
        connections = Connections(self.config.services, open_transport)
        performer = Performer(ACTIONS, connections.connect, {}, wall_clock, _no_wait)
        ended = {}
        uses = [(one.action, one.with_) for one in self.runbook.evidence]
        uses += [(one.action or "", one.with_) for one in self.runbook.steps]
        for number, (action, with_) in enumerate(uses):
            made = {"id": "it", "action": action, "with": with_, "timeout": "10s"}
            ended[f"{action} {number}"] = await self._one(performer, Step.model_validate(made))
        return ended

    async def _one(self, performer: Performer, step: Step) -> Ended:
        assert step.action is not None
        try:
            plan = await performer.prepare(self.runbook, step, {})
        except (Permanent, Temporary) as error:
            return Ended(Outcome.PERMANENT, str(error))
        return await performer.act(step.action, plan, "key", 10 * SECOND)


async def _no_wait(_seconds: float) -> None:
    raise AssertionError("nothing here waits")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Writes a configuration with these services, and a runbook with these readings and steps."""
    monkeypatch.chdir(tmp_path)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)

    def write(services: str, evidence: list[Any], steps: list[Any] | None = None) -> Installed:
        (tmp_path / "mine").mkdir()
        whole = {
            "runbook": "all-of-it",
            "title": "All of it",
            "match": "Slow",
            "target": "db",
            "evidence": evidence,
            "steps": steps or [],
        }
        (tmp_path / "mine" / "all-of-it.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
        path = tmp_path / "responder.yaml"
        path.write_text(f"rules: [./mine]\nservices:\n{services}")
        return Installed(path, capsys)

    return write


def use(action: str, **with_: Any) -> dict[str, Any]:
    return {"title": action, "action": action, "with": with_}


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture
def database() -> Iterator[Postgres]:
    with Postgres() as server:
        server.execute('CREATE ROLE "the responder\'s" LOGIN')
        server.execute("CREATE ROLE reporting LOGIN")
        yield server


async def test_the_grants_are_all_that_the_runbook_needs_of_postgresql(database: Postgres, install: Any) -> None:
    where = f"{{kind: postgres, url: 'postgresql://{database.address}/postgres', username: the responder's, tls: off}}"
    end = {"service": "db", "users": ["reporting"], "spared": ["order-entry"], "older_than": "1s"}
    installed = install(
        f"  db: {where}\n",
        [use("postgres.long_queries", service="db"), use("postgres.pool_usage", service="db")],
        [{"id": "end", "action": "postgres.terminate_queries", "with": end, "timeout": "20s"}],
    )
    assert {one.outcome for one in (await installed.done()).values()} == {Outcome.PERMANENT}
    printed = installed.printed("--postgres")
    assert "pg_promote" not in printed, "no action that is used promotes"
    with psycopg.connect(database.url(), autocommit=True) as admin:
        admin.execute(printed.encode())
    for name, ended in (await installed.done()).items():
        assert ended.outcome is Outcome.OK, (name, ended.detail)


# --- Redis ------------------------------------------------------------------------------------------------------------

READINGS = [
    use("redis.get", service="cache", key="var_pct:BTC-USD"),
    use("redis.hgetall", service="cache", key="limits"),
    use("redis.hgetall", service="cache", key="limits", fields=["a"]),
    use("redis.xrevrange", service="cache", stream="model.switch.log"),
    use("redis.info", service="cache"),
    use("redis.slowlog", service="cache"),
    use("redis.latency", service="cache"),
    use("redis.client_list", service="cache"),
]
CHANGES = [
    {"id": "write", "action": "redis.write_test", "with": {"service": "cache"}},
    {
        "id": "say",
        "action": "redis.publish",
        "with": {"service": "cache", "channel": "param.reload", "message": "all"},
    },
]


@pytest.fixture
def cache() -> Iterator[Redis]:
    with Redis() as server, server.client() as admin:
        admin.select(3)
        admin.set("var_pct:BTC-USD", "2.1")
        admin.hset("limits", mapping={"a": "1"})
        admin.xadd("model.switch.log", {"from": "a"})
        yield server


async def test_the_user_may_do_all_that_the_runbook_does_and_every_command_is_needed(
    cache: Redis, install: Any
) -> None:
    where = f"{{kind: redis, url: 'redis://{cache.address}/3', username: responder, password: {SECRET}}}"
    installed = install(f"  cache: {where}\n", READINGS, CHANGES)
    assert {one.outcome for one in (await installed.done()).values()} == {Outcome.PERMANENT}
    (line,) = [one for one in installed.printed("--redis").splitlines() if one.startswith("ACL ")]
    commands = [word for word in line.split() if word.startswith("+")]
    assert len(commands) == 13
    with cache.client() as admin:
        assert admin.execute_command(*line.replace("PASSWORD", PASSWORD).split()) in (True, b"OK", "OK")
        for name, ended in (await installed.done()).items():
            assert ended.outcome is Outcome.OK, (name, ended.detail)
        for command in commands:
            admin.execute_command(*line.replace("PASSWORD", PASSWORD).replace(f" {command}", "", 1).split())
            failed = [name for name, ended in (await installed.done()).items() if ended.outcome is not Outcome.OK]
            assert failed, f"{command} is too many"


def test_the_user_may_do_nothing_else(cache: Redis, install: Any) -> None:
    where = f"{{kind: redis, url: 'redis://{cache.address}/3', username: responder, password: {SECRET}}}"
    installed = install(f"  cache: {where}\n", READINGS, CHANGES)
    (user,) = json.loads(installed.printed("--json", "--redis"))["redis"]
    with cache.client() as admin:
        admin.execute_command(*user["line"].replace("PASSWORD", PASSWORD).split())
    outside: list[tuple[str, ...]] = [
        ("GET", "var_pct:BTC-USD"), ("GETRANGE", "var_pct:ETH-USD", "0", "1"), ("SET", "limits2", "1"),
        ("PUBLISH", "another", "x"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("SLOWLOG", "RESET"),
        ("ACL", "SETUSER", "responder", "+@all"), ("EVAL", "return 1", "0"), ("KEYS", "*"),
    ]  # fmt: skip
    with redis.Redis(port=cache.port, username="responder", password=PASSWORD) as ours:
        for words in outside:
            with pytest.raises(redis.exceptions.NoPermissionError):
                ours.execute_command(*words)


async def test_sentinels_have_a_user_of_their_own(install: Any) -> None:
    with Redis() as master, Sentinel(master) as sentinel:
        fields = f"master: mymaster, username: responder, password: {SECRET}"
        own = f"sentinel_username: watcher, sentinel_password: {SECRET}"
        where = f"{{kind: redis_sentinel, sentinels: ['{sentinel.address}'], {fields}, {own}}}"
        installed = install(
            f"  cache: {where}\n", [use("redis.sentinel", service="cache"), use("redis.info", service="cache")]
        )
        assert not any(one.outcome is Outcome.OK for one in (await installed.done()).values())
        lines = [one for one in installed.printed("--redis").splitlines() if one.startswith("ACL ")]
        assert [line.split()[2] for line in lines] == ["responder", "watcher"]
        for server, line in zip((master, sentinel), lines, strict=True):
            with server.client() as admin:
                admin.execute_command(*line.replace("PASSWORD", PASSWORD).split())
        for name, ended in (await installed.done()).items():
            assert ended.outcome is Outcome.OK, (name, ended.detail)


async def test_what_doctor_would_like_to_have_is_optional_and_works(cache: Redis, install: Any) -> None:
    where = f"{{kind: redis, url: 'redis://{cache.address}/3', username: responder, password: {SECRET}}}"
    printed = install(f"  cache: {where}\n", READINGS, CHANGES).printed("--redis").splitlines()
    optional = [line.removeprefix("# ") for line in printed if line.startswith("# ACL ")]
    assert optional == ["ACL SETUSER responder +time", "ACL SETUSER responder +acl|dryrun"]
    (needed,) = [line for line in printed if line.startswith("ACL ")]
    with cache.client() as admin, redis.Redis(port=cache.port, username="responder", password=PASSWORD) as ours:
        for line in (needed.replace("PASSWORD", PASSWORD), *optional):
            admin.execute_command(*line.split())
        assert ours.time()
        assert ours.acl_dryrun("responder", "SET", "responder:write-test", "1")


def test_who_names_no_user_is_told_to_name_one(install: Any) -> None:
    """`default` is everybody's: its rights are not taken away."""
    installed = install("  cache: {kind: redis, url: 'redis://cache:6379'}\n", READINGS)
    printed = installed.printed("--redis")
    assert "it names no user: add `username: responder` with its password to the service" in printed
    assert "SETUSER default" not in printed


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def test_the_objects_of_kubernetes_are_yaml_that_can_be_applied(install: Any) -> None:
    one = {"service": "cluster", "namespace": "trading", "workload": "deployment/on"}
    installed = install(
        "  cluster: {kind: kubernetes, url: 'https://k', token: {env: TOKEN}, namespaces: [trading, '123']}\n",
        [use("kubernetes.pods", **one), use("kubernetes.events", service="cluster", namespace="123")],
    )
    objects = list(yaml.safe_load_all(installed.printed("--kubernetes", "--subject", "system:serviceaccount:ops:bot")))
    assert [(each["kind"], each["metadata"]["namespace"]) for each in objects] == [
        (kind, namespace) for namespace in ("123", "trading") for kind in ("Role", "RoleBinding")
    ]
    assert objects[2]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["on"], "verbs": ["get"]},
    ]
    assert objects[3]["roleRef"]["name"] == objects[2]["metadata"]["name"]
    assert objects[3]["subjects"] == [{"kind": "ServiceAccount", "name": "bot", "namespace": "ops"}]
    (_, other, *_) = yaml.safe_load_all(installed.printed("--kubernetes", "--subject", "jane: doe"))
    assert other["subjects"][0]["name"] == "jane: doe"


def test_nothing_is_needed_where_nothing_is_used(install: Any) -> None:
    installed = install("  risk: {kind: http, url: 'https://risk'}\n", [])
    assert installed.printed().startswith("# the loaded runbooks use no cluster")
    assert json.loads(installed.printed("--json")) == {"kubernetes": [], "postgres": [], "redis": []}
