"""The shipped catalogues with their example configurations."""

from __future__ import annotations

from functools import cache

from responder.config import Config, load_config
from responder.loader import load_rules
from responder.rules import Rules
from responder.services import KubernetesService
from responder.sources import Folders, read_sources, shipped_rules
from tests.acceptance.stage import CATALOGUE


@cache
def loaded(*platforms: str) -> tuple[Rules, Config]:
    """Catalogues with the services and notifiers of their example configurations."""
    configs = []
    for platform in platforms:
        path = shipped_rules() / platform / "_responder.example.yaml"
        configs.append(load_config(path, CATALOGUE, {"HOME": "/var/ops"}, check_secrets=False))
    notifiers = {name: notifier for config in configs for name, notifier in config.notifiers.items()}
    services = {name: service for config in configs for name, service in config.services.items()}
    clusters = [config.services["cluster"] for config in configs if "cluster" in config.services]
    if clusters:  # one responder for several platforms acts in the namespaces of all
        everywhere = [name for one in clusters if isinstance(one, KubernetesService) for name in one.namespaces]
        services["cluster"] = clusters[0].model_copy(update={"namespaces": tuple(everywhere)})
    parameters = {name: parameter for config in configs for name, parameter in config.parameters.items()}
    whole = configs[0].model_copy(update={"notifiers": notifiers, "services": services, "parameters": parameters})
    sources = read_sources(platforms, Folders(shipped_rules(), whole.folder))
    return load_rules(sources, CATALOGUE, whole).rules, whole


def alert(platform: str, name: str, severity: str) -> dict[str, str]:
    """The labels of one of a platform's alerts."""
    return {"alertname": name, "platform": platform, "env": "prod", "severity": severity}
