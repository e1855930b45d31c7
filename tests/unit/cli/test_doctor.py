"""The doctor's round through a cluster: every part that can't be asked is a finding."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from headrace.api import crdgen
from headrace.cli import doctor
from headrace.cli.checks import Finding, Level
from headrace.kube.interface import Forbidden, Kube, Unavailable

NODE = {"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
CRD = {**crdgen.crd(), "status": {"conditions": [{"type": "Established", "status": "True"}]}}


class Cluster:
    """A cluster with a CRD, a node and nothing else; `granted` says what the operator may do."""

    def __init__(self, granted: Callable[[dict[str, Any]], bool]) -> None:
        self.granted = granted

    async def get(self, _kind: object, _namespace: str | None, name: str) -> dict[str, Any] | None:
        return CRD if name == doctor.CRD_NAME else None

    async def list(self, kind: Any, _namespace: str | None = None, _labels: Any = None) -> list[dict[str, Any]]:
        return [NODE] if kind.kind == "Node" else []

    async def create(self, review: dict[str, Any]) -> dict[str, Any]:
        return {"status": {"allowed": self.granted(review["spec"]["resourceAttributes"])}}


def connect(cluster: Cluster, impersonation: bool = True) -> Callable[[str], AbstractAsyncContextManager[Kube]]:
    @asynccontextmanager
    async def connected(who: str) -> AsyncIterator[Kube]:
        if who and not impersonation:
            raise Forbidden("cannot impersonate")
        yield cluster  # type: ignore[misc]

    return connected


async def findings(connected: Any) -> dict[str, Finding]:
    return {f.check: f async for f in doctor.examine(connected, None, "headrace-system", "", lambda: 0.0)}


async def test_a_cluster_without_an_operator_fails_there_and_only_there() -> None:
    found = await findings(connect(Cluster(lambda _: True)))
    assert [f.check for f in found.values() if f.level is Level.FAIL] == ["operator"]
    assert found["permissions"].level is Level.OK
    assert found["Prometheus"].level is Level.WARN


async def test_a_missing_permission_is_named() -> None:
    found = await findings(connect(Cluster(lambda asked: asked["resource"] != "leases")))
    assert found["permissions"].level is Level.FAIL
    assert "get leases.coordination.k8s.io" in found["permissions"].message


async def test_a_user_who_may_not_impersonate_is_told_where_to_ask() -> None:
    found = await findings(connect(Cluster(lambda _: True), impersonation=False))
    assert found["permissions"].level is Level.WARN
    assert "exec deploy/headrace-operator -- headrace doctor" in found["permissions"].mend


async def test_an_api_server_that_is_not_there_is_the_only_finding() -> None:
    @asynccontextmanager
    async def nowhere(_who: str) -> AsyncIterator[Kube]:
        raise Unavailable("connection refused")
        yield

    found = await findings(nowhere)
    assert list(found) == ["API server"]
    assert "connection refused" in found["API server"].message


async def test_a_prometheus_that_is_not_there_is_a_finding() -> None:
    finding = await doctor.prometheus("http://127.0.0.1:9", 1)
    assert finding.level is Level.WARN
    assert "does not answer" in finding.message


def test_findings_are_shown_with_their_mends(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.show([Finding(Level.FAIL, "CRD", "is not installed", "kubectl apply"), Finding(Level.OK, "x", "well")])
    shown = capsys.readouterr().out
    assert "CRD: is not installed\n     mend: kubectl apply\n" in shown
    assert shown.count("mend") == 1
