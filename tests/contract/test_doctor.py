"""`responder doctor`: every way to people, looked at and tested against servers that take only what is expected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from responder.app import CATALOGUE, build
from responder.checkups import Finding
from responder.cli import checks, run
from responder.cli.checks import TEST, looked_at, tried
from responder.config import load_config
from responder.contracts import Notifier, Secret
from responder.notifiers.console import Console
from responder.notifiers.email import Email
from responder.notifiers.pagerduty import PagerDuty
from responder.notifiers.slack import Slack
from responder.notifiers.webhook import Webhook
from responder.timing import SECOND
from tests.fakes import smtp
from tests.fakes.pagerduty import KEY, SENDER, TOKEN, FakePagerDuty
from tests.fakes.receiver import FakeReceiver
from tests.fakes.server import FakeServer
from tests.fakes.slack import TOKEN as SLACK_TOKEN
from tests.fakes.slack import FakeSlack
from tests.fakes.smtp import PASSWORD, USER, FakeSmtp

NOW = 1_800_000_000 * SECOND


def secret(value: str) -> Secret:
    return Secret("env TEST", lambda: value)


async def looks(notifier: Notifier) -> tuple[list[bool | None], str]:
    found = await looked_at("x", notifier)
    await notifier.stop()
    assert {one.what for one in found} == {"notifier x"}
    return [one.good for one in found], "\n".join(one.says for one in found)


async def trial(notifier: Notifier) -> Finding:
    (found,) = await tried("x", notifier, "here", "n1", NOW)
    await notifier.stop()
    return found


# --- Slack ------------------------------------------------------------------------------------------------------------


class SlackLooks(FakeServer):
    """The methods that only look."""

    def __init__(self, scopes: str = "chat:write,channels:read,channels:history", **channel: Any) -> None:
        self.channel = {"id": "C0RISK", "name": "risk", "is_member": True, "is_archived": False, **channel}
        self._scopes = scopes
        looks = {"auth.test": self._auth, "conversations.info": self._info, "conversations.list": self._list}
        super().__init__([Route(f"/api/{name}", answer) for name, answer in looks.items()])

    def configured(self, **more: Any) -> Slack:
        known: dict[str, Any] = {"token": secret(SLACK_TOKEN), "channel": "C0RISK", "base_url": f"{self.url}/api/"}
        return Slack(**known | more)

    def _answer(self, request: Request, body: Mapping[str, Any]) -> Response:
        known = request.headers.get("authorization") == f"Bearer {SLACK_TOKEN}"
        said = {"ok": True, **body} if known else {"ok": False, "error": "invalid_auth"}
        return JSONResponse(said, headers={"x-oauth-scopes": self._scopes})

    async def _auth(self, request: Request) -> Response:
        return self._answer(request, {"user": "responder", "team": "Trading"})

    async def _list(self, request: Request) -> Response:
        if "channels:read" not in self._scopes:
            return self._answer(request, {"ok": False, "error": "missing_scope"})
        return self._answer(request, {"channels": [{"id": "C0RISK", "name": "risk"}]})

    async def _info(self, request: Request) -> Response:
        return self._answer(request, {"channel": self.channel})


async def test_slack_tells_whose_token_it_is_and_that_the_app_is_in_the_channel() -> None:
    async with SlackLooks() as server:
        good, says = await looks(server.configured())
    assert good == [True, True, True]
    assert says.splitlines() == [
        "the token is responder's in Trading",
        "the app is in #risk",
        "with channels:history: a message whose answer is lost is found",
    ]


@pytest.mark.parametrize(
    ("scopes", "channel", "more", "says"),
    [
        ("chat:write,channels:read", {"is_member": False}, {}, "the app is not in #risk: invite it there"),
        ("chat:write,channels:read", {"is_archived": True}, {}, "#risk is archived: unarchive it"),
        ("channels:read", {}, {}, "the app may not write: give it the scope chat:write"),
        ("chat:write", {}, {"token": secret("xoxb-wrong")}, "Slack refuses auth.test: invalid_auth"),
    ],
)
async def test_what_slack_would_refuse_is_found(
    scopes: str, channel: dict[str, Any], more: dict[str, Any], says: str
) -> None:
    async with SlackLooks(scopes, **channel) as server:
        good, said = await looks(server.configured(**more))
    assert (good, said.startswith(says)) == ([False], True), said
    assert "xoxb-wrong" not in said


async def test_what_slack_cannot_show_is_said_to_be_unknown() -> None:
    async with SlackLooks("chat:write") as server:
        _, by_name = await looks(server.configured(channel="#risk"))
        _, without_scope = await looks(server.configured())
    assert "#risk cannot be looked up" in by_name
    assert "write the channel's id, or give the app the scopes channels:read and groups:read" in by_name
    assert "with the scope channels:read it can be looked at" in without_scope
    assert "a message whose answer is lost is posted twice" in without_scope


async def test_a_slack_that_is_not_there_is_found() -> None:
    good, said = await looks(Slack(token=secret("t"), channel="C0RISK", base_url="http://127.0.0.1:1/api/"))
    assert (good, said.startswith("Slack cannot be reached (ConnectError)")) == ([False], True)


async def test_slack_gets_one_marked_line() -> None:
    async with FakeSlack(risk="C0RISK") as server:
        found = await trial(Slack(token=secret(SLACK_TOKEN), channel="#risk", base_url=server.base_url))
        assert found == Finding("test to x", good=True, says="took a line")
        assert [m.text for m in server.messages] == [f"{TEST}: responder here can reach this destination"]


# --- PagerDuty --------------------------------------------------------------------------------------------------------


def pagerduty(server: FakePagerDuty, key: str = KEY, **more: Any) -> PagerDuty:
    return PagerDuty(routing_key=secret(key), base_url=server.url, api_url=server.url, **more)


async def test_pagerduty_is_looked_at_by_the_form_of_its_key_and_by_its_token() -> None:
    async with FakePagerDuty() as server:
        good, said = await looks(pagerduty(server))
        assert (good, said.splitlines()) == (
            [True, True],
            [
                "the routing key looks like one; only a test page shows whether it is",
                "no api_token: no notes, and nobody to ask",
            ],
        )
        good, said = await looks(pagerduty(server, api_token=secret(TOKEN), from_email=SENDER))
        assert (good, said.splitlines()[1]) == ([True, True], "it answers, and knows us")
        good, said = await looks(pagerduty(server, api_token=secret("u+another"), from_email=SENDER))
        assert good == [False]
        assert "u+another" not in said
        assert (server.events, server.pages) == ([], []), "nothing was sent"


async def test_a_key_that_cannot_be_one_is_found_without_showing_it() -> None:
    async with FakePagerDuty() as server:
        good, said = await looks(pagerduty(server, "tooshort"))
    assert (good, said) == ([False], "the routing key in env TEST has 8 characters instead of 32: copy it again")


async def test_pagerduty_gets_one_marked_page_which_is_resolved_at_once_by_its_own_key() -> None:
    async with FakePagerDuty() as server:
        found = await trial(pagerduty(server))
        assert found.good is True
        assert found.says.startswith("took a page and its end; 202 says that it has the events, not that")
        (page,) = server.pages
        assert (page.open, page.key) == (False, "responder/here/doctor/n1:x")
        assert page.triggers[0]["payload"]["summary"].startswith(TEST)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LOOKS", (0.0,) * 4)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("unseen", "token", "good", "said"),
    [
        (2, TOKEN, True, "its incident appeared before it was resolved"),
        (9, TOKEN, False, "made no incident within 15 s"),
        (0, "u+another", False, "cannot be asked: PagerDuty's REST API answers 401"),
    ],
)
async def test_with_a_token_a_test_waits_for_its_incident_and_resolves_it(
    unseen: int, token: str, good: bool, said: str
) -> None:
    async with FakePagerDuty() as server:
        server.unseen = unseen
        found = await trial(pagerduty(server, api_token=secret(token), from_email=SENDER))
        assert (found.good, said in found.says) == (good, True), found.says
        assert [page.open for page in server.pages] == [False]
        assert server.page("responder/here/doctor/n1:x").unseen < unseen or token != TOKEN


async def test_a_key_that_is_wrong_is_found_by_a_test() -> None:
    async with FakePagerDuty() as server:
        found = await trial(pagerduty(server, "f" * 32))
    assert found.good is False
    assert "f" * 32 not in found.says


# --- the others -------------------------------------------------------------------------------------------------------


def email(server: FakeSmtp, **more: Any) -> Email:
    return Email(**{"host": "127.0.0.1", "port": server.port, "from": "r@example.com", "to": ["d@example.com"], **more})


async def test_a_mail_server_is_looked_at_up_to_the_login_and_gets_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(smtp._COMMANDS, "NOOP", FakeSmtp._rset)
    async with FakeSmtp(auth=True) as server:
        assert await looks(email(server, username=USER, password=secret(PASSWORD))) == (
            [True],
            f"127.0.0.1 takes connections in clear, as {USER}",
        )
        assert server.commands == ["EHLO", "AUTH", "NOOP", "QUIT"]
        good, said = await looks(email(server, username=USER, password=secret("wrong one")))
        assert good == [False]
        assert "refuses username and password" in said
        assert "wrong one" not in said
        assert server.mails == []


async def test_a_mail_server_gets_one_marked_mail() -> None:
    async with FakeSmtp() as server:
        assert (await trial(email(server))).good
        (mail,) = server.mails
        assert str(mail.message["Subject"]).startswith(TEST)


async def test_a_webhook_is_not_called_before_a_test_and_then_gets_a_page_and_its_end() -> None:
    async with FakeReceiver() as server:
        hook = Webhook(url=server.address)
        assert await looks(hook) == ([True], "nothing to look at before a message is sent")
        assert server.calls == 0
        assert (await trial(hook)).says == "took a page and its end"
        assert [d["type"] for d in server.documents.values()] == ["page", "resolve"]


async def test_a_mistake_of_ours_in_one_notifier_is_told_and_the_others_go_on() -> None:
    class Broken(Console):
        async def doctor(self) -> tuple[str, ...]:
            raise ValueError("secret")

    assert await looks(Broken()) == ([False], "ValueError: a mistake of the responder; report it")


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration here, nobody's token, wide enough for whole sentences."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("RESPONDER_URL", "RESPONDER_TOKEN", "RESPONDER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


async def ran(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    status = await asyncio.to_thread(run, ["doctor", *words])
    seen = capsys.readouterr()
    return status, seen.out + seen.err


def configured(folder: Path, more: str = "") -> Path:
    path = folder / "responder.yaml"
    people = "auth: {people: {otto: {token: {env: OTTO}, roles: [operator]}}}"
    path.write_text(f"listen: 127.0.0.1:1\nstore: sqlite:///{folder}/responder.db\n{people}\n{more}\n")
    return path


@asynccontextmanager
async def serving(path: Path, environ: dict[str, str]) -> AsyncIterator[str]:
    """The real program on a free port, with its loops."""
    app = await build(load_config(path, CATALOGUE, environ), environ)
    server = uvicorn.Server(uvicorn.Config(app.web, port=0, log_config=None, lifespan="off", ws="none"))
    await app.start()
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.wait([task], timeout=0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        await app.stop()


async def test_a_good_installation_is_well_and_knows_who_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTTO", "otto-token")
    path = configured(tmp_path)
    async with serving(path, {"OTTO": "otto-token"}) as url:
        status, out = await ran(capsys, "--url", url, "--token", "otto-token")
        assert status == 0, out
        assert "known as otto, with operator" in out
        assert f"answers at {url}" in out
        assert "no policy pages anybody but the console" in out
        assert "all that was looked at is well" in out
        status, out = await ran(capsys, "--url", url, "--token", "nobody-s")
        assert status == 1
        assert "does not know the token in --token" in out


async def test_a_server_that_does_not_run_is_bad_and_the_notifiers_are_looked_at_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTTO", "otto-token")
    configured(tmp_path)
    status, out = await ran(capsys, "--json", "--send-test")
    printed, _, answer = out.partition("[\n")
    assert TEST in printed, "the console's own line"
    found = {one["what"]: one["good"] for one in json.loads(f"[{answer}")}
    assert status == 1
    assert found["server"] is False
    assert (found["configuration"], found["notifier console"], found["test to console"]) == (True, True, True)


async def test_a_configuration_that_cannot_be_used_is_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path)
    status, out = await ran(capsys)
    assert status == 1
    assert "the environment variable OTTO is not set" in out


async def test_rules_that_cannot_be_loaded_are_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTTO", "otto-token")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.yaml").write_text("runbook: a\n")
    configured(tmp_path, "rules: [./mine]")
    status, out = await ran(capsys)
    assert status == 1
    assert "a.yaml" in out


async def test_a_notifier_that_does_not_exist_is_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTTO", "otto-token")
    configured(tmp_path)
    status, out = await ran(capsys, "--only", "oncall")
    assert (status, "there is no notifier or service oncall; there are console" in out) == (2, True)


async def test_services_are_looked_at_together_and_a_bad_one_is_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTTO", "otto-token")
    (tmp_path / "scripts").mkdir(mode=0o755)
    good = f"  scripts: {{kind: command, folder: {tmp_path}/scripts}}"
    gone = "  risk: {kind: http, url: 'http://127.0.0.1:1'}"
    path = configured(tmp_path, f"services:\n{good}\n{gone}\nalertmanagers: [{{url: 'http://127.0.0.1:1'}}]")
    status, out = await ran(capsys, "--json", "--config", str(path))
    found = [(one["what"], one["good"]) for one in json.loads(out)]
    assert status == 1
    assert [one for one in found if "risk" in one[0]] == [("service risk", False)]
    assert ("service scripts", True) in found
    assert ("service scripts", None) in found, "no runbook uses it"
    assert ("alertmanager http://127.0.0.1:1", False) in found
    _, out = await ran(capsys, "--json", "--config", str(path), "--only", "scripts")
    looked_at = {one["what"] for one in json.loads(out)}
    assert {what for what in looked_at if what.startswith(("service", "notifier"))} == {"service scripts"}
