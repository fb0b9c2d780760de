"""responder.yaml: its defaults, its secrets, and that a mistake is told with its place and without its value."""

from pathlib import Path

import pytest

from responder.config import BUILT_IN_TYPES, Config, load_config, read_config
from responder.environment import Environment
from responder.errors import BadConfig
from responder.recorded import Mode
from tests.unit.stand_ins import CATALOGUE, SETTINGS, Api, configured

HOME = {"HOME": "/var/ops"}


def refused(text: str, **environ: str) -> str:
    with pytest.raises(BadConfig) as raised:
        configured(text, environ)
    return str(raised.value)


def test_without_a_file_everything_has_a_default() -> None:
    config = load_config(None, CATALOGUE, HOME)
    assert str(config.address) == "127.0.0.1:9099"
    assert config.store == "sqlite:////var/ops/.local/state/responder/responder.db"
    assert (config.mode, config.rules, dict(config.services)) == (Mode.AUTO, (), {})
    assert list(config.notifiers) == ["console"]
    assert config.types == BUILT_IN_TYPES
    assert config.limits.notification.max_alerts == config.limits.alerts == 10_000


def test_the_state_directory_follows_xdg() -> None:
    environ = {**HOME, "XDG_STATE_HOME": "/state"}
    assert load_config(None, CATALOGUE, environ).store == "sqlite:////state/responder/responder.db"


def test_members_are_read_as_their_kind() -> None:
    config = configured()
    assert isinstance(config.services["risk"], Api)
    assert sorted(config.notifiers) == ["console", "oncall", "room"]
    assert config.parameters["risk/kelly"].floor == 0.05
    assert config.roles == {"risk-manager"}


def test_sections_that_are_commented_out_are_defaults() -> None:
    config = configured("services:\nauth:\nlimits:\nrules:\n")
    assert (config.auth.webhook, config.limits.concurrency) == ((), 256)


# -------------------------------------------------------------------------------------------------------------- secrets

TOKEN = "services: {risk: {kind: api, url: http://risk, token: {%s}}}"


def api(config: Config) -> Api:
    service = config.services["risk"]
    assert isinstance(service, Api)
    return service


def test_a_secret_is_read_when_it_is_used() -> None:
    environ = {"T": "first", **HOME}
    token = api(read_config("c", TOKEN % "env: T", CATALOGUE, Environment(environ, Path("/")))).token
    assert token is not None
    assert token.reveal() == "first"
    environ["T"] = "second"
    assert token.reveal() == "second"
    assert str(token) == "Secret(env T)"
    del environ["T"]
    with pytest.raises(BadConfig, match="the environment variable T is not set"):
        token.reveal()


def test_a_secret_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    token = api(configured(TOKEN % "file: token", HOME, tmp_path)).token
    assert token is not None
    assert token.reveal() == "first"
    (tmp_path / "token").write_text("second-one\n")
    assert token.reveal() == "second-one"


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "a\x00b"])
def test_what_cannot_be_a_secret_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with pytest.raises(BadConfig) as raised:
        configured(TOKEN % "file: token", HOME, tmp_path)
    assert "services.risk.token: the file token" in str(raised.value)
    assert "two" not in str(raised.value)


def test_a_secret_in_plain_text_is_refused_and_not_repeated() -> None:
    told = refused("services:\n  risk:\n    kind: api\n    url: http://risk\n    token: hunter2\n")
    assert told.splitlines() == [
        "responder.yaml:5:12: services.risk.token: a secret must not be written here",
        "    5 |     token: …",
        "      |            ^",
        "   hint: write {env: NAME} or {file: PATH}; a secret never stands in a configuration file",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "services: {risk: {kind: api, url: http://risk, tokn: hunter2}}",
        "services: {risk: {kind: hunter2}}",
        "notifiers: {a: {kind: pager, key: [hunter2]}}",
        "auth: {people: {alice: {token: hunter2}}}",
        "auth: {webhook: [{bearer: hunter2}]}",
        "auth: {webhook: [{basic: {username: am, password: hunter2}}]}",
        "store: postgresql://ops:hunter2@db/responder",
        "external_url: https://ops:hunter2@here",
        "token: hunter2",
        "token: 'hunter2",
        "auth: {webhook: hunter2}",
    ],
)
def test_no_message_repeats_what_may_be_secret(text: str) -> None:
    assert "hunter2" not in refused(text, **HOME)


def test_a_missing_secret_is_told_at_its_place_unless_secrets_are_not_checked() -> None:
    text = TOKEN % "env: T"
    assert "services.risk.token: the environment variable T is not set" in refused(text, **HOME)
    config = read_config("c", text, CATALOGUE, Environment(HOME, Path("/"), check_secrets=False))
    assert str(api(config).token) == "Secret(env T)"


def test_plain_text_may_come_from_outside_too(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://risk.internal\n")
    text = "store: {env: DB}\nlimits: {waiting: {env: W}}\nlisten: {env: L}\n"
    text += "services: {risk: {kind: api, url: {file: url}}}\n"
    config = configured(text, {"DB": "sqlite:///x", "W": "5s", "L": "[::1]:80"}, tmp_path)
    assert (config.store, config.limits.waiting, api(config).url) == ("sqlite:///x", 5_000_000, "http://risk.internal")
    assert (config.address.host, config.address.port, config.address.loopback) == ("::1", 80, True)


def test_the_env_of_a_service_is_no_reference() -> None:
    assert configured("services: {risk: {kind: api, url: http://risk, env: prod}}").services["risk"].env == "prod"
    assert configured("types: {env: '[a-z]+'}").types["env"] == "[a-z]+"


# ---------------------------------------------------------------------------------------------------------- credentials


def test_two_credentials_are_valid_while_one_is_rotated() -> None:
    text = """
auth:
  webhook: [{bearer: {env: A}}, {bearer: {env: B}}, {basic: {username: am, password: {env: A}}}]
  people:
    alice: {token: [{env: A}, {env: B}], roles: [operator]}
    bob: {token: {env: B}}
"""
    auth = configured(text, {"A": "a", "B": "b", **HOME}).auth
    assert [c.bearer.reveal() for c in auth.webhook if c.bearer] == ["a", "b"]
    assert auth.webhook[2].basic is not None
    assert [s.reveal() for s in auth.people["alice"].token] == ["a", "b"]
    assert [s.reveal() for s in auth.people["bob"].token] == ["b"]


@pytest.mark.parametrize(
    "given",
    [
        "{}",
        "{bearer: {env: A}, basic: {username: am, password: {env: A}}}",
        "{bearer: {env: A}, hmac: {secret: {env: A}}}",
    ],
)
def test_a_credential_is_one_thing(given: str) -> None:
    told = refused(f"auth: {{webhook: [{given}]}}", A="a", **HOME)
    assert "auth.webhook[0]: a credential has either 'bearer' or 'basic' or 'hmac'" in told


def test_a_key_that_signs_the_body() -> None:
    text = (
        "auth: {webhook: [{hmac: {secret: {env: A}}}, {hmac: {secret: {env: A}, header: X-S, timestamp_header: X-T}}]}"
    )
    plain, stamped = (credential.hmac for credential in configured(text, {"A": "a", **HOME}).auth.webhook)
    assert plain is not None
    assert stamped is not None
    assert (plain.secret.reveal(), plain.header, plain.timestamp_header) == ("a", None, None)
    assert (stamped.header, stamped.timestamp_header) == ("X-S", "X-T")
    assert "a secret must not be written here" in refused("auth: {webhook: [{hmac: {secret: abc}}]}", **HOME)


def test_a_signature_stands_in_a_header() -> None:
    told = refused("auth: {webhook: [{hmac: {secret: {env: A}, header: 'X Signature:'}}]}", A="a", **HOME)
    assert "auth.webhook[0].hmac.header: no name of an HTTP header" in told
    assert "X-Grafana-Alerting-Signature" in told


@pytest.mark.parametrize("listen", ["0.0.0.0:9099", ":9099", "'[::]:80'", "responder.internal:80", "10.0.0.1:80"])
def test_others_are_not_let_in_without_credentials(listen: str) -> None:
    told = refused(f"listen: {listen}\n", **HOME)
    assert "can be reached from other machines, and nobody needs a credential" in told
    assert "hint: add `auth: {webhook: [{bearer: {env: NAME}}]}`, or listen on 127.0.0.1" in told
    assert not configured(
        f"listen: {listen}\nauth: {{webhook: [{{bearer: {{env: A}}}}]}}", {"A": "a", **HOME}
    ).address.loopback


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lisen: 127.0.0.1:1", "1:1: lisen: unknown key"),
        ("file: x", "1:1: file: unknown key"),
        ("folder: x", "1:1: folder: unknown key"),
        ("listen: '9099'", "1:9: listen: an address is a host and a port"),
        ("listen: 127.0.0.1:99999", "1:9: listen: an address is a host and a port"),
        ("mode: automatic", "1:7: mode: 'automatic' is not one of observe, approve, auto"),
        ("heartbeats: {watchdog: 5m}", "1:14: heartbeats.watchdog: unknown key"),
        ("limits: {body: 1}", "1:10: limits.body: unknown key"),
        ("limits: {alerts: 0}", "1:18: limits.alerts: input should be greater than or equal to 1"),
        ("rules: edge-risk", "1:8: rules: a list is needed here, not text ('edge-risk')"),
        ("types: {a: '[a-z'}", "1:13: types.a: a [ without its ]"),
        ("services: {a: {kind: apu, url: x}}", "1:22: services.a.kind: unknown kind of service"),
        ("services: {a: {url: x}}", "1:12: services.a: the key 'kind' is missing"),
        ("services: [a]", "1:11: services: `key: value` pairs are needed here"),
        ("notifiers: {a: {kind: pagr}}", "1:23: notifiers.a.kind: unknown kind of notifier"),
        ("notifiers: {a: {kind: pager}}", "1:13: notifiers.a: the key 'key' is missing"),
        (
            "alertmanagers: [{url: 'am:9093'}]",
            "1:17: alertmanagers[0]: the url of an Alertmanager begins with http:// or https://",
        ),
        ("- a", "1:1: a configuration is written as `key: value` pairs"),
        ("a: 1\na: 2", "2:1: a: the key 'a' is written twice"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, told: str) -> None:
    assert refused(text, **HOME).splitlines()[0] == f"responder.yaml:{told}"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("service: risk\n", "service: risc\n", "parameters.risk/kelly"),
        ("{k: '{{ value }}'}", "{k: '{{ valu }}'}", "there is no 'valu' here"),
        ("{k: '{{ value }}'}", "{k: '{% if x %}'}", "a template of a runbook has no statements"),
    ],
)
def test_a_parameter_that_could_not_be_set_is_found_at_loading(old: str, new: str, told: str) -> None:
    assert SETTINGS.count(old) == 1
    message = refused(SETTINGS.replace(old, new), KEY="k", TOKEN="t", **HOME)
    assert told.replace("parameters.risk/kelly", 'parameters["risk/kelly"].service: unknown service') in message


def test_all_mistakes_are_told_at_once() -> None:
    text = (
        "lisen: a\nservices: {a: {kind: apu}}\nnotifiers: {p: {kind: pager, key: {env: NONE}}}\nlimits: {alerts: x}\n"
    )
    lines = [line for line in refused(text, **HOME).splitlines() if line.startswith("responder.yaml")]
    assert [line.split(":")[1] for line in lines] == ["1", "2", "3", "4"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="cannot be read"):
        load_config(tmp_path / "none.yaml", CATALOGUE, HOME)
    (tmp_path / "c.yaml").write_bytes(b"a: \xff")
    with pytest.raises(BadConfig, match="not UTF-8"):
        load_config(tmp_path / "c.yaml", CATALOGUE, HOME)


def test_a_file_knows_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("rules: [./mine]\n")
    config = load_config(tmp_path / "c.yaml", CATALOGUE, HOME)
    assert (config.file, config.folder) == (tmp_path / "c.yaml", tmp_path.resolve())
