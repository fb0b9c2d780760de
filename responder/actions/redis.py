"""What can be read of a Redis server: keys, streams, and how the server itself is doing. Evidence and checks.

Every reader bounds its answer where the server can (a count, a range, a look at the length first), so that a key of a
gigabyte is refused instead of read. Of a service with Sentinels the master is read, the one that a majority of them
names. Changes (a failover, a message on a channel) are not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field, JsonValue

from responder.contracts import Context, Output
from responder.errors import Permanent, Temporary
from responder.recorded import Plan
from responder.redis_connections import RedisCall
from responder.redis_replies import (
    MAX_ENTRIES,
    MAX_TEXT,
    RECENT,
    Reply,
    client_of,
    counted,
    list_of,
    measured,
    named_cause,
    pairs_of,
    parsed_info,
    slow_entries,
    slowest,
    stream_entry,
    text_of,
    typed,
    whole,
)
from responder.redis_steps import RedisStep
from responder.timing import DAY, MILLISECOND, MINUTE, SECOND, format_duration
from responder.written import Duration

MAX_FIELDS: Final = 500
"""Fields of a hash that is read as a whole."""
MAX_CLIENTS: Final = 2000
"""Connected clients up to which they are listed."""

_event_name = r"^[a-z][a-z0-9-]{0,63}$"

Key = Annotated[str, Field(min_length=1, max_length=512)]
Count = Annotated[int, Field(ge=1, le=MAX_ENTRIES)]
FieldName = Annotated[str, Field(min_length=1, max_length=128)]


class Reader(RedisStep):
    """What all readers of a Redis server share: how a command is sent."""

    reads_only: ClassVar[bool] = True

    async def _ask(self, context: Context, *words: str) -> Reply:
        """Raises Temporary and Permanent."""
        reply: Reply = await context.service(self.service).send(RedisCall(words), context.timeout)
        return reply

    async def _number(self, context: Context, *words: str) -> int:
        reply = await self._ask(context, *words)
        return reply if isinstance(reply, int) else 0

    async def _sections(self, context: Context, *sections: str) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {}
        for section in sections:
            found |= parsed_info(text_of(await self._ask(context, "INFO", section)))
        return found


class RedisGet(Reader):
    """Read one string key.

    - `service`: a service of kind `redis` or `redis_sentinel`.
    - `key`: the key. Placeholders are taken as they are: a key is one argument, whatever it contains.

    Effect class `read`. `expect` sees the text as `value`, a number where it is one; of more than 500 characters the
    beginning. A key that does not exist has no value: it is missing, never 0.

    Needs of its user: `+exists +getrange`, and the key.

    ```yaml
    evidence:
      - {title: VaR in percent, action: redis.get, with: {service: cache, key: 'var_pct:BTC-USD'}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal"}
    commands: ClassVar[tuple[str, ...]] = ("exists", "getrange")
    keys: ClassVar[tuple[str, ...]] = ("key",)

    key: Key

    def preview(self) -> str:
        """See Action.preview."""
        return f"GET {self.key} on {self.service}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary when there is no such key."""
        if not await self._number(context, "EXISTS", self.key):
            raise Temporary(f"{self.service}: there is no key {self.key[:120]}: it has expired, or its writer is down")
        value = typed(text_of(await self._ask(context, "GETRANGE", self.key, "0", str(MAX_TEXT))))
        return Output(value, f"{self.key} is {value}", context.now())


class RedisHgetall(Reader):
    """Read a hash.

    - `service`: a service of kind `redis` or `redis_sentinel`.
    - `key`: the key of the hash; placeholders are taken as they are.
    - `fields`: read these fields only. Without them the whole hash, which has at most 500.

    Effect class `read`. `expect` sees the fields as `value.NAME`, numbers where they are some. A hash that does not
    exist is missing; a field that does not exist is not there.

    Needs of its user: `+hlen +hgetall +hmget`, and the key.

    ```yaml
    evidence:
      - {title: Volatility in use, action: redis.hgetall, with: {service: cache, key: volatility_estimates}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "fields": "literal"}
    commands: ClassVar[tuple[str, ...]] = ("hlen", "hgetall", "hmget")
    keys: ClassVar[tuple[str, ...]] = ("key",)

    key: Key
    fields_: Annotated[tuple[FieldName, ...], Field(alias="fields", max_length=MAX_ENTRIES)] = ()
    model_config = ConfigDict(populate_by_name=True)

    def preview(self) -> str:
        """See Action.preview."""
        return f"HGETALL {self.key} on {self.service}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary when there is no such hash, Permanent when it is too large."""
        size = await self._number(context, "HLEN", self.key)
        if not size:
            raise Temporary(f"{self.service}: there is no hash {self.key[:120]}: it has expired, or was never written")
        if self.fields_:
            given = list_of(await self._ask(context, "HMGET", self.key, *self.fields_))
            pairs: Iterable[tuple[Reply, Reply]] = zip(self.fields_, given, strict=False)
        elif size > MAX_FIELDS:
            raise Permanent(
                f"{self.service}: {self.key[:120]} has {size} fields: name those that are wanted (`fields`)"
            )
        else:
            pairs = pairs_of(list_of(await self._ask(context, "HGETALL", self.key)))
        value = {text_of(name): typed(text_of(text)) for name, text in pairs if text is not None}
        return Output(value, f"{self.key}: {len(value)} fields", context.now())


class RedisXrevrange(Reader):
    """Read the newest entries of a stream.

    - `service`: a service of kind `redis` or `redis_sentinel`.
    - `stream`: its key; placeholders are taken as they are.
    - `count`: how many entries, at most 100. Default 20.
    - `by`: names of fields. Instead of the entries it gives how often each combination of their values occurs, most
      frequent first, so that a pattern is seen at a glance.

    Effect class `read`. `expect` sees the entries, newest first, as a list of `{id, FIELD…}`; with `by` the counts by
    `VALUE, VALUE`. A stream that does not exist, or is empty, is missing.

    Needs of its user: `+xrevrange`, and the key.

    ```yaml
    evidence:
      - title: The last 20 switches by models
        action: redis.xrevrange
        with: {service: cache, stream: model.switch.log, by: [from, to]}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "count": "literal", "by": "literal"}
    commands: ClassVar[tuple[str, ...]] = ("xrevrange",)
    keys: ClassVar[tuple[str, ...]] = ("stream",)

    stream: Key
    count: Count = 20
    by: Annotated[tuple[FieldName, ...], Field(max_length=4)] = ()

    def preview(self) -> str:
        """See Action.preview."""
        return f"XREVRANGE {self.stream} + - COUNT {self.count} on {self.service}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary when there are no entries."""
        reply = list_of(await self._ask(context, "XREVRANGE", self.stream, "+", "-", "COUNT", str(self.count)))
        entries = [stream_entry(one) for one in reply if isinstance(one, list) and len(one) == 2]
        if not entries:
            raise Temporary(f"{self.service}: the stream {self.stream[:120]} has no entries")
        value: JsonValue = counted(entries, self.by) if self.by else list(entries)
        return Output(value, f"{len(entries)} entries of {self.stream}", context.now())


class RedisTimeseriesRange(Reader):
    """Read the last minutes or hours of a time series, drawn together into a few samples (TS.RANGE).

    - `service`: a service of kind `redis` or `redis_sentinel`, with the module RedisTimeSeries.
    - `key`: the series; placeholders are taken as they are.
    - `last`: how far back, from 1s to 7d. Default 15m.
    - `samples`: into how many samples that time is drawn together, at most 100. Default 15.
    - `aggregate`: by `avg`, `min`, `max`, `sum`, `count`, `first` or `last`. Default `avg`.

    Effect class `read`. `expect` sees `value.latest`, `value.least`, `value.most` and `value.samples`, oldest first:
    `{at, value}`, `at` in seconds since the epoch (the beginning of the sample's time). `latest` is what the newest of
    them comes to; with `aggregate: last` it is the last value written. A series that does not exist, or has nothing in
    that time, is missing, never 0. Without the module it fails for good, and says so.

    Needs of its user: `+ts.range`, and the key. A server without the module knows no such right.

    ```yaml
    evidence:
      - title: VaR of the last hour
        action: redis.timeseries_range
        with: {service: cache, key: 'var_pct:BTC-USD', last: 1h, samples: 12, aggregate: max}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {
        "service": "literal", "last": "literal", "samples": "literal", "aggregate": "literal"
    }  # fmt: skip
    commands: ClassVar[tuple[str, ...]] = ("ts.range",)
    keys: ClassVar[tuple[str, ...]] = ("key",)

    key: Key
    last: Annotated[Duration, Field(ge=SECOND, le=7 * DAY)] = 15 * MINUTE
    samples: Count = 15
    aggregate: Annotated[str, Field(pattern=r"^(avg|min|max|sum|count|first|last)$")] = "avg"

    def preview(self) -> str:
        """See Action.preview."""
        return f"TS.RANGE {self.key} of the last {format_duration(self.last)} on {self.service}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary when there is no such series, or nothing in that time; Permanent without the module."""
        bucket = -(-self.last // self.samples // MILLISECOND)
        since, until = ((context.now() + one) // MILLISECOND for one in (-self.last, self.last))
        # A writer's clock may be ahead of ours, and COUNT cuts off the newest: so as many again, and the end is kept.
        # Buckets begin at multiples of their length, so that one more than asked for is begun. Not TS.REVRANGE, which
        # takes the first of each for the last (seen on 1.12).
        most = ("COUNT", str(2 * self.samples + 1), "AGGREGATION", self.aggregate, str(bucket))
        read = measured(await self._series(context, "TS.RANGE", self.key, str(since), str(until), *most))
        found = read[-self.samples - 1 :]
        if not found:
            nothing = f"{self.key[:120]} has no sample of the last {format_duration(self.last)}"
            raise Temporary(f"{self.service}: {nothing}: look whether its writer runs")
        values = [value for _, value in found]
        value: JsonValue = {
            "latest": values[-1],
            "least": min(values),
            "most": max(values),
            "samples": [{"at": at / 1000, "value": one} for at, one in found],
        }
        return Output(value, f"{self.key}: {len(found)} samples, the latest {values[-1]:g}", context.now())

    async def _series(self, context: Context, *words: str) -> Reply:
        """Raises Temporary and Permanent."""
        try:
            return await self._ask(context, *words)
        except Permanent as error:
            if "unknown command" in str(error):
                cure = "load RedisTimeSeries (Redis Stack has it), or read a hash or stream of the same numbers"
                raise Permanent(f"{self.service}: this server has no time series: {cure}") from None
            if "key does not exist" in str(error):
                gone = f"there is no series {self.key[:120]}: it has expired, or was never written"
                raise Temporary(f"{self.service}: {gone}") from None
            raise


class RedisInfo(Reader):
    """Read a section of INFO: how the server is doing.

    - `service`: a service of kind `redis` or `redis_sentinel`.
    - `section`: `server`, `clients`, `memory`, `persistence`, `stats`, `replication`, `cpu`, `commandstats`,
      `latencystats`, `errorstats`, `keyspace` or `modules`. Default `stats`.
    - `only`: keep these fields only.

    Effect class `read`. `expect` sees the fields as `value.NAME`, numbers where they are some
    (`value.connected_clients > 400`).

    Needs of its user: `+info`.

    ```yaml
    checks:
      clients: {action: redis.info, with: {service: cache, section: clients}, max_age: 30s}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "section": "literal", "only": "literal"}
    commands: ClassVar[tuple[str, ...]] = ("info",)

    section: Annotated[
        str,
        Field(
            pattern=r"^(server|clients|memory|persistence|stats|replication|cpu|commandstats|latencystats|errorstats"
            r"|keyspace|modules)$"
        ),
    ] = "stats"
    only: Annotated[tuple[FieldName, ...], Field(max_length=MAX_ENTRIES)] = ()

    def preview(self) -> str:
        """See Action.preview."""
        return f"INFO {self.section} on {self.service}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary, Permanent."""
        found = await self._sections(context, self.section)
        kept = {name: found[name] for name in self.only if name in found} if self.only else found
        return Output(dict(list(kept.items())[:MAX_FIELDS]), f"INFO {self.section}: {len(kept)} fields", context.now())


class RedisSlowlog(Reader):
    """Read the slow log: the commands that took longest lately, and who sent them.

    - `service`: a service of kind `redis` or `redis_sentinel`.
    - `count`: how many entries, at most 100. Default 10.

    Effect class `read`. `expect` sees `value.slowest_us`, `value.by_command` (how often each command occurs) and
    `value.entries`, newest first: `{at, us, command, key, client}`, `at` in seconds since the epoch. An empty log is an
    answer: `slowest_us` is 0. Of the arguments only the first is told, which is the key: the others may hold data.

    Needs of its user: `+slowlog|get`.

    ```yaml
    evidence:
      - {title: Slow commands, action: redis.slowlog, with: {service: cache, count: 10}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "count": "literal"}
    commands: ClassVar[tuple[str, ...]] = ("slowlog|get",)

    count: Count = 10

    def preview(self) -> str:
        """See Action.preview."""
        return f"SLOWLOG GET {self.count} on {self.service}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary, Permanent."""
        entries = slow_entries(await self._ask(context, "SLOWLOG", "GET", str(self.count)))
        value: JsonValue = {
            "slowest_us": slowest(entries),
            "by_command": counted(entries, ("command",)),
            "entries": [*entries],
        }
        return Output(value, f"{len(entries)} slow commands, the slowest {slowest(entries)} µs", context.now())


class RedisLatency(Reader):
    """Read LATENCY HISTORY of an event: when it was slow, and how slow.

    - `service`: a service of kind `redis` or `redis_sentinel`.
    - `event`: `command`, `fast-command`, `fork`, `aof-write`, `expire-cycle`, `eviction-cycle` … Default `command`.

    Effect class `read`. `expect` sees `value.worst_ms`, `value.latest_ms` and `value.spikes`, newest first, at most
    100: `{at, ms}`, `at` in seconds since the epoch. An empty history is an answer (0): either nothing was slow, or the
    server does not watch (`latency-monitor-threshold` is 0).

    Needs of its user: `+latency|history`.

    ```yaml
    evidence:
      - {title: Latency of commands, action: redis.latency, with: {service: cache, event: command}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "event": "literal"}
    commands: ClassVar[tuple[str, ...]] = ("latency|history",)

    event: Annotated[str, Field(pattern=_event_name)] = "command"

    def preview(self) -> str:
        """See Action.preview."""
        return f"LATENCY HISTORY {self.event} on {self.service}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary, Permanent."""
        reply = list_of(await self._ask(context, "LATENCY", "HISTORY", self.event))
        pairs = [(whole(one[0]), whole(one[1])) for one in reply if isinstance(one, list) and len(one) >= 2]
        newest = sorted(pairs, reverse=True)[:MAX_ENTRIES]
        worst, latest = max((ms for _, ms in pairs), default=0), newest[0][1] if newest else 0
        value: JsonValue = {
            "worst_ms": worst,
            "latest_ms": latest,
            "spikes": [{"at": at, "ms": ms} for at, ms in newest],
        }
        return Output(value, f"{len(pairs)} spikes, the worst {worst} ms", context.now())


class RedisClientList(Reader):
    """Read who is connected: how many clients, from where, and which hold the most memory.

    - `service`: a service of kind `redis` or `redis_sentinel`.
    - `top`: how many of the largest clients are listed, at most 100. Default 5.

    Effect class `read`. `expect` sees `value.clients`, `value.by_host`, `value.by_name` (how many each, most first) and
    `value.largest`: `{addr, name, age, idle, cmd, tot-mem}`. With more than 2000 clients only their number is told.

    Needs of its user: `+info +client|list`.

    ```yaml
    evidence:
      - {title: Clients, action: redis.client_list, with: {service: cache}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "top": "literal"}
    commands: ClassVar[tuple[str, ...]] = ("info", "client|list")

    top: Count = 5

    def preview(self) -> str:
        """See Action.preview."""
        return f"CLIENT LIST on {self.service}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary, Permanent."""
        connected = (await self._sections(context, "clients")).get("connected_clients", 0)
        if isinstance(connected, int) and connected > MAX_CLIENTS:
            said = f"{connected} clients, too many to be listed"
            return Output({"clients": connected}, said, context.now())
        clients = [client_of(line) for line in text_of(await self._ask(context, "CLIENT", "LIST")).splitlines() if line]
        largest = sorted(clients, key=lambda one: -whole(one.get("tot-mem", 0)))[: self.top]
        hosts = [{"host": str(one.get("addr", "")).rpartition(":")[0]} for one in clients]
        value: JsonValue = {
            "clients": len(clients),
            "by_host": counted(hosts, ("host",)),
            "by_name": counted(clients, ("name",)),
            "largest": [
                {k: one[k] for k in ("addr", "name", "age", "idle", "cmd", "tot-mem") if k in one} for one in largest
            ],
        }
        return Output(value, f"{len(clients)} clients", context.now())


class RedisDiagnose(Reader):
    """Name the likely cause of a slow Redis server by its own numbers.

    - `service`: a service of kind `redis` or `redis_sentinel`.
    - `slow_us`: from which a command counts as slow, in microseconds. Default 5000.
    - `clients`: from how many connected clients on there are too many. Default 400.

    Effect class `read`. `expect` sees `value.cause` and `value.why`, with the numbers. In this order: `memory` (part of
    it is swapped out, or it is full), `commands` (slow ones in the slow log of the last ten minutes), `clients` (too
    many), else `network`: the server itself finds nothing.

    Needs of its user: `+info +slowlog|get`.

    ```yaml
    evidence:
      - {title: Cause by its own numbers, action: redis.diagnose, with: {service: cache}}
    ```
    """

    positions: ClassVar[Mapping[str, str]] = {"service": "literal", "slow_us": "literal", "clients": "literal"}
    commands: ClassVar[tuple[str, ...]] = ("info", "slowlog|get")

    slow_us: Annotated[int, Field(ge=1)] = 5000
    clients: Annotated[int, Field(ge=1)] = 400

    def preview(self) -> str:
        """See Action.preview."""
        return f"diagnose {self.service}"

    async def act(self, plan: Plan, context: Context) -> Output:
        """Raises Temporary, Permanent."""
        info = await self._sections(context, "memory", "clients")
        now = context.now() // SECOND
        slow = [
            entry
            for entry in slow_entries(await self._ask(context, "SLOWLOG", "GET", str(MAX_ENTRIES)))
            if whole(entry["us"]) >= self.slow_us and now - whole(entry["at"]) <= RECENT
        ]
        cause, why = named_cause(info, slow, self.clients)
        return Output({"cause": cause, "why": why}, f"{cause}: {why}", context.now())
