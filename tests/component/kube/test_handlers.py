"""How kopf is set up: what it may never do is said here, whatever it does by default."""

import asyncio
from pathlib import Path
from typing import Any

import kopf
import pytest

from headrace import handlers
from headrace.kube.kinds import CHILD_KINDS, INFERENCE_SERVICE, LEASE, POD
from headrace.settings import Settings


class Nobody:
    def service_event(self, *_: Any, **__: Any) -> None: ...

    child_event = pod_event = lease_event = service_event


async def test_only_event_handlers_are_registered_one_for_each_kind() -> None:
    registry = handlers.build_registry(Nobody(), asyncio.get_running_loop())
    assert registry._changing.get_all_handlers() == []  # these would write annotations
    assert registry._spawning.get_all_handlers() == []  # timers and daemons: finalizers
    assert registry._indexing.get_all_handlers() == []
    watched = {handler.selector.plural or handler.selector.any_name for handler in registry._watching.get_all_handlers()
               if handler.selector is not None}  # fmt: skip
    assert len(registry._watching.get_all_handlers()) == len(CHILD_KINDS) + 3
    assert watched == {kind.plural for kind in (*CHILD_KINDS, INFERENCE_SERVICE, POD, LEASE)}


def test_kopf_neither_elects_nor_scans_nor_posts() -> None:
    settings = handlers.build_settings(Settings())
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert (settings.watching.server_timeout, settings.watching.client_timeout) == (240.0, 300.0)


def test_the_way_to_the_api_server_is_the_kubeconfig_where_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],"
        " clusters: [{name: c, cluster: {server: 'https://named:6443'}}], users: [{name: u, user: {token: t}}]}"
    )
    monkeypatch.setenv("KUBECONFIG", str(path))
    info = handlers.login(kopf.OperatorSettings())
    assert info is not None
    assert info.server == "https://named:6443"


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
def test_in_a_pod_the_api_server_is_reached_by_address(monkeypatch: pytest.MonkeyPatch, host: str, server: str) -> None:
    in_pod = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="t")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: in_pod)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    info = handlers.login(kopf.OperatorSettings())
    assert info is not None
    assert (info.server, info.token) == (server, "t")
