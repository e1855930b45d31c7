"""The autoscale loop: every few seconds all services are read together and decided one by one.

Decisions go into the book; the service's key goes into the work queue when a decision says something new, and the
reconcile pass carries it out. The loop itself writes nothing but, once in a while, what it learnt about the engines.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from headrace.api.errors import SpecError
from headrace.api.pools import ScalingMode
from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Decision, SignalHealth
from headrace.autoscaler.limits import UNBOUNDED_STARTS, Limits
from headrace.autoscaler.memory import Memory, initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.record import to_record
from headrace.autoscaler.replay import Tick
from headrace.autoscaler.signals import GatewaySample, PodPhase, PodSample, Signals
from headrace.catalog.accelerators import UnknownAccelerator, lookup
from headrace.clock import Clock
from headrace.engines.client import ENGINE_PORT, GATEWAY_METRICS_PORT
from headrace.engines.sources import Snapshot, Sources
from headrace.kube.interface import Kube, Manifest
from headrace.loops.book import Capacity, DecisionBook
from headrace.loops.calibration_store import CalibrationStore, Learnt
from headrace.loops.decision_log import DecisionLog
from headrace.loops.keys import Key
from headrace.loops.stores import PodStore, ServiceStore
from headrace.modelsource.prior import basis_of, prior
from headrace.observability.metrics import Metrics
from headrace.reconcile.capacity import capacity_view
from headrace.reconcile.grouping import replicas
from headrace.reconcile.limits import limits_of
from headrace.reconcile.pods import PodView, view
from headrace.reconcile.records import capacity_figures, fingerprint
from headrace.settings import Settings

log = structlog.get_logger(__name__)

GATEWAY = "gateway"
CAPACITY_S = 60.0  # capacity figures alone reach the status once a minute


@dataclass(slots=True)
class Course:
    """What the loop carries along for one service."""

    service: InferenceService
    model: CapacityModel
    basis: tuple[Any, ...]  # what the model's prior was made from
    memory: Memory = field(default_factory=initial_memory)
    told: Any = None  # fingerprint of the decision that the reconciler was last woken for
    told_capacity: Any = None
    capacity_at: float = float("-inf")

    def news(self, decision: Decision, capacity: Capacity, now: float) -> bool:
        """Whether the reconciler should look: the decision says something new, or a minute has, in two digits."""
        found = bool(fingerprint(decision) != self.told)
        self.told = fingerprint(decision)
        if now - self.capacity_at >= CAPACITY_S:
            self.capacity_at = now
            rounded = capacity_figures(capacity)
            found = found or bool(rounded != self.told_capacity)
            self.told_capacity = rounded
        return found


@dataclass(frozen=True, slots=True)
class Subject:
    """One service within a tick."""

    key: Key
    course: Course
    pods: tuple[PodView, ...]


class AutoscaleLoop:
    """Decides for every service, each tick. One service's failure never touches the others."""

    def __init__(  # noqa: PLR0917  wired once, by name
        self,
        kube: Kube,
        settings: Settings,
        clock: Clock,
        book: DecisionBook,
        pods: PodStore,
        enqueue: Callable[[Key], None],
        services: ServiceStore,
        metrics: Metrics,
        sources: Sources,
        decision_log: DecisionLog | None = None,
        calibrations: CalibrationStore | None = None,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._clock = clock
        self._book = book
        self._pods = pods
        self._enqueue = enqueue
        self._services = services
        self._metrics = metrics
        self._sources = sources
        self._log = decision_log
        self._calibrations = calibrations
        self._courses: dict[Key, Course] = {}

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            began = self._clock.monotonic()
            try:
                await self.tick()
            except Exception as error:  # a tick that fails as a whole is followed by the next one
                log.exception("tick failed")
                self._metrics.autoscale_errors.labels(type(error).__name__).inc()
            now = self._clock.now()
            self._metrics.ticked("autoscale", now)
            took_s = self._clock.monotonic() - began
            self._metrics.autoscale_seconds.observe(took_s)
            # At least a tenth of the interval is left to the rest of the process, however long a tick took.
            await self._clock.sleep(
                max(0.1 * self._settings.autoscale_interval_s, self._settings.autoscale_interval_s - took_s)
            )

    async def tick(self) -> None:
        """Read the fleet once, then decide for each service."""
        keys = self._services.keys()
        for gone in self._courses.keys() - set(keys):
            del self._courses[gone]
        subjects = [subject for key in keys if (subject := await self._subject(key)) is not None]
        engines = {
            (subject.key.namespace, pod.name): f"{pod.ip}:{ENGINE_PORT}"
            for subject in subjects
            for pod in subject.pods
            if pod.role != GATEWAY and pod.ip and (pod.ready or pod.draining)
        }
        gateways = {
            str(subject.key): {
                pod.name: f"{pod.ip}:{GATEWAY_METRICS_PORT}"
                for pod in subject.pods
                if pod.role == GATEWAY and pod.ready
            }
            for subject in subjects
        }
        snapshot, held = await asyncio.gather(self._sources.read(engines), self._sources.gateways(gateways))
        starting = {subject.key: _starting(subject) for subject in subjects}
        for subject in subjects:
            elsewhere = sum(starting.values()) - starting[subject.key]
            try:
                starting[subject.key] += self._decide(subject, snapshot, held.get(str(subject.key)), elsewhere)
            except Exception as error:  # one service's failure must not stop the others
                log.exception("decision failed", service=str(subject.key))
                self._metrics.autoscale_errors.labels(type(error).__name__).inc()
            await asyncio.sleep(0)  # probes and passes get their turn between two services
        if self._calibrations is not None:
            courses = [subject.course for subject in subjects]
            learnt = [Learnt(c.service, c.basis, c.model, c.memory) for c in courses]
            await self._calibrations.save(learnt, self._courses.keys(), self._clock.now())

    async def _subject(self, key: Key) -> Subject | None:
        """The service as far as it can be decided about; None: not now, and no decision of it holds."""
        manifest = self._services.get(key)
        try:
            course = None if manifest is None else await self._course(key, manifest)
        except Exception as error:  # a spec or a model folder that nobody foresaw
            log.exception("service can't be judged", service=str(key))
            self._metrics.autoscale_errors.labels(type(error).__name__).inc()
            course = None
        if course is None:
            self._courses.pop(key, None)  # its memory would be old when the service comes back: nothing scales on that
            self._book.withdraw(key)
            self._metrics.decided.forget(key)
            return None
        if not set(course.service.spec.roles) <= self._book.pools(key).keys():
            return None  # its pools do not exist yet, or no pass has seen them since our start
        engines = replicas(map(view, self._pods.of(key)))
        return Subject(key, course, tuple(pod for pod in engines if not pod.terminating))

    async def _course(self, key: Key, manifest: Manifest) -> Course | None:
        try:
            service = InferenceService.parse(manifest)
            if service.deleting or service.spec.autoscaling.mode is ScalingMode.OFF:
                return None
            basis = basis_of(service.spec)
            known = self._courses.get(key)
            if known is None or known.basis != basis or known.service.uid != service.uid:
                known = await self._begin(key, service, basis)
        except (SpecError, UnknownAccelerator):
            return None  # the reconcile pass says so in the status
        known.service = service
        self._courses[key] = known
        return known

    async def _begin(self, key: Key, service: InferenceService, basis: tuple[Any, ...]) -> Course:
        model = await prior(service.spec)
        if self._calibrations is None:
            return Course(service, model, basis)
        pods = replicas(map(view, self._pods.of(key)))
        model, memory = await self._calibrations.load(service, basis, model, pods, self._clock.now())
        return Course(service, model, basis, memory)

    def _decide(self, subject: Subject, snapshot: Snapshot, held: GatewaySample | None, elsewhere: int) -> int:
        """Plan, record, tell. Engines that the decision newly asks for."""
        key, course, now = subject.key, subject.course, self._clock.now()
        signals = self._signals(subject, snapshot, held, now)
        limits = self._limits(course.service, elsewhere)
        made = plan(signals, course.model, limits, course.memory, now)
        if self._log is not None:
            self._log.put(Tick(signals, limits, course.memory, course.model, made))
        course.model, course.memory = made.model, made.memory
        decision = replace(made.decision, health=_health(made.decision.health, snapshot, subject))
        capacity = capacity_view(course.service.spec.roles, made.model, made.memory)
        self._book.record(key, decision, capacity)
        self._metrics.measure(key, decision)
        self._metrics.decided.publish(key, course.service.spec.autoscaling.mode, signals, limits, made)
        log.info("decision", **to_record(decision))
        if course.news(decision, capacity, now):
            self._enqueue(key)
        return sum(max(0, d.target.replicas - d.serving - d.starting) for d in decision.roles.values())

    def _signals(self, subject: Subject, snapshot: Snapshot, held: GatewaySample | None, now: float) -> Signals:
        roles = {role.value: role for role in subject.course.service.spec.roles}
        samples = tuple(
            _sample(pod, roles[pod.role], snapshot, subject.key) for pod in subject.pods if pod.role in roles
        )
        used = {snapshot.samples[subject.key.namespace, pod.pod].source for pod in samples if pod.load is not None}
        return Signals(
            service=str(subject.key),
            at=now,
            pods=samples,
            pools=self._book.pools(subject.key),
            gateway=held,
            source=", ".join(sorted(used)) or "none",
        )

    def _limits(self, service: InferenceService, starting_elsewhere: int) -> Limits:
        settings = self._settings
        most = settings.max_starting or UNBOUNDED_STARTS
        return limits_of(
            service,
            lookup(service.spec.accelerator),
            tick_s=settings.autoscale_interval_s,
            scale_down_window_s=settings.scale_down_window_s,
            restart_hold_s=settings.restart_hold_s,
            max_starting=max(0, most - starting_elsewhere),
        )


def _starting(subject: Subject) -> int:
    return sum(1 for pod in subject.pods if pod.role != GATEWAY and _phase(pod) is PodPhase.STARTING)


def _phase(pod: PodView) -> PodPhase:
    if pod.draining:
        return PodPhase.DRAINING
    return PodPhase.SERVING if pod.ready else PodPhase.STARTING


def _sample(pod: PodView, role: Role, snapshot: Snapshot, key: Key) -> PodSample:
    found = snapshot.samples.get((key.namespace, pod.name))
    return PodSample(
        pod=pod.name,
        role=role,
        phase=_phase(pod),
        created_at=pod.created_at,
        ready_at=pod.ready_at,
        sampled_at=found.at if found else None,
        revision=pod.revision,
        load=found.load if found else None,
        state=found.state if found else None,
    )


def _health(health: SignalHealth, snapshot: Snapshot, subject: Subject) -> SignalHealth:
    """The plan's judgement, with what only the reader knows: why pods are silent, and that Prometheus is."""
    if health.healthy and snapshot.prometheus_problem:
        message = f"{snapshot.prometheus_problem}; decisions go on with what the engines say themselves"
        return replace(health, healthy=False, reason="PrometheusDown", message=message)
    names = {pod.name for pod in subject.pods}
    reasons = sorted({error for (_, pod), error in snapshot.errors.items() if pod in names})
    parts = [health.message, *(f"engines: {reason}" for reason in reasons[:1]), snapshot.prometheus_problem]
    if health.healthy or len([part for part in parts if part]) == 1:
        return health
    return replace(health, message="; ".join(part for part in parts if part))
