"""Which destinations leave pages lying, as both databases answer it."""

from __future__ import annotations

from dataclasses import replace

from responder.records import Lane, Sending
from tests.contract.store_operations import NOW, message, opened, writes


async def test_only_pages_that_wait_for_too_long_count_once_for_each_destination(url: str) -> None:
    page = replace(message("m"), lane=Lane.PAGE, template="page", destination="oncall", created_at=NOW)
    rows = (
        page,
        replace(page, id="again", order_key="again"),
        replace(page, id="later", created_at=NOW + 1, destination="later"),
        replace(page, id="sent", state=Sending.SENT, destination="sent"),
        replace(page, id="dead", state=Sending.DEAD, destination="dead"),
        replace(page, id="end", template="resolve", destination="end"),
        replace(page, id="line", lane=Lane.THREAD, destination="line"),
    )
    async with opened(url) as store:
        await store.submit(writes("a", messages=rows))
        assert await store.stuck_pages(NOW) == set()
        assert await store.stuck_pages(NOW + 1) == {"oncall"}
        assert await store.stuck_pages(NOW + 2) == {"oncall", "later"}
