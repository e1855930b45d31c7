"""The parts that every test of the operator's loops on the fake API server needs: a client, a service, fresh stores."""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.kube.client import KubeClient, connect
from headrace.kube.interface import Kind, Manifest
from headrace.loops.stores import ObjectStore
from headrace.observability.metrics import Metrics
from headrace.settings import Settings
from headrace_fakes.apiserver import FakeApiServer


@asynccontextmanager
async def connected(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[FakeApiServer, KubeClient]]:
    """A fake API server and the operator's own client on it, by a kubeconfig in the folder."""
    async with FakeApiServer() as server:
        path = folder / "kubeconfig"
        path.write_text(server.kubeconfig())
        monkeypatch.setenv("KUBECONFIG", str(path))
        async with connect(settings.max_requests) as api:
            yield server, KubeClient.create_for(api, settings, Metrics(), random.Random(1))  # noqa: S311  jitter


async def apply_service(kube: KubeClient, spec: Mapping[str, Any], name: str = "chat") -> Manifest:
    """As kubectl applies an InferenceService. Fields that are None are left out."""
    body = {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
    return await kube.apply(body, "kubectl")


async def settle(server: FakeApiServer, kube: KubeClient, stores: Mapping[Kind, ObjectStore]) -> None:
    """Let the fake's controllers run until nothing is written; the stores are then as the watches would keep them."""
    version = -1
    while version != server.store.version:
        version = server.store.version
        for kind, store in stores.items():
            mark = store.mark()
            store.replace(await kube.list(kind), mark)
