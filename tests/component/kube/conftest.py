"""A client on the fake API server, or on a real one where HEADRACE_TEST_KUBECONFIG names its kubeconfig."""

import os
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from headrace_fakes.apiserver import FakeApiServer

from headrace.kube.client import KubeClient, connect
from headrace.kube.kinds import NAMESPACE
from headrace.observability.metrics import Metrics
from headrace.settings import Settings


@dataclass
class Target:
    """What a conformance test runs against."""

    kube: KubeClient
    namespace: str
    fake: FakeApiServer | None


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as fake:
        path = tmp_path / "kubeconfig"
        path.write_text(fake.kubeconfig())
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield fake


@pytest.fixture
def settings() -> Settings:
    return Settings(request_timeout_s=2.0, request_deadline_s=10.0, listen_host="127.0.0.1", listen_port=0)


@pytest.fixture
async def kube(server: FakeApiServer, settings: Settings) -> AsyncIterator[KubeClient]:
    async with connect(settings.max_requests) as api:
        yield KubeClient.create_for(api, settings, Metrics(), random.Random(1))  # noqa: S311  jitter


@pytest.fixture(params=["fake", "real"])
async def target(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Target]:
    real = os.environ.get("HEADRACE_TEST_KUBECONFIG")
    namespace = f"conformance-{uuid.uuid4().hex[:6]}"
    if request.param == "real":
        if not real:
            pytest.skip("HEADRACE_TEST_KUBECONFIG is not set: no real API server to compare with")
        monkeypatch.setenv("KUBECONFIG", real)
        fake = None
    else:
        fake = FakeApiServer()
        await fake.start()
        path = tmp_path / "kubeconfig"
        path.write_text(fake.kubeconfig())
        monkeypatch.setenv("KUBECONFIG", str(path))
    settings = Settings()
    async with connect(settings.max_requests) as api:
        kube = KubeClient.create_for(api, settings, Metrics(), random.Random(1))  # noqa: S311  jitter
        await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        try:
            yield Target(kube, namespace, fake)
        finally:
            await kube.delete(NAMESPACE, None, namespace)
            if fake is not None:
                await fake.stop()
                fake.deployments.stop()
