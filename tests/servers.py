"""Real servers for the tests, each a context manager: a loopback port, a folder and a log of its own, gone at its end.

They die with this process, and sleep while polling for readiness, which tests themselves never do. They share no state
between tests (start one, or a database, for each). A missing program raises `tests.provision.Missing`.
"""

import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx
import psycopg
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.provision import SERVERS, find

READY_WITHIN: Final = 30.0  # seconds; generous, for a busy machine
STOPS_WITHIN: Final = 10.0  # seconds from the polite signal to SIGKILL
POLL: Final = 0.02  # seconds
# Below the range of outgoing connections, so that none takes a port between a kill and a restart.
PORTS: Final = range(15_000, 32_000)
UNPRIVILEGED: Final = "nobody"


class ServerFailed(RuntimeError):
    """A server did not get ready; the message ends with the tail of its log."""


def free_port() -> int:
    """A loopback TCP port that nothing listens on at present."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailed(f"no free port among 100 tried in {PORTS}; is another test run leaving servers behind?")


def unprivileged() -> dict[str, Any]:
    """`subprocess` arguments for what refuses root; where we are not root, as ourselves."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam(UNPRIVILEGED)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Server(ABC):
    """One process. Subclasses name the program, write its configuration and know when it is ready."""

    program: str
    polite: signal.Signals = signal.SIGTERM
    brutal: signal.Signals = signal.SIGKILL

    def __init__(self) -> None:
        self.binary = self._found()
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"responder-{self.program}-"))
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; raises `ServerFailed` when it is not running."""
        if self._process is None:
            raise ServerFailed(f"{self.program} is not running; call start() first")
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Starts it on its port and folder, and returns when it answers. Raises `ServerFailed`."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_dies_with_us(), *self._command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._identity(),
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends it politely, then by force. Nothing when it does not run."""
        self._end(self.polite)

    def kill(self) -> None:
        """Ends it as an outage does: at once, nothing flushed."""
        self._end(self.brutal)

    def restart(self) -> None:
        """Starts it again on the same port and the same data."""
        self.stop()
        self.start()

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _is_ready(self) -> bool:
        """May raise OSError and the client's own errors while the server comes up."""

    def _found(self) -> Path:
        """The program. Raises `tests.provision.Missing`."""
        return find(self.program)

    def _identity(self) -> dict[str, Any]:
        """`subprocess` arguments that say as whom it runs."""
        return {}

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise ServerFailed(f"{self.program} ended while starting:\n{self._log_tail()}")
            try:
                if self._is_ready():
                    return
            except (OSError, httpx.HTTPError, psycopg.Error, redis.RedisError):
                pass  # not listening yet
            time.sleep(POLL)
        said = f"{self.program} on {self.address} was not ready in {READY_WITHIN:.0f} s"
        raise ServerFailed(f"{said}:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "(no log)"

    def _end(self, first: signal.Signals) -> None:
        if (process := self._process) is None:
            return
        self._process = None
        process.send_signal(first)
        try:
            process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _dies_with_us() -> list[str]:
    """A prefix by which the kernel ends the server when the tests are killed; without util-linux `stop` must do."""
    return [found, "--pdeathsig", "TERM"] if (found := shutil.which("setpriv")) else []


class _HttpServer(Server):
    @property
    def url(self) -> str:
        """Its base address, without a slash at the end."""
        return f"http://{self.address}"

    def get(self, path: str, **parameters: str) -> Any:
        """The JSON answer to GET `path`. Raises `httpx.HTTPStatusError`."""
        return httpx.get(f"{self.url}{path}", params=parameters).raise_for_status().json()

    def reload(self) -> None:
        """Has it read its files again. Raises `httpx.HTTPStatusError` when it refuses them."""
        httpx.post(f"{self.url}/-/reload").raise_for_status()

    def _is_ready(self) -> bool:
        return httpx.get(f"{self.url}/-/ready", timeout=1).status_code == httpx.codes.OK


class Prometheus(_HttpServer):
    """`config` is prometheus.yml; `files` are written beside it (`rule_files: [rules.yml]`)."""

    program = "prometheus"

    def __init__(self, config: str, files: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.configure(config, files)

    def configure(self, config: str, files: Mapping[str, str] | None = None) -> None:
        """Writes the files anew; `reload` makes a running one read them."""
        for name, text in {"prometheus.yml": config, **(files or {})}.items():
            (self.folder / name).write_text(text)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of `expression`: `[{"metric": {…}, "value": [seconds, "1"]}, …]`."""
        result: list[dict[str, Any]] = self.get("/api/v1/query", query=expression)["data"]["result"]
        return result

    def _command(self) -> list[str]:
        return [
            str(self.binary),
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--web.enable-lifecycle",
            "--log.level=warn",
        ]


class Alertmanager(_HttpServer):
    """`config` is alertmanager.yml. A pair: `cluster=True` for one, `peers=[one.cluster_address]` for the other."""

    program = "alertmanager"

    def __init__(
        self, config: str, cluster: bool = False, peers: Sequence[str] = (), flags: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.cluster_address = f"127.0.0.1:{free_port()}" if cluster or peers else ""
        self._peers = tuple(peers)
        self._flags = tuple(flags)
        self.configure(config)

    def configure(self, config: str) -> None:
        """Writes the configuration anew; `reload` makes a running one read it."""
        (self.folder / "alertmanager.yml").write_text(config)

    def post_alerts(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Tells it `alerts` as Prometheus does: `[{"labels": {…}, "annotations": {…}, "endsAt": …}]`."""
        httpx.post(f"{self.url}/api/v2/alerts", json=list(alerts)).raise_for_status()

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that it holds, as its API v2 tells them."""
        held: list[dict[str, Any]] = self.get("/api/v2/alerts")
        return held

    def _command(self) -> list[str]:
        return [
            str(self.binary),
            "--config.file=alertmanager.yml",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            f"--cluster.listen-address={self.cluster_address}",
            *(f"--cluster.peer={peer}" for peer in self._peers),
            "--log.level=warn",
            *self._flags,
        ]


@dataclass(frozen=True)
class Certificates:
    """PEM files: of an authority, and of a certificate for 127.0.0.1 that it has signed, with its key."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def made(cls, folder: Path) -> "Certificates":
        """New ones, in this folder."""
        authority, made = trustme.CA(), cls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        issued = authority.issue_cert("127.0.0.1", "localhost", common_name="responder")
        authority.cert_pem.write_to_path(made.ca)
        issued.cert_chain_pems[0].write_to_path(made.cert)
        issued.private_key_pem.write_to_path(made.key)
        made.key.chmod(0o600)
        return made


class Redis(Server):
    """A Redis without persistence; `replica_of` makes it follow another one. With `tls` it speaks nothing else, also to
    others, and asks everybody for a certificate."""

    program = "redis-server"

    def __init__(
        self,
        replica_of: "Redis | None" = None,
        settings: Mapping[str, str] | None = None,
        tls: Certificates | None = None,
    ) -> None:
        super().__init__()
        self.tls = tls
        followed = {"replicaof": f"127.0.0.1 {replica_of.port}"} if replica_of else {}
        at_once = {"repl-diskless-sync-delay": "0", "shutdown-timeout": "0"}
        self._write({"save": '""', "appendonly": "no", **at_once, **followed, **(settings or {})})

    @property
    def url(self) -> str:
        """As redis-py's `from_url` takes it."""
        return f"redis://{self.address}/0"

    def client(self) -> "redis.Redis":
        """A new synchronous connection that answers text; close it (it is a context manager)."""
        once = Retry(NoBackoff(), 0)  # the library's own retries take seconds to see a server that is down
        tls: dict[str, Any] = {}
        if self.tls is not None:
            files = {"ssl_ca_certs": self.tls.ca, "ssl_certfile": self.tls.cert, "ssl_keyfile": self.tls.key}
            tls = {"ssl": True, **{name: str(path) for name, path in files.items()}}
        return redis.Redis(host="127.0.0.1", port=self.port, decode_responses=True, socket_timeout=1, retry=once, **tls)

    def _listening(self) -> dict[str, str]:
        if self.tls is None:
            return {"port": str(self.port)}
        files = {"ca-cert": self.tls.ca, "cert": self.tls.cert, "key": self.tls.key}
        return {
            "port": "0", "tls-port": str(self.port), "tls-replication": "yes",
            **{f"tls-{name}-file": str(path) for name, path in files.items()},
        }  # fmt: skip

    def _write(self, settings: Mapping[str, str]) -> None:
        every = {**self._listening(), "bind": "127.0.0.1", "dir": str(self.folder), **settings}
        (self.folder / "redis.conf").write_text("".join(f"{key} {value}\n" for key, value in every.items()))

    def _command(self) -> list[str]:
        return [str(self.binary), str(self.folder / "redis.conf")]

    def _is_ready(self) -> bool:
        with self.client() as client:
            return bool(client.ping())


class Sentinel(Redis):
    """Watches `master` under `name`; agrees alone when `quorum` is 1. `down_after` and `failover_timeout` in
    milliseconds; `settings` are further lines of its configuration. It speaks TLS where the master does."""

    program = "redis-sentinel"

    def __init__(
        self,
        master: Redis,
        name: str = "mymaster",
        quorum: int = 1,
        down_after: int = 500,
        failover_timeout: int = 2000,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(tls=master.tls)
        every = self._listening() | {"bind": "127.0.0.1", "dir": str(self.folder)} | dict(settings or {})
        monitor = f"sentinel monitor {name} 127.0.0.1 {master.port} {quorum}"
        times = {"down-after-milliseconds": down_after, "failover-timeout": failover_timeout}
        options = [f"sentinel {key} {name} {value}" for key, value in times.items()]
        lines = [*(f"{key} {value}" for key, value in every.items()), monitor, *options]
        (self.folder / "redis.conf").write_text("".join(f"{line}\n" for line in lines))


class Postgres(Server):
    """A cluster whose only role is `postgres`, trusted on loopback.

    `durable` keeps fsync and synchronous commits on, as crash tests need. `kill` is PostgreSQL's immediate shutdown: it
    leaves the state of a crash (recovery from the log at the next start) and, unlike SIGKILL, no orphaned backends.
    """

    program = "postgres"
    polite = signal.SIGINT
    brutal = signal.SIGQUIT

    def __init__(self, durable: bool = False, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._initdb = find("initdb")
        self._durable = durable
        self._databases = 0
        self._settings = dict(settings or {})

    def start(self) -> None:
        """Makes the cluster when there is none yet, then as every server."""
        if not (self.folder / "data").exists():
            self._initialize()
        super().start()

    def standby(self) -> "Postgres":
        """A server that follows this running one, not started yet. This one is restarted, so that its files can be
        copied."""
        self.stop()
        other = Postgres(self._durable, self._settings)
        other._settings["primary_conninfo"] = f"host=127.0.0.1 port={self.port} user=postgres application_name=standby"
        if os.geteuid() == 0:
            other._drop_privileges()
        shutil.copytree(self.folder / "data", other.folder / "data")
        (other.folder / "data" / "standby.signal").touch()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam(UNPRIVILEGED)
            for folder, _, files in os.walk(other.folder / "data"):
                for path in (Path(folder), *(Path(folder) / name for name in files)):
                    os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self.start()
        return other

    def url(self, database: str = "postgres") -> str:
        """As psycopg takes it."""
        return f"postgresql://postgres@{self.address}/{database}"

    def database(self, template: str = "template1") -> str:
        """Creates an empty database, or a copy of `template`, and returns its URL."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def template(self, name: str, build: Callable[[str], None]) -> str:
        """Creates database `name`, which `build` fills at its URL, for `database(template=name)`. Returns `name`."""
        self.execute(f'CREATE DATABASE "{name}"')
        build(self.url(name))
        return name

    def drop(self, url: str) -> None:
        """Drops the database at `url`, also while others are connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Runs one statement outside a transaction in the maintenance database."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _drop_privileges(self) -> None:
        """PostgreSQL refuses root, so it runs as nobody, who must be able to enter its folder and its program's."""
        nobody = pwd.getpwnam(UNPRIVILEGED)
        os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        if not self._can_run():
            copy = Path(shutil.copytree(SERVERS, self.folder / "servers", symlinks=True, ignore=_other_servers))
            copy.chmod(0o755)
            self.binary, self._initdb = copy / "bin" / self.binary.name, copy / "bin" / self._initdb.name

    def _can_run(self) -> bool:
        try:
            done = subprocess.run(
                [self.binary, "--version"], cwd="/", capture_output=True, check=False, **self._identity()
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def _identity(self) -> dict[str, Any]:
        return unprivileged()

    def _initialize(self) -> None:
        if os.geteuid() == 0:
            self._drop_privileges()
        command = [
            str(self._initdb),
            "--pgdata",
            str(self.folder / "data"),
            "--username=postgres",
            "--auth=trust",
            "--no-sync",
        ]
        done = subprocess.run(
            [*command, "--encoding=UTF8", "--locale=C"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._identity(),
        )
        if done.returncode != 0:
            raise ServerFailed(f"initdb failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "50",
            "jit": "off",
            "timezone": "UTC",
            **({} if self._durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
            **self._settings,
        }
        flags = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(self.binary), "-D", str(self.folder / "data"), *flags]

    def _is_ready(self) -> bool:
        with psycopg.connect(self.url(), connect_timeout=1) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)


def _other_servers(folder: str, names: list[str]) -> set[str]:
    """What a copy of `.servers` for PostgreSQL leaves out: the programs in usr/bin, and what only people read."""
    unwanted = re.compile(r"root/(?:apt|(usr/)?(bin|sbin)|usr/share/(doc|man|locale|lintian|prometheus)|etc|var)")
    return {name for name in names if unwanted.fullmatch((Path(folder).relative_to(SERVERS) / name).as_posix())}
