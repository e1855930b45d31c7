"""A Reconciler on the fake API server, with engines and gateways that say what a test wants."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from headrace_fakes.apiserver import FakeApiServer
from headrace_fakes.clock import ManualClock
from headrace_fakes.cluster import apply_service, connected, settle

from headrace.api.roles import Role
from headrace.autoscaler.decision import Constraint, Decision, Reason, RoleDecision, RoleTarget, SignalHealth
from headrace.autoscaler.signals import EngineLoad
from headrace.engines.client import Reading
from headrace.kube.client import KubeClient
from headrace.kube.events import EventRecorder
from headrace.kube.interface import Manifest
from headrace.kube.kinds import CHILD_KINDS, EVENT, INFERENCE_SERVICE, POD
from headrace.loops.book import DecisionBook
from headrace.loops.keys import Key
from headrace.loops.reconcile import Reconciler
from headrace.loops.stores import PodStore
from headrace.observability.metrics import Metrics
from headrace.settings import Settings

IDLE = EngineLoad(running_requests=0, waiting_requests=0, used_tokens=0, max_total_tokens=1000, max_running_requests=8)
SPEC = {
    "model": {"source": "file:///nowhere/tiny"},
    "accelerator": "cpu",
    "topology": "Disaggregated",
    "prefill": {"replicas": {"min": 1, "max": 3}},
    "decode": {"replicas": {"min": 1, "max": 3}},
}


class FakeEngines:
    """Every pod of the fake server has one address, so one answer serves all: a gateway's list, an engine's load."""

    def __init__(self) -> None:
        self.listed: frozenset[str] | None = frozenset()
        self.load: EngineLoad | None = IDLE

    async def engine(self, address: str) -> Reading:
        return Reading(0.0, self.load)

    async def workers(self, address: str) -> frozenset[str] | None:
        return self.listed


class MortalKube:
    """The client of an operator that is killed after some more writes."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self.writes_left: float = float("inf")

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._kube, name)
        if name in {"get", "list"}:
            return call

        async def write(*args: Any, **options: Any) -> Any:
            if self.writes_left <= 0:
                raise Killed("killed")
            self.writes_left -= 1
            return await call(*args, **options)

        return write


class Killed(BaseException):
    """The process is gone: nothing of it may catch this."""


@dataclass
class World:
    """Everything that a pass touches."""

    server: FakeApiServer
    kube: KubeClient
    clock: ManualClock
    engines: FakeEngines
    book: DecisionBook
    pods: PodStore
    settings: Settings
    killed: type[BaseException] = Killed
    key: Key = field(default_factory=lambda: Key("default", "chat"))
    reconciler: Reconciler = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new operator process: nothing in memory is left."""
        self.book, self.pods, self.metrics = DecisionBook(), PodStore(), Metrics()
        self.mortal = MortalKube(self.kube)
        recorder = EventRecorder(self.mortal, self.clock, "test")
        self.reconciler = Reconciler(
            self.mortal, self.settings, self.clock, self.book, self.pods, recorder, self.metrics, engines=self.engines
        )

    async def apply(self, name: str = "chat", **changes: Any) -> Manifest:
        return await apply_service(self.kube, {**SPEC, **changes}, name)

    async def step(self, key: Key | None = None) -> float | None:
        """One pass, with the pods as the watch would show them; the controllers act before and after it."""
        await self.settle()
        again = await self.reconciler.reconcile(key or self.key)
        await self.settle()
        self.clock.at += 1.0
        return again

    async def steps(self, count: int) -> None:
        for _ in range(count):
            await self.step()

    async def settle(self) -> None:
        """Let the fake's controllers run until nothing is written, then refresh the pod store."""
        await settle(self.server, self.kube, {POD: self.pods})

    async def service(self, name: str = "chat") -> Manifest:
        found = await self.kube.get(INFERENCE_SERVICE, "default", name)
        assert found is not None
        return found

    async def condition(self, kind: str, name: str = "chat") -> dict[str, str]:
        conditions = (await self.service(name))["status"]["conditions"]
        return next((c for c in conditions if c["type"] == kind), {})

    async def children(self) -> dict[str, Manifest]:
        """All objects of child kinds as Kind/name."""
        found = [child for kind in CHILD_KINDS for child in await self.kube.list(kind, "default")]
        return {f"{child['kind']}/{child['metadata']['name']}": child for child in found}

    async def events(self) -> list[Manifest]:
        return await self.kube.list(EVENT, "default")

    def live_pods(self, role: str) -> list[Manifest]:
        return [pod for pod in self.pods.of(self.key) if pod["metadata"]["labels"].get("headrace.dev/role") == role]

    def versions(self) -> dict[Any, str]:
        return {key: obj["metadata"]["resourceVersion"] for key, obj in self.server.store.objects.items()}

    def decide(self, role: Role, replicas: int, victims: tuple[str, ...] = (), back: tuple[str, ...] = ()) -> None:
        """What the autoscaler would record."""
        roles = dict(d.roles) if (d := self.book.decision(self.key)) else {}
        roles[role] = RoleDecision(
            RoleTarget(role, replicas, victims, back),
            serving=1,
            starting=0,
            draining=0,
            needs=(),
            binding=Constraint.MINIMUM,
            reason=Reason.STEADY,
            message="as the test says",
        )
        health = SignalHealth(healthy=True, reason="Fresh", message="all fresh", fresh=1, stale=0, missing=0)
        self.book.record(self.key, Decision(str(self.key), self.clock.at, roles, health), {})


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    settings = Settings(request_timeout_s=5.0, scale_down_window_s=60.0)
    async with connected(settings, tmp_path, monkeypatch) as (server, kube):
        yield World(server, kube, ManualClock(), FakeEngines(), DecisionBook(), PodStore(), settings)
