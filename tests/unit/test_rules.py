"""The shipped rules and configurations load against the real tables, and say what the operations ask for."""

from pathlib import Path

import pytest

from responder.actions import ACTIONS
from responder.config import BUILT_IN_TYPES, Config, load_config, read_config
from responder.contracts import Catalogue
from responder.environment import Environment
from responder.errors import BadRules
from responder.loader import Loaded, load_rules
from responder.notifiers import NOTIFIERS
from responder.recorded import Mode
from responder.services import SERVICES
from responder.sources import Folders, read_sources, shipped_rules
from responder.timing import HOUR, MINUTE, SECOND

CATALOGUE = Catalogue(ACTIONS, NOTIFIERS, SERVICES)
ALERT = {"alertname": "VaRBreach", "platform": "edge-risk", "env": "prod", "severity": "critical", "symbol": "BTC-USD"}
CHECKOUT = shipped_rules().parent
KEYS = frozenset(Config.model_fields)


def example() -> Config:
    path = shipped_rules() / "edge-risk" / "_responder.example.yaml"
    return load_config(path, CATALOGUE, {"HOME": "/var/ops"}, check_secrets=False)


def shipped(*entries: str) -> Loaded:
    config = example()
    return load_rules(read_sources(entries, Folders(shipped_rules(), config.folder)), CATALOGUE, config)


def test_the_default_configuration_works_without_anything() -> None:
    config = load_config(CHECKOUT / "responder.yaml", CATALOGUE, {"HOME": "/var/ops"})
    loaded = load_rules(read_sources(config.rules, Folders(shipped_rules(), config.folder)), CATALOGUE, config)
    assert (loaded.rules.default_policy, dict(loaded.rules.runbooks), loaded.warnings) == ("default", {}, ())
    assert loaded.rules.policy("default").levels[0].page == ("console",)


def test_the_default_configuration_says_the_defaults() -> None:
    written = load_config(CHECKOUT / "responder.yaml", CATALOGUE, {"HOME": "/var/ops"})
    assert written == load_config(None, CATALOGUE, {"HOME": "/var/ops"}).model_copy(
        update={"file": written.file, "folder": written.folder}
    )


def test_what_the_default_configuration_shows_in_comments_is_right() -> None:
    lines = (CHECKOUT / "responder.yaml").read_text(encoding="utf-8").splitlines()
    shown = [line.removeprefix("# ") for line in lines if line.startswith("#   ") or line[2:].partition(":")[0] in KEYS]
    text = "\n".join(line for line in shown if not line.startswith("store: sqlite"))
    environ = {"DATABASE_URL": "postgresql://ops:secret@db/responder", "DEAD_MANS_SWITCH": "https://beats.example/x"}
    config = read_config("shown", text, CATALOGUE, Environment(environ, CHECKOUT, check_secrets=False))
    assert set(config.model_fields_set) >= {
        "name",
        "external_url",
        "store",
        "rules",
        "templates",
        "alertmanagers",
        "auth",
    }
    assert (sorted(config.services), sorted(config.parameters)) == (
        ["metrics", "risk-api"],
        ["risk-api/kelly_fraction"],
    )
    assert config.types == BUILT_IN_TYPES


def test_the_edge_risk_rules_load_without_a_warning() -> None:
    loaded = shipped("edge-risk")
    runbooks = loaded.rules.runbooks
    assert loaded.warnings == ()
    assert {r.mode for r in runbooks.values()} == {Mode.AUTO}
    assert all(runbooks[name].brake for name in ("halt-trading", "var-breach"))
    assert not any(runbooks[name].match for name in ("hot-reload", "restart-sequence"))


def test_a_breach_of_any_symbol_is_one_incident() -> None:
    rules = shipped("edge-risk").rules
    routes = [rules.route({**ALERT, "symbol": symbol}) for symbol in ("BTC-USD", "ETH-USD")]
    assert {route.target for route in routes} == {"risk-api/kelly_fraction"}
    assert [route.each for route in routes] == [{"symbol": "BTC-USD"}, {"symbol": "ETH-USD"}]


@pytest.mark.parametrize("label", ["env", "platform"])
def test_alerts_of_other_places_never_reach_them(label: str) -> None:
    assert shipped("edge-risk").rules.route({**ALERT, label: "staging"}).runbook is None


def test_a_strange_symbol_does_not_stop_the_run() -> None:
    route = shipped("edge-risk").rules.route({**ALERT, "symbol": '"} or vector(1)'})
    assert (route.problem, dict(route.each), len(route.each_problems)) == (None, {}, 1)


def test_the_ladder_is_that_of_the_operations() -> None:
    rules = shipped("edge-risk").rules
    friday_afternoon, at_night = 1_795_183_200 * SECOND, 1_795_183_200 * SECOND + 8 * HOUR
    policy = rules.policy(rules.policy_for(rules.runbooks["var-breach"], "critical", friday_afternoon))
    assert policy.grace == 2 * MINUTE
    assert [(level.after // MINUTE, level.page) for level in policy.levels] == [
        (0, ("trading-oncall",)), (15, ("quant",)), (30, ("pm", "risk")), (60, ("cto", "cro")),
    ]  # fmt: skip
    assert rules.policy_for(None, "warning", friday_afternoon) == "edge-risk"
    assert rules.policy_for(None, "warning", at_night) == "edge-risk-nights"


def test_halting_follows_after_five_minutes_and_no_alert_starts_it() -> None:
    rules = shipped("edge-risk").rules
    ((_, first), (after, second)) = rules.runbooks["var-breach"].promises
    assert (first.page, second.run, second.page, after) == (("pm",), "halt-trading", ("cro",), 5 * MINUTE)
    assert rules.matching({**ALERT, "alertname": "halt-trading"}) == ()


# -------------------------------------------------------------------------------------------------------------- sources


def test_entries_are_catalogues_or_paths(tmp_path: Path) -> None:
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "tests").mkdir()
    (tmp_path / "mine" / "_old").mkdir()
    for name in (
        "a.yaml",
        "deep/b.yml",
        "_defaults.yaml",
        "_draft.yaml",
        "tests/t.yaml",
        "_old/o.yaml",
        "readme.md",
        ".x.yaml",
    ):
        (tmp_path / "mine" / name).write_text("")
    (tmp_path / "one.yaml").write_text("# one")
    sources = read_sources(["./mine", "one.yaml", "mine/a.yaml"], Folders(shipped_rules(), tmp_path))
    assert list(sources) == ["mine/_defaults.yaml", "mine/a.yaml", "mine/deep/b.yml", "one.yaml", "rules/policies.yaml"]
    assert sources["one.yaml"] == "# one"


def test_the_shipped_folder_as_a_path_is_read_once() -> None:
    folders = Folders(shipped_rules(), CHECKOUT)
    catalogues = sorted(path.parent.name for path in shipped_rules().glob("*/policies.yaml"))
    assert read_sources(["./rules", "edge-risk"], folders).keys() == read_sources(catalogues, folders).keys()


def test_entries_that_do_not_exist_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"a: \xff")
    with pytest.raises(BadRules) as raised:
        read_sources(["edge-rsk", "./none", "bad.yaml"], Folders(shipped_rules(), tmp_path))
    told = str(raised.value)
    assert "there is no shipped catalogue 'edge-rsk'" in told
    assert "did you mean 'edge-risk'?" in told
    assert "there is no such file or folder" in told
    assert "byte 0xff is not UTF-8 text" in told


def test_hundreds_of_runbooks_are_loaded() -> None:
    config = example()
    sources = dict(read_sources(["edge-risk"], Folders(shipped_rules(), config.folder)))
    text = sources["rules/edge-risk/var-breach.yaml"]
    for number in range(300):
        copy = text.replace("var-breach", f"var-breach-{number}").replace("VaRBreach", f"VaRBreach{number}")
        sources[f"rules/edge-risk/copy-{number}.yaml"] = copy
    shipped_ones = len(shipped("edge-risk").rules.runbooks)
    assert len(load_rules(sources, CATALOGUE, config).rules.runbooks) == 300 + shipped_ones
