"""What the Redis actions share, which must not import each other: the service, and the rights that its user needs."""

from __future__ import annotations

from typing import ClassVar

from responder.contracts import Action


class RedisStep(Action):
    """A step on one Redis server, or on the master that Sentinels name.

    The rights are named as `ACL SETUSER` names them, without the sign; a user that has these and no more can do all
    that the action does. `responder rbac` makes the user of them.
    """

    kinds: ClassVar[tuple[str, ...]] = ("redis", "redis_sentinel")
    commands: ClassVar[tuple[str, ...]] = ()
    """What it sends to a server, such as `slowlog|get`."""
    sentinel_commands: ClassVar[tuple[str, ...]] = ("sentinel|get-master-addr-by-name",)
    """What it sends to Sentinels, where there are some: by default it asks only for the master."""
    keys: ClassVar[tuple[str, ...]] = ()
    """Its fields that hold a key."""
    channels: ClassVar[tuple[str, ...]] = ()
    """Its fields that hold a channel."""

    service: str
