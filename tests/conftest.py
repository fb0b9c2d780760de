"""What every folder of tests may use: async tests, Hypothesis without deadlines, real servers as session fixtures."""

import asyncio
import inspect
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.provision import Missing
from tests.servers import Postgres

# Timings are never asserted: the machine is shared. Continuous integration must find today what it finds tomorrow.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


_LONGEST_FIRST = ("crash", "system", "campaigns", "acceptance")
"""Folders whose files take minutes; whoever gets one of them last keeps the other processor waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; within a folder the order stays."""

    def rank(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=rank)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What `make test` found before the tests and fails for, far above by now: said once more, before the last line."""
    if os.environ.get("RESPONDER_MUTANTS", "0") != "0":
        terminalreporter.section("mutants")
        terminalreporter.line("`make mutants` has failed, see above the tests: `make test` fails though they may pass")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an `async def` test in a fresh loop. A plugin would add async fixtures, which are not used here."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A test that leaves the log switched off fails itself, not the ones that read the log after it."""
    yield
    left = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    assert left == logging.NOTSET, "this test leaves logging.disable() behind"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """A fixture whose server cannot be had."""
    return (yield from _skipping_what_is_missing())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test whose server cannot be had."""
    return (yield from _skipping_what_is_missing())


def _skipping_what_is_missing() -> Iterator[None]:
    """Without a server its tests are skipped, and say so; in continuous integration they fail."""
    try:
        yield
    except Missing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL a test process, without fsync; take `database`, or copies of a template of your own."""
    with Postgres() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database for this test alone."""
    url = postgres.database()
    yield url
    postgres.drop(url)
