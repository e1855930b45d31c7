"""Ticks of the autoscale loop over services that the stores show: what is decided, and what a failure leaves alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from headrace.api.roles import Role
from headrace.autoscaler import plan as planning
from headrace.autoscaler.decision import Decision, Reason
from headrace.autoscaler.signals import ArrivalBin, EngineLoad, EngineState, GatewaySample, PoolState
from headrace.engines.sources import Sample, Snapshot
from headrace.loops.autoscale import AutoscaleLoop
from headrace.loops.book import DecisionBook
from headrace.loops.keys import Key
from headrace.loops.stores import PodStore, ServiceStore
from headrace.observability.metrics import Metrics
from headrace.settings import Settings

CHAT = Key("default", "chat")
IDLE = EngineLoad(
    0, 0, 0, 8192, 8, waiting_uncached_tokens=0, prefill_uncached_tokens_total=0, prefill_busy_s_total=0.0
)
SPEC: dict[str, Any] = {
    "model": {"source": "hf://meta-llama/Llama-3.1-8B"},
    "accelerator": "nvidia-h100",
    "topology": "Disaggregated",
    "prefill": {"replicas": {"min": 1, "max": 3}},
    "decode": {"replicas": {"min": 1, "max": 3}},
    "kvCache": {"capacityTokens": 8192},
}


class Clock:
    at = 1_800_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, delay_s: float) -> None:
        self.at += delay_s


def state_of(at: float, queued: int) -> EngineState:
    """50 prompts of 1,500 tokens came in each of the last ten seconds where any are queued."""
    came = tuple(ArrivalBin(int(at) - age, 4, 50, 75_000, 0) for age in range(10, 0, -1))
    return EngineState(at, at - 999, queued, came if queued else ())


class FakeSources:
    """Answers with what a test has put in; remembers what it was asked."""

    def __init__(self) -> None:
        self.load: dict[str, EngineLoad | None] = {}
        self.problem = ""
        self.asked: list[str] = []
        self.sampled_at: float | None = None
        self.clock = Clock()

    async def read(self, engines: Mapping[tuple[str, str], str]) -> Snapshot:
        self.asked = [pod for _, pod in engines]
        loads = {pod: self.load.get(pod[1], IDLE) for pod in engines}
        at = self.sampled_at or self.clock.at
        return Snapshot(
            {
                pod: Sample(at, load, state_of(at, load.waiting_uncached_tokens or 0), "loads+state")
                for pod, load in loads.items()
                if load is not None
            },
            {pod: "connection refused" for pod, load in loads.items() if load is None},
            self.problem,
        )

    async def gateways(self, services: Any) -> dict[str, GatewaySample]:
        return {}

    async def close(self) -> None:
        pass


@dataclass
class Fleet:
    sources: FakeSources = field(default_factory=FakeSources)
    services: ServiceStore = field(default_factory=ServiceStore)
    pods: PodStore = field(default_factory=PodStore)
    book: DecisionBook = field(default_factory=DecisionBook)
    metrics: Metrics = field(default_factory=Metrics)
    woken: list[Key] = field(default_factory=list)
    settings: Settings = field(default_factory=lambda: Settings(scale_down_window_s=60, restart_hold_s=10))

    def __post_init__(self) -> None:
        self.clock = self.sources.clock
        nothing: Any = None  # the loop reads stores and sources; it needs the API server for nothing yet
        self.loop = AutoscaleLoop(
            nothing,
            self.settings,
            self.clock,
            self.book,
            self.pods,
            self.woken.append,
            self.services,
            self.metrics,
            self.sources,
        )

    def add(self, name: str = "chat", paused: bool = False, **spec: Any) -> None:
        key = Key("default", name)
        notes = {"headrace.dev/paused": "true"} if paused else {}
        self.services.upsert(
            {
                "apiVersion": "headrace.dev/v1alpha1",
                "kind": "InferenceService",
                "metadata": {"name": name, "namespace": "default", "uid": name, "generation": 1, "annotations": notes},
                "spec": {**SPEC, **spec},
            }
        )
        self.book.observe(key, {role: PoolState(1) for role in (Role.PREFILL, Role.DECODE)})
        for role in ("prefill", "decode"):
            self.pod(f"{name}-{role}-1", role, name)

    def pod(self, name: str, role: str, service: str = "chat", ready: bool = True, state: str = "serving") -> None:
        conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        labels = {"headrace.dev/service": service, "headrace.dev/role": role, "headrace.dev/state": state}
        self.pods.upsert(
            {
                "metadata": {"name": name, "namespace": "default", "labels": labels,
                             "creationTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions},
            }
        )  # fmt: skip

    def decided(self, name: str = "chat") -> Decision:
        decision = self.book.decision(Key("default", name))
        assert decision is not None
        return decision

    async def ticks(self, count: int = 1) -> None:
        for _ in range(count):
            await self.loop.tick()
            self.clock.at += 5


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def queue_prompts(fleet: Fleet, name: str = "chat-prefill-1", tokens: int = 50_000_000) -> None:
    fleet.sources.load[name] = replace(IDLE, waiting_requests=500, waiting_uncached_tokens=tokens)


async def test_a_quiet_service_is_steady_and_wakes_the_reconciler_once(fleet: Fleet) -> None:
    fleet.add()
    await fleet.ticks(8)
    decision = fleet.decided()
    assert {role: d.target.replicas for role, d in decision.roles.items()} == {Role.PREFILL: 1, Role.DECODE: 1}
    assert decision.health.healthy
    assert fleet.woken == [CHAT]
    assert set(fleet.book.capacity(CHAT)) == {"prefill", "decode"}


async def test_queued_prompts_grow_prefill(fleet: Fleet) -> None:
    fleet.add()
    await fleet.ticks(2)
    queue_prompts(fleet)
    await fleet.ticks(2)
    decision = fleet.decided()
    assert decision.roles[Role.PREFILL].target.replicas > 1
    assert len(fleet.woken) >= 2


async def test_unreadable_engines_hold_and_are_said_with_the_reason(fleet: Fleet) -> None:
    fleet.add()
    for role in ("prefill", "decode"):
        fleet.pod(f"chat-{role}-2", role)
    fleet.book.observe(CHAT, {role: PoolState(2) for role in (Role.PREFILL, Role.DECODE)})
    fleet.sources.load = dict.fromkeys(("chat-prefill-1", "chat-prefill-2", "chat-decode-1", "chat-decode-2"), None)
    await fleet.ticks(60)
    decision = fleet.decided()
    assert not decision.health.healthy
    assert "connection refused" in decision.health.message
    assert {d.target.replicas for d in decision.roles.values()} == {2}, "missing is not idle"


async def test_prometheus_down_is_said_and_decisions_go_on(fleet: Fleet) -> None:
    fleet.add()
    fleet.sources.problem = "Prometheus can't be reached: ConnectionError"
    queue_prompts(fleet)
    await fleet.ticks(2)
    decision = fleet.decided()
    assert (decision.health.healthy, decision.health.reason) == (False, "PrometheusDown")
    assert "Prometheus" in decision.health.message
    assert decision.roles[Role.PREFILL].target.replicas > 1


async def test_one_broken_service_does_not_stop_the_others(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.add("bad")
    fleet.add("chat")
    real = planning.plan

    def explode(signals: Any, *rest: Any) -> Any:
        if signals.service == "default/bad":
            raise ZeroDivisionError
        return real(signals, *rest)

    monkeypatch.setattr("headrace.loops.autoscale.plan", explode)
    await fleet.ticks(2)
    assert fleet.book.decision(CHAT) is not None
    assert fleet.book.decision(Key("default", "bad")) is None
    errors = fleet.metrics.autoscale_errors.labels("ZeroDivisionError")
    assert errors._value.get() == 2


async def test_an_invalid_spec_is_left_alone(fleet: Fleet) -> None:
    fleet.add("bad", prefill={"replicas": {"min": 5, "max": 1}})
    fleet.add("odd", accelerator="abacus")
    fleet.add()
    await fleet.ticks()
    assert fleet.book.decision(Key("default", "bad")) is None
    assert fleet.book.decision(Key("default", "odd")) is None
    assert fleet.book.decision(CHAT) is not None


async def test_mode_off_reads_and_decides_nothing(fleet: Fleet) -> None:
    fleet.add(autoscaling={"mode": "Off"})
    await fleet.ticks()
    assert fleet.book.decision(CHAT) is None
    assert fleet.sources.asked == []


async def test_paused_holds_and_says_so(fleet: Fleet) -> None:
    fleet.add(paused=True)
    queue_prompts(fleet)
    await fleet.ticks(2)
    part = fleet.decided().roles[Role.PREFILL]
    assert part.target.replicas == 1
    assert part.reason in {Reason.PAUSED, Reason.HELD}


async def test_nothing_is_decided_before_a_pass_has_seen_the_pools(fleet: Fleet) -> None:
    fleet.add()
    fleet.book.forget(CHAT)
    await fleet.ticks()
    assert fleet.book.decision(CHAT) is None


async def test_starting_pods_are_not_asked_and_draining_ones_are(fleet: Fleet) -> None:
    fleet.add()
    fleet.pod("chat-prefill-2", "prefill", ready=False)
    fleet.pod("chat-decode-2", "decode", state="draining")
    await fleet.ticks()
    assert set(fleet.sources.asked) == {"chat-prefill-1", "chat-decode-1", "chat-decode-2"}
    part = fleet.decided().roles
    assert (part[Role.PREFILL].starting, part[Role.DECODE].draining) == (1, 1)


async def test_engines_that_start_together_are_bounded_over_all_services() -> None:
    fleet = Fleet(settings=Settings(max_starting=1))
    for name in ("a", "b", "c"):
        fleet.add(name)
        queue_prompts(fleet, f"{name}-prefill-1")
    await fleet.ticks(2)
    orders = [fleet.decided(n).roles[Role.PREFILL].target.replicas - 1 for n in ("a", "b", "c")]
    assert sum(orders) == 1


async def test_engines_that_start_together_are_bounded_over_the_roles_of_a_service() -> None:
    fleet = Fleet(settings=Settings(max_starting=1))
    fleet.add()
    fleet.pod("chat-decode-2", "decode", ready=False)
    queue_prompts(fleet, "chat-prefill-1")
    await fleet.ticks(2)
    part = fleet.decided().roles[Role.PREFILL]
    assert part.target.replicas == 1
    assert ("MaxStarting", "at most 1 engines start at once, 1 of other roles do") in {
        (veto.guard, veto.message) for veto in part.vetoes
    }


async def test_a_deleted_service_is_forgotten(fleet: Fleet) -> None:
    fleet.add()
    await fleet.ticks()
    fleet.services.replace([], fleet.services.mark())
    await fleet.ticks()
    assert fleet.loop._courses == {}
