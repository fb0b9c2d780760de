"""The configured folders of executables: one program, its arguments as they are, and what its end means.

No shell ever sees an argument. A program gets an environment of its own, no input, a session of its own and a limit for
what it may say; when its time is up, or ours, its whole group is killed, so that nothing goes on unseen. What may be
run is a file of that folder which only root or we may write: whoever can write it could have anything done.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from responder.errors import Permanent, Temporary
from responder.last_look import Clear, always_clear
from responder.permits import permit
from responder.services import CommandService
from responder.timing import SECOND

LEFTOVERS = 1.0
"""Seconds that what a program left behind may go on holding its output."""
KILLED = 2.0
"""Seconds that a killed program has to end: one that the kernel holds (a dead disk) is not waited for."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY})


@dataclass(frozen=True, slots=True)
class CommandCall:
    """One run of an executable of the folder. `key` reaches it as RESPONDER_KEY, the same when it is run again.

    `reads`: it only looks, and changes nothing.
    """

    command: str
    args: tuple[str, ...] = ()
    key: str = ""
    reads: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: its exit code, below 0 the signal that killed it; what it said, cut at the limit.

    `left`: what it had started held its output and was killed, so nobody knows how far that had come.
    """

    exit: int
    output: str
    errors: str
    cut: bool = False
    left: bool = False


Launch = Callable[[CommandService, CommandCall, Mapping[str, str]], Awaitable[Ran]]
"""Runs a program with this environment and waits for its end. Raises Permanent, and OSError when nothing was run."""


class CommandConnection:
    """What an action runs programs through."""

    keyed = False
    """No program is known to honour keys."""

    def __init__(self, name: str, service: CommandService, launch: Launch) -> None:
        self.name = name
        self.service = service
        self._launch = launch
        self._permits = asyncio.Semaphore(service.connections)

    async def run(self, call: CommandCall, timeout: float, clear: Clear = always_clear) -> Ran:
        """Run it once and wait for its end. `timeout` in seconds, which the caller keeps as well; `clear` is asked
        right before it is started, unless it only reads.

        Raises Temporary and Permanent where nothing was run; TimeoutError when it was killed for its time.
        """
        place = f"{self.name}: {call.command}: nothing was run"
        environment = self._environment(call.key)
        busy = Temporary(f"{place}: as many programs run as may at a time; raise the service's `connections`")
        async with permit(self._permits, timeout / 3, busy):
            if not call.reads:
                await clear()
            try:
                async with asyncio.timeout(min(timeout, self.service.timeout / SECOND)):
                    return await self._launch(self.service, call, environment)
            except TimeoutError:
                raise
            except OSError as error:
                said = f"{place}: {error.strerror or type(error).__name__}"
                if error.errno in _PASSING:
                    raise Temporary(said) from None
                raise Permanent(f"{said}; check the file and the program in its first line") from None

    async def close(self) -> None:
        """Nothing is kept open."""

    def _environment(self, key: str) -> dict[str, str]:
        """Nothing of ours but what the service names: tokens stand there."""
        passed = {name: os.environ[name] for name in self.service.passes if name in os.environ}
        standing = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/"}
        return {**standing, **self.service.environment, **passed, **({"RESPONDER_KEY": key} if key else {})}


class _Listening(asyncio.SubprocessProtocol):
    """Hears what a program says, up to the limit, and that it has ended.

    `asyncio.subprocess` was rejected: it tells of the end only once all that holds the output has ended, too.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept = {1: bytearray(), 2: bytearray()}
        self.cut = False
        self.ended = asyncio.Event()
        self.silent = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """What is over the limit is thrown away, so that the program never waits for us."""
        kept = self.kept[fd]
        self.cut = self.cut or len(kept) + len(data) > self.limit
        kept += data[: self.limit - len(kept)]

    def process_exited(self) -> None:
        """The program itself has ended."""
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """And nothing holds its output any more."""
        self.silent.set()

    def text(self, fd: int) -> str:
        """What was said there."""
        return self.kept[fd].decode("utf-8", "replace")


async def launch(service: CommandService, call: CommandCall, environment: Mapping[str, str]) -> Ran:
    """See Launch."""
    program = checked(service.folder, call.command)
    transport, heard = await asyncio.get_running_loop().subprocess_exec(
        lambda: _Listening(service.max_output_bytes),
        program,
        *call.args,
        cwd=program.parent,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    group = transport.get_pid()
    left = False
    try:
        await heard.ended.wait()
        left = not await _within(heard.silent, LEFTOVERS)
    finally:
        if not heard.silent.is_set():
            # Cut off, or something that it left behind goes on: nothing may act on unseen.
            _kill(group)
            await _within(heard.ended, KILLED)
        # Closes our end of its output as well, whoever may still hold the other one.
        transport.close()
    return Ran(transport.get_returncode() or 0, heard.text(1), heard.text(2), heard.cut, left)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it happens in so much time."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def checked_folder(folder: str) -> Path:
    """The folder, when nobody but root and us can put anything there. Raises Permanent."""
    try:
        real = Path(folder).resolve(strict=True)
    except OSError as error:
        raise Permanent(f"{folder}: {error.strerror}; check the service's `folder`") from None
    if not real.is_dir():
        raise Permanent(f"{folder} is no folder; check the service's `folder`")
    for path in (real, *real.parents):
        _safe(path, sticky_will_do=path != real)
    return real


def checked(folder: str, command: str) -> Path:
    """The executable, when nobody but root and us could have put it there. Raises Permanent; nothing was run."""
    home = Path(folder)
    try:
        real = home.resolve(strict=True)
        program = (real / command).resolve(strict=True)
    except OSError as error:
        cure = "check the service's `folder` and the name"
        raise Permanent(f"{folder}/{command}: nothing was run: {error.strerror}; {cure}") from None
    if program.parent != real:
        raise Permanent(f"{folder}/{command} leads out of the folder, so it was not run: put the program itself there")
    for path in (program, real, *real.parents):
        _safe(path, sticky_will_do=path not in (program, real))
    if not stat.S_ISREG(program.stat().st_mode) or not os.access(program, os.X_OK):
        raise Permanent(f"{program} is no file that can be run: chmod u+x")
    return program


def _safe(path: Path, *, sticky_will_do: bool) -> None:
    found = path.stat()
    sticky = sticky_will_do and found.st_mode & stat.S_ISVTX
    if found.st_mode & _WRITABLE and not sticky:
        raise Permanent(f"{path} can be written by others, so nothing of it was run: chmod go-w {path}")
    if found.st_uid not in {0, os.geteuid()}:
        raise Permanent(f"{path} belongs to another user, so nothing of it was run: chown it to root")
