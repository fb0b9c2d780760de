"""What Redis' answers are read as, and what its numbers say together, without a server."""

from __future__ import annotations

import pytest

from responder.redis_replies import Reply, counted, named_cause, parsed_info, slow_entries, stream_entry, typed

MIB = 1024 * 1024
FREE = {"used_memory": 100 * MIB, "used_memory_rss": 120 * MIB, "maxmemory": 0, "connected_clients": 40}
SLOW = {"at": 1, "us": 12_000, "command": "TS.RANGE", "key": "var_pct", "client": "web"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("-7", -7), ("2.50", 2.5), ("123456789012345", 123_456_789_012_345),
        ("007", "007"), ("1e5", "1e5"), ("nan", "nan"), ("", ""), ("1.", "1."), (".5", ".5"), ("+1", "+1"),
        ("1234567890123456", "1234567890123456"),
    ],
)  # fmt: skip
def test_only_what_people_write_as_a_number_is_one(text: str, value: object) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


def test_info_is_read_line_by_line() -> None:
    text = "# Server\r\nredis_version:7.0.15\r\nuptime:12\r\n\r\ncmdstat_get:calls=1,usec=2\r\nurl:a:b\r\n"
    assert parsed_info(text) == {
        "redis_version": "7.0.15", "uptime": 12, "cmdstat_get": "calls=1,usec=2", "url": "a:b",
    }  # fmt: skip


def test_the_slow_log_is_read_in_the_form_of_every_version() -> None:
    old: Reply = [1, 100, 7000, ["get", "k"]]
    unnamed: Reply = [2, 200, 9, ["ping"], "h:1", ""]
    named: Reply = [3, 1, 1, [], "h:1", "web"]
    told = [(e["command"], e["key"], e["us"], e["client"]) for e in slow_entries([old, unnamed, named, "odd", [1]])]
    assert told == [("GET", "k", 7000, ""), ("PING", "", 9, "h:1"), ("?", "", 1, "web")]
    assert slow_entries(None) == []


def test_counts_are_told_most_frequent_first() -> None:
    entries = [stream_entry([str(n), ["from", "a", "to", "bc"[n % 3 == 0]]]) for n in range(6)]
    assert list(counted(entries, ("from", "to")).items()) == [("a, b", 4), ("a, c", 2)]
    assert counted(entries, ("unheard",)) == {"?": 6}


@pytest.mark.parametrize(
    ("changed", "slow", "cause"),
    [
        ({}, [], "network"),
        ({"connected_clients": 400}, [], "clients"),
        ({"connected_clients": 399}, [], "network"),
        ({}, [SLOW], "commands"),
        ({"connected_clients": 400}, [SLOW], "commands"),
        ({"used_memory_rss": 80 * MIB}, [SLOW], "memory"),
        ({"used_memory_rss": 95 * MIB}, [], "network"),
        ({"maxmemory": 104 * MIB}, [SLOW], "memory"),
        ({"maxmemory": 120 * MIB}, [], "network"),
    ],
)
def test_the_cause_is_the_first_that_the_numbers_show(changed: dict[str, int], slow: list[object], cause: str) -> None:
    found, why = named_cause({**FREE, **changed}, slow, 400)  # type: ignore[arg-type]
    assert found == cause
    assert any(digit in why for digit in "0123456789")


def test_a_server_that_tells_nothing_is_no_cause() -> None:
    assert named_cause({}, [], 400)[0] == "network"
