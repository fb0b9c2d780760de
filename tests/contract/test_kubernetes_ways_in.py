"""Who we are for a cluster: a kubeconfig, the service account of the pod, or plain settings; and over TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import kubernetes.aio.config.incluster_config as incluster
import pytest
import trustme

from responder.errors import Permanent, Temporary
from responder.services import KubernetesService
from tests.contract.kubernetes_parts import APP, Desk, service
from tests.fakes.kubernetes import ApiServer, Cluster
from tests.fakes.kubernetes_objects import NAMESPACE, workload

STATUS = "kubernetes.rollout_status"


@pytest.fixture
def cluster() -> Cluster:
    found = Cluster()
    found.add("deployments", workload("Deployment", "trading-app"))
    return found


def written(path: Path, url: str, token: str, **about: Any) -> Path:
    """A kubeconfig with the contexts `prod` and `broken`."""
    contexts = {"prod": {"cluster": "one", "user": "responder"}, "broken": {"cluster": "none", "user": "responder"}}
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "broken",
        "clusters": [{"name": "one", "cluster": {"server": url, **about}}],
        "users": [{"name": "responder", "user": {"token": token}}],
        "contexts": [{"name": name, "context": context} for name, context in contexts.items()],
    }
    path.write_text(json.dumps(whole))
    return path


def by_file(path: Path, **fields: Any) -> Desk:
    whole = {"kubeconfig": str(path), "context": "prod", "namespaces": [NAMESPACE], **fields}
    return Desk(KubernetesService.model_validate(whole))


async def test_a_kubeconfig_is_used_with_its_context(cluster: Cluster, tmp_path: Path) -> None:
    async with ApiServer(cluster) as server:
        desk = by_file(written(tmp_path / "config", server.url, cluster.token))
        assert (await desk.done(STATUS, workload=APP))["done"]


async def detail(desk: Desk) -> str:
    """Why it cannot be read."""
    return (await desk.act(STATUS, await desk.prepare(STATUS, workload=APP))).detail


@pytest.mark.parametrize(
    ("context", "about", "said"),
    [
        ("broken", {}, "kubeconfig"),
        ("unheard-of", {}, "kubeconfig"),
        ("prod", {"insecure-skip-tls-verify": True}, "remove insecure-skip-tls-verify and name the authority"),
        ("prod", {"server": "http://cluster.example"}, "must begin with https://"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_told(
    tmp_path: Path, context: str, about: dict[str, Any], said: str
) -> None:
    url = str(about.pop("server", "https://127.0.0.1:1"))
    path = written(tmp_path / "config", url, "s3cret-token-xyz", **about)
    told = await detail(by_file(path, context=context))
    assert said in told
    assert "s3cret-token-xyz" not in told


async def test_a_kubeconfig_that_is_not_there_or_no_yaml_is_told(tmp_path: Path) -> None:
    assert "kubeconfig" in await detail(by_file(tmp_path / "none"))
    (tmp_path / "bad").write_text("token: [s3cret-token-xyz")
    told = await detail(by_file(tmp_path / "bad"))
    assert "check it with kubectl" in told
    assert "s3cret-token-xyz" not in told


async def test_the_service_account_of_the_pod_is_used(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    (tmp_path / "token").write_text(cluster.token)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    monkeypatch.setattr(incluster, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    heard: list[bytes] = []
    async with await _tls(authority, heard) as listening:
        port = listening.sockets[0].getsockname()[1]
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        desk = Desk(KubernetesService(in_cluster=True, namespaces=(NAMESPACE,)))
        assert "does not know us" in await detail(desk)
    assert f"earer {cluster.token}".encode() in heard[0]


async def test_outside_of_a_pod_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    desk = Desk(KubernetesService(in_cluster=True, namespaces=(NAMESPACE,)))
    assert "the service account of this pod (in_cluster)" in await detail(desk)


async def test_over_tls_only_a_known_authority_is_believed_and_no_proxy_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    heard: list[bytes] = []
    async with await _tls(authority, heard) as listening:
        url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        assert "does not know us" in await detail(Desk(service(url, ca_file=str(tmp_path / "ca.pem"))))
        stranger = Desk(service(url, ca_file=str(tmp_path / "other.pem")))
        with pytest.raises(Temporary, match="nothing was sent"):
            await stranger.prepare("kubernetes.rollout_restart", workload=APP)
        missing = Desk(service(url, ca_file=str(tmp_path / "none.pem")))
        with pytest.raises(Permanent, match="cannot be used"):
            await missing.prepare("kubernetes.rollout_restart", workload=APP)
    assert len(heard) == 1


async def _tls(authority: trustme.CA, heard: list[bytes]) -> asyncio.Server:
    """A server that knows nobody: it hears one request and answers 401."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        body = b'{"kind":"Status","reason":"Unauthorized","message":"Unauthorized"}'
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
