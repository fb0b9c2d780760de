"""A Redis master that died, its two replicas and three Sentinels, at the wire: they know these commands, no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

NAME: Final = "trading"
SENTINELS: Final = ("s1:26379", "s2:26379", "s3:26379")
MASTER, NEAR, FAR = "r1:6379", "r2:6379", "r3:6379"
"""The master before; the replica that has everything, and so is chosen; the one that lacks 500 bytes."""
HELD: Final = 5_000
"""How far the stream of the replica goes that has everything."""


@dataclass
class Watched:
    """`down`: who calls the master down. `alive`: the master answers all the same, `alive_offset` bytes far.
    `progress`: who is failing over. `stale`: Sentinels that go on naming the old master. `silent`: addresses that
    nobody reaches. `priority` of both replicas; `link_down_for` (seconds) of the near one. `link_up_but_quiet_for`
    (seconds): its link is up, and so long nothing came. `refusal`: what the next SENTINEL FAILOVER is answered with.
    `converts`: an old master that is alive becomes a replica. `busy`: it answers, and says that it cannot now.
    `cuts_us_off`: from the failover on we do not reach it, while the Sentinels do. `miss_it`: Sentinels that see that a
    dead old master is gone; the others have only just begun to ask it. `lost_for` (milliseconds): for how long they
    have had no answer of it, their own flag not set yet. `behind_tls`: what stands before the master ends TLS, and
    hangs up when it cannot be reached."""

    down: frozenset[str] = frozenset(SENTINELS)
    down_for: int = 30_000
    alive: bool = False
    alive_offset: int = HELD
    progress: frozenset[str] = frozenset()
    stale: frozenset[str] = frozenset()
    silent: set[str] = field(default_factory=set)
    epoch: int = 3
    quiet_for: int = 3_600_000
    failover_timeout: int = 180_000
    others: int = 2
    priority: int = 100
    link_down_for: int = 30
    link_up_but_quiet_for: int | None = None
    busy: bool = False
    cuts_us_off: bool = False
    behind_tls: bool = False
    miss_it: frozenset[str] = frozenset(SENTINELS)
    lost_for: int | None = None
    quorum: bool = True
    tilt: bool = False
    refusal: str = ""
    obeys: bool = True
    promotes: bool = True
    converts: bool = True
    readonly: bool = False
    new: str = MASTER
    told: list[str] = field(default_factory=list)
    written: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def state(self) -> tuple[object, ...]:
        """What a failover changes."""
        return self.new, self.epoch

    def reaches(self, address: str) -> None:
        """Raises what redis-py raises when nobody listens."""
        if address in self.silent or (address == MASTER and not self.alive):
            raise RedisConnectionError("refused")

    def answer(self, address: str, words: tuple[str, ...]) -> Any:
        """Raises KeyError for a command that this world does not know."""
        if address in SENTINELS:
            return self._sentinel(address, words)
        return self._server(address, words)

    # --- Sentinels ----------------------------------------------------------------------------------------------------

    def _sentinel(self, address: str, words: tuple[str, ...]) -> Any:
        answers: dict[str, Callable[[], Any]] = {
            "MASTER": lambda: self._master(address),
            "REPLICAS": lambda: self._replicas(address),
            "CKQUORUM": self._ckquorum,
            "GET-MASTER-ADDR-BY-NAME": lambda: [part.encode() for part in self._named(address).split(":")],
            "FAILOVER": lambda: self._failover(address),
        }
        if words == ("INFO", "sentinel"):
            return f"# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:{int(self.tilt)}\r\n".encode()
        if words[0] != "SENTINEL" or words[2:] != (NAME,):
            raise KeyError(words)
        return answers[words[1]]()

    def _named(self, sentinel: str) -> str:
        return MASTER if sentinel in self.stale else self.new

    def _master(self, sentinel: str) -> Any:
        named = self._named(sentinel)
        down = sentinel in self.down and named == MASTER
        flags = ["master", *(["s_down", "o_down"] if down else [])]
        flags += ["failover_in_progress"] if sentinel in self.progress else []
        host, port = named.split(":")
        return _flat({
            "name": NAME, "ip": host, "port": port, "flags": ",".join(flags), "config-epoch": self.epoch,
            "num-other-sentinels": self.others, "down-after-milliseconds": 5_000, "last-ok-ping-reply": self.down_for,
            "failover-timeout": self.failover_timeout, "role-reported-time": self.quiet_for,
            **({"s-down-time": self.down_for, "o-down-time": self.down_for} if down else {}),
        })  # fmt: skip

    def _replicas(self, sentinel: str) -> Any:
        master = self._named(sentinel)
        known = ((FAR, HELD - 500), (NEAR, HELD), (MASTER, HELD))
        return [
            _flat(
                {
                    "ip": address.split(":")[0],
                    "port": "6379",
                    "runid": address,
                    "flags": "slave",
                    "slave-priority": self.priority,
                    "slave-repl-offset": offset,
                    "last-ok-ping-reply": 100,
                    "info-refresh": 300,
                    "role-reported": "slave",
                    "master-host": master.split(":")[0],
                    "master-link-down-time": 0 if self.link_up_but_quiet_for else self.link_down_for * 1000,
                    **(self._old(sentinel) if address == MASTER else {}),
                }
            )
            for address, offset in known
            if address != master
        ]

    def _old(self, sentinel: str) -> dict[str, object]:
        """The old master in the place of a replica. A Sentinel takes it for one until it has asked it."""
        if self.alive:
            return {} if self.converts else {"role-reported": "master", "master-host": "?"}
        if self.lost_for is not None:
            return {"master-host": "?", "last-ok-ping-reply": self.lost_for}
        return {"master-host": "?", **({"flags": "s_down,slave"} if sentinel in self.miss_it else {})}

    def _ckquorum(self) -> Any:
        if not self.quorum:
            raise ResponseError("NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the majority")
        return b"OK 3 usable Sentinels. Quorum and failover authorization can be reached"

    def _failover(self, sentinel: str) -> Any:
        if self.refusal:
            raise ResponseError(self.refusal)
        self.told.append(sentinel)
        if self.obeys:
            self.new, self.epoch, self.quiet_for = NEAR, self.epoch + 1, 0
        if self.cuts_us_off:
            self.silent.add(MASTER)
        return b"OK"

    # --- servers ------------------------------------------------------------------------------------------------------

    def _server(self, address: str, words: tuple[str, ...]) -> Any:
        if words == ("ROLE",):
            return self._role(address)
        if words == ("INFO", "replication"):
            return f"# Replication\r\nrole:slave\r\n{self._link()}slave_repl_offset:{HELD}\r\n".encode()
        if words[0] == "SET" and words[3:] == ("EX", "60"):
            if self.readonly:
                raise ReadOnlyError("You can't write against a read only replica.", status_code="READONLY")
            self.written.append((address, *words[1:3]))
            return b"OK"
        raise KeyError(words)

    def _link(self) -> str:
        if self.link_up_but_quiet_for is None:
            return f"master_link_status:down\r\nmaster_link_down_since_seconds:{self.link_down_for}\r\n"
        return f"master_link_status:up\r\nmaster_last_io_seconds_ago:{self.link_up_but_quiet_for}\r\n"

    def _role(self, address: str) -> Any:
        if address == MASTER and self.busy:
            raise ResponseError("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN")
        leads = address == self.new and (address != NEAR or self.promotes)
        if leads or (address == MASTER and not self.converts):
            return [b"master", self.alive_offset, [[b"r3", b"6379", b"4500"]]]
        return [b"slave", b"r1", 6379, b"connected", HELD]


def _flat(fields: dict[str, Any]) -> list[bytes]:
    return [str(part).encode() for pair in fields.items() for part in pair]
