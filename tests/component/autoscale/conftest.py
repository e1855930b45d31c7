"""An operator on the fake API server: autoscale loop and reconciler with one book, engines as a test describes them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from headrace_fakes.apiserver import FakeApiServer
from headrace_fakes.clock import ManualClock
from headrace_fakes.cluster import apply_service, connected, settle

from headrace.api.roles import Role
from headrace.autoscaler.signals import ArrivalBin, EngineLoad, EngineState, GatewaySample
from headrace.engines.client import Reading
from headrace.engines.sources import Sample, Snapshot
from headrace.kube.client import KubeClient
from headrace.kube.events import EventRecorder
from headrace.kube.interface import Manifest
from headrace.kube.kinds import DEPLOYMENT, INFERENCE_SERVICE, POD
from headrace.loops.autoscale import AutoscaleLoop
from headrace.loops.book import DecisionBook
from headrace.loops.calibration_store import CalibrationStore
from headrace.loops.decision_log import DecisionLog
from headrace.loops.keys import Key
from headrace.loops.reconcile import Reconciler
from headrace.loops.stores import PodStore, ServiceStore
from headrace.observability.metrics import Metrics
from headrace.settings import Settings

TICK_S = 5.0
LATER = 1_900_000_000.0  # beyond the fake server's own clock, which stamps the pods
IDLE = EngineLoad(0, 0, 0, 8192, 8, waiting_uncached_tokens=0)
SPEC: dict[str, Any] = {
    "model": {"source": "hf://meta-llama/Llama-3.1-8B"},
    "accelerator": "nvidia-h100",
    "topology": "Disaggregated",
    "prefill": {"replicas": {"min": 1, "max": 4}},
    "decode": {"replicas": {"min": 1, "max": 4}},
}


def arrivals_of(now: float) -> tuple[ArrivalBin, ...]:
    """50 prompts of 1,500 tokens in each of the last ten seconds: what is queued comes from somewhere."""
    return tuple(ArrivalBin(int(now) - age, 4, 50, 75_000, 0) for age in range(10, 0, -1))


@dataclass
class Engines:
    """Every engine of the fleet: one load for each role, and sums that grow with the clock."""

    clock: ManualClock
    queued_tokens: int = 0  # at each prefill engine
    busy_share: float = 0.0  # of its time that a prefill engine computes
    token_s: float = 30e-6  # that it really takes for a token
    asked: list[str] = field(default_factory=list)
    begun: float | None = None

    async def read(self, engines: Mapping[tuple[str, str], str]) -> Snapshot:
        self.asked = [pod for _, pod in engines]
        at = self.clock.at
        return Snapshot(
            {pod: Sample(at, self._load(pod[1]), self._state(pod[1]), "loads+state") for pod in engines}, {}
        )

    def _load(self, pod: str) -> EngineLoad:
        if "prefill" not in pod:
            return IDLE
        self.begun = self.clock.at if self.begun is None else self.begun
        busy_s = self.busy_share * (self.clock.at - self.begun)
        return replace(
            IDLE,
            waiting_requests=self.queued_tokens // 1000,
            waiting_uncached_tokens=self.queued_tokens,
            prefill_uncached_tokens_total=round(busy_s / self.token_s),
            prefill_busy_s_total=busy_s,
        )

    def _state(self, pod: str) -> EngineState:
        queued = self.queued_tokens if "prefill" in pod else 0
        return EngineState(self.clock.at, self.clock.at - 9999, queued, arrivals_of(self.clock.at) if queued else ())

    async def gateways(self, services: Any) -> dict[str, GatewaySample]:
        return {}

    async def close(self) -> None:
        pass

    async def engine(self, address: str) -> Reading:
        return Reading(0.0, IDLE)

    async def workers(self, address: str) -> frozenset[str] | None:
        return frozenset()


@dataclass
class Operator:
    """Loop and reconciler; `restart` makes new ones that know nothing."""

    server: FakeApiServer
    kube: KubeClient
    settings: Settings
    clock: ManualClock
    engines: Engines
    log_dir: Path
    key: Key = field(default_factory=lambda: Key("default", "chat"))
    log: DecisionLog | None = None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        if self.log is not None:
            self.log.close()
        self.log = DecisionLog(self.log_dir, 2**26)
        self.book, self.pods, self.services, self.metrics = DecisionBook(), PodStore(), ServiceStore(), Metrics()
        self.woken: list[Key] = []
        recorder = EventRecorder(self.kube, self.clock, "test")
        self.reconciler = Reconciler(
            self.kube, self.settings, self.clock, self.book, self.pods, recorder, self.metrics, engines=self.engines
        )
        self.loop = AutoscaleLoop(
            self.kube, self.settings, self.clock, self.book, self.pods, self.woken.append, self.services, self.metrics,
            self.engines, self.log, CalibrationStore(self.kube),
        )  # fmt: skip

    async def apply(self, **changes: Any) -> None:
        await apply_service(self.kube, {**SPEC, **changes})

    async def run(self, ticks: int = 1) -> None:
        """Ticks, each followed by the passes that it asks for."""
        for _ in range(ticks):
            await self.observe()
            await self.loop.tick()
            if self.key in self.woken or self.book.decision(self.key) is None:
                self.woken.clear()
                await self.reconciler.reconcile(self.key)
            self.clock.at += TICK_S

    async def observe(self) -> None:
        """The stores as the watches would keep them, once the fake's controllers have come to rest."""
        await settle(self.server, self.kube, {POD: self.pods, INFERENCE_SERVICE: self.services})

    async def status(self) -> dict[str, Any]:
        found = await self.kube.get(INFERENCE_SERVICE, "default", "chat")
        assert found is not None
        return dict(found.get("status") or {})

    async def deployment(self, role: Role) -> Manifest:
        found = await self.kube.get(DEPLOYMENT, "default", f"chat-{role}")
        assert found is not None
        return found

    async def replicas(self, role: Role = Role.PREFILL) -> int:
        return int((await self.deployment(role))["spec"]["replicas"])

    def writes_to(self, *plurals: str) -> list[tuple[str, str, str]]:
        """All write requests so far on objects of these plurals."""
        return [write for write in self.server.writes if write[1].split("/")[-2] in plurals]


@pytest.fixture
async def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Operator]:
    settings = Settings(request_timeout_s=5.0, scale_down_window_s=30.0, restart_hold_s=10.0)
    async with connected(settings, tmp_path, monkeypatch) as (server, kube):
        clock = ManualClock(LATER)
        made = Operator(server, kube, settings, clock, Engines(clock), tmp_path / "log")
        yield made
        assert made.log is not None
        made.log.close()
