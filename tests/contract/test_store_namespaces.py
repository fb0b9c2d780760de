"""What is live and what is replayed, kept in one store: on a SQLite file and on PostgreSQL."""

from responder.records import EpisodeRow, NotificationRow
from responder.store import Committed
from tests.contract.store_operations import NOW, event, incident, opened, writes


def notification(name: str, at: int = NOW, namespace: str = "live", body: bytes = b"{}") -> NotificationRow:
    return NotificationRow(name, namespace, at, "am-1", f"receiver-{namespace}", "{}", 1, 0, body)


async def test_notifications_are_read_page_by_page_of_one_namespace(url: str) -> None:
    async with opened(url) as store:
        # Two of one moment are told apart by their ids.
        rows = [notification("b", NOW + 1), notification("a", NOW + 1), notification("c"), notification("d", NOW + 2)]
        replayed = notification("r", NOW + 1, "replay/x")
        await store.submit(writes("op", notifications=(*rows, replayed)))

        async def page(after: str | None, until: int = NOW + 9, namespace: str | None = "live") -> list[str]:
            return [row.id for row in await store.notifications(NOW, until, 2, after, namespace)]

        assert await page(None) == ["c", "a"]
        assert await page("a") == ["b", "d"]
        assert await page("d") == []
        assert await page("b", NOW + 2) == []
        assert await page(None, namespace="replay/x") == ["r"]
        assert await page("a", namespace=None) == ["b", "r"]
        assert (await store.notifications(NOW, NOW + 1, 9))[0] == rows[2]


async def test_a_page_of_large_notifications_is_short_and_never_empty(url: str) -> None:
    async with opened(url) as store:
        large = [notification(name, body=bytes(3 * 1024 * 1024)) for name in "abc"]
        await store.submit(writes("op", notifications=(*large, notification("d", body=bytes(5 * 1024 * 1024)))))
        for after, found in ((None, ["a"]), ("a", ["b"]), ("c", ["d"]), ("d", [])):
            assert [row.id for row in await store.notifications(NOW, NOW + 1, 9, after)] == found


async def test_a_replay_counts_nowhere(url: str) -> None:
    async with opened(url) as store:
        told: list[Committed] = []
        store.on_commit(told.append)
        replayed = incident("i2", fold={"namespace": "replay/x"})
        await store.submit(
            writes(
                "op",
                incidents=(incident("i1"), replayed),
                events=(event("i1", 1), event("i2", 1)),
                notifications=(notification("n1"), notification("n2", namespace="replay/x")),
            )
        )
        assert [e.incident for committed in told for e in committed.events] == ["i1"]
        assert told[0].incidents == ("i1", "i2")
        assert await store.open_incidents() == 1
        assert await store.receivers(NOW) == {"receiver-live"}
        for namespace, found in (("live", ["i1"]), ("replay/x", ["i2"]), (None, ["i2", "i1"])):
            assert [row.id for row in await store.incidents(namespace=namespace)] == found


async def test_what_fires_are_the_live_episodes_without_an_end(url: str) -> None:
    def episode(fingerprint: str, namespace: str = "live", *, firing: bool = True) -> EpisodeRow:
        ended_at = None if firing else NOW
        return EpisodeRow(
            namespace, fingerprint, "i1", firing=firing, since=NOW, starts_at=None, ended_at=ended_at, severity=None
        )

    async with opened(url) as store:
        rows = (episode("a"), episode("b", firing=False), episode("c", "replay/x"))
        await store.submit(writes("op", episodes=rows))
        assert await store.firing_episodes() == [episode("a")]
