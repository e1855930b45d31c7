"""One pass over one service: observe, build, diff, write, drain, report. All it knows it reads anew."""

from collections.abc import Mapping, Sequence

import structlog

from headrace.api.conditions import ConditionReason
from headrace.api.errors import SpecError
from headrace.api.pools import ScalingMode
from headrace.api.roles import Role
from headrace.api.status import InferenceServiceStatus
from headrace.api.v1alpha1 import InferenceService
from headrace.autoscaler.decision import Decision, RoleTarget
from headrace.autoscaler.signals import PoolState
from headrace.catalog.accelerators import UnknownAccelerator
from headrace.clock import Clock
from headrace.desired.build import build, initial_replicas
from headrace.desired.settings import DesiredSettings
from headrace.engines.client import EngineClient
from headrace.kube.events import EventRecorder
from headrace.kube.interface import Conflict, Forbidden, Invalid, Kube, Manifest
from headrace.kube.kinds import CHILD_KINDS, INFERENCE_SERVICE, lookup
from headrace.loops.actuators import Surveyor
from headrace.loops.book import DecisionBook
from headrace.loops.drain import Engines, ScaleRequest, ScaleResult, scale_pool
from headrace.loops.keys import Key
from headrace.loops.observe import list_pods
from headrace.loops.passing import GATEWAY, Pass
from headrace.loops.report import StatusWriter, status_of
from headrace.loops.stores import PodStore
from headrace.modelsource.config import read_model
from headrace.observability.metrics import Metrics
from headrace.reconcile.actuators import ACTUATORS
from headrace.reconcile.diff import STRUCTURE_MANAGER, Actions, Prune, Ref, diff
from headrace.reconcile.limits import bounds_of
from headrace.reconcile.pods import view
from headrace.reconcile.replicas import SCALE_MANAGER, Bounds, read_scale, scale_manifest
from headrace.reconcile.rollout import prune_hold
from headrace.reconcile.status import Facts, Stall, compose, refuse
from headrace.settings import Settings

log = structlog.get_logger(__name__)

DRAIN_POLL_S = 1.0  # between two looks at a draining engine: its accelerator is paid for meanwhile
STALLED_RETRY_S = (
    30.0  # what is in the way (somebody's object, a folder without a model) sends us no event when it goes
)
CAPACITY_S = 60.0  # capacity figures move all the time; once a minute is often enough for a reader
# An actuator of ours that was deleted goes within a second or two, KEDA's once it has cleared up.
LEAVING_RETRY_S = 1.0
_ORDER = {kind.kind: index for index, kind in enumerate(CHILD_KINDS)}


class Reconciler:
    """Brings the children of one service to what its spec asks for, and says in its status how far that is."""

    def __init__(  # noqa: PLR0917  wired once, by name
        self,
        kube: Kube,
        settings: Settings,
        clock: Clock,
        book: DecisionBook,
        pods: PodStore,
        recorder: EventRecorder,
        metrics: Metrics,
        *,
        engines: Engines | None = None,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._clock = clock
        self._book = book
        self._pods = pods
        self._status = StatusWriter(kube, recorder)
        self._metrics = metrics
        self._engines = engines or EngineClient(clock)
        self._desired = desired_settings(settings)
        self._surveyor = Surveyor(kube, clock, prometheus=bool(settings.prometheus_url))
        self._capacity_at: dict[Key, float] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One pass. Seconds until the next one, None: when something happens. Raises KubeError for a later retry."""
        manifest = await self._kube.get(INFERENCE_SERVICE, key.namespace, key.name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            self._forget(key)
            return None
        now = self._clock.now()
        before = status_of(manifest)
        try:
            service = InferenceService.parse(manifest)
            desired = build(service, self._desired)
        except UnknownAccelerator as error:
            await self._refuse(manifest, before, Stall("UnknownAccelerator", f"spec.accelerator: {error}"))
            return None
        except SpecError as error:
            await self._refuse(manifest, before, Stall(ConditionReason.INVALID_SPEC, str(error)))
            return None
        this = Pass(key, manifest, service, before, now)
        failure = await self._carry_out(this, desired)
        await self._report(this)
        if failure is not None:
            raise failure
        if this.busy:
            return DRAIN_POLL_S
        if this.actuators.leaving:
            return LEAVING_RETRY_S
        waits = this.stall or this.actuators.obstacle or this.actuators.settling
        return STALLED_RETRY_S if waits else None

    def _forget(self, key: Key) -> None:
        self._book.forget(key)
        self._capacity_at.pop(key, None)
        self._metrics.forget(key)

    async def _carry_out(self, this: Pass, desired: Sequence[Manifest]) -> Invalid | Forbidden | None:
        """All writes but the status. Returns what the API server refused for good: told there, and retried later."""
        report = await read_model(this.service.spec.model.location)
        if report.problem:
            this.stall = Stall(ConditionReason.MODEL_INVALID, f"spec.model.source: {report.problem}")
        bounds = bounds_of(this.service)
        born = initial_replicas(this.service)
        survey = await self._surveyor.survey(this.key, this.service, desired, this.now)
        this.actuators = survey.actuators
        this.children = {Ref.of(child): child for child in survey.observed}
        for pod in map(view, self._pods.of(this.key)):
            this.pods.setdefault(pod.role, []).append(pod)
        actions = diff(survey.wanted, survey.observed, this.service.uid, born)
        try:
            # First, so that there is never more than one: KEDA refuses to make a second.
            await self._delete(this, [prune for prune in actions.prune if prune.ref.kind in ACTUATORS])
            await self._apply(this, actions, born)
            for role in this.service.spec.roles:
                await self._scale(this, role, bounds[role.value])
            self._metrics.desire(this.key, this.published)
            await self._prune(this, [prune for prune in actions.prune if prune.ref.kind not in ACTUATORS])
        except Invalid as error:
            this.stall = Stall(ConditionReason.API_REJECTED, str(error))
            return error
        except Forbidden as error:
            this.stall = Stall(ConditionReason.FORBIDDEN, f"{error}; grant it to the operator's ServiceAccount")
            return error
        return None

    async def _apply(self, this: Pass, actions: Actions, born: Mapping[str, int]) -> None:
        if actions.collisions:
            texts = "; ".join(collision.message() for collision in actions.collisions)
            this.stall = Stall(ConditionReason.CHILD_NAME_COLLISION, texts)
        for apply in sorted(actions.apply, key=lambda a: _ORDER.get(a.manifest["kind"], len(_ORDER))):
            if apply.created and actions.collisions:
                continue  # half a service would take accelerators and serve nobody
            ref = Ref.of(apply.manifest)
            live = await self._kube.apply(apply.manifest, STRUCTURE_MANAGER)
            log.info("child applied", service=str(this.key), child=str(ref), cause=apply.cause)
            self._metrics.changes.labels("applied", ref.kind).inc()
            if apply.created and ref.kind == "Deployment" and ref.name in born:
                live = await self._own_replicas(live, born[ref.name], this.now)
            this.children[ref] = live

    async def _own_replicas(self, deployment: Manifest, replicas: int, now: float) -> Manifest:
        """Make the scale manager own what the structure's manager just set, so that the latter can let go of it."""
        manifest = scale_manifest(deployment, replicas, read_scale(deployment), now)
        return deployment if manifest is None else await self._kube.apply(manifest, SCALE_MANAGER)

    async def _scale(self, this: Pass, role: Role, bounds: Bounds) -> None:
        deployment = this.deployment(role.value)
        if deployment is None:
            return
        replicas = read_scale(deployment).replicas
        pods = this.pods.setdefault(role.value, [])
        draining = any(pod.draining and not pod.terminating for pod in pods)
        mode, held = this.service.spec.autoscaling.mode, this.actuators.held(role)
        target = self._target(this, role)
        if role in this.actuators.rivals:  # they count on every pod: those that drain serve again
            target = RoleTarget(role, replicas)
        if this.service.paused or not (mode.acts or draining) or (held and not draining):
            this.stays[role] = replicas - sum(1 for pod in pods if pod.draining and not pod.terminating)
            self._publish(this, role, replicas)
            self._observe(this, role, PoolState(replicas))
            return
        if draining or (target and target.replicas < replicas):
            pods = [view(pod) for pod in await list_pods(self._kube, this.key, role.value)]
            this.pods[role.value] = pods
        request = ScaleRequest(
            role=role,
            deployment=deployment,
            pods=pods,
            gateways=[pod for pod in this.pods.get(GATEWAY, ()) if not pod.terminating],
            target=target,
            bounds=bounds,
            now=this.now,
            deadline_s=self._settings.drain_deadline_s,
            window_s=self._settings.floor_s,
            wanted_elsewhere=this.waits_for_accelerators(),
            writes_replicas=not (mode.delegated or held),
        )
        self._took(this, role, await scale_pool(self._kube, self._engines, request))

    def _target(self, this: Pass, role: Role) -> RoleTarget | None:
        decision = self._book.decision(this.key) if this.service.spec.autoscaling.mode.acts else None
        decided = decision.roles.get(role) if decision else None
        return decided.target if decided else None

    def _publish(self, this: Pass, role: Role, replicas: int) -> None:
        """The number for the metric: what the workload should have, or in Advisory mode what was decided."""
        mode, decision = this.service.spec.autoscaling.mode, self._book.decision(this.key)
        if mode.acts:
            this.published[role] = replicas
        elif mode is ScalingMode.ADVISORY and decision is not None and role in decision.roles:
            this.published[role] = decision.roles[role].target.replicas

    def _took(self, this: Pass, role: Role, result: ScaleResult) -> None:
        this.stays[role] = result.stay
        self._publish(this, role, result.replicas)
        this.pods[role.value] = list(result.pods)
        this.notes.extend(result.notes)
        this.busy = this.busy or result.busy
        self._observe(this, role, result.pool)

    def _observe(self, this: Pass, role: Role, pool: PoolState) -> None:
        self._book.observe(this.key, {**self._book.pools(this.key), role: pool})

    async def _prune(self, this: Pass, prunes: Sequence[Prune]) -> None:
        roles = {role.value for role in this.service.spec.roles}
        old_ready = sum(pod.ready for role, pods in this.pods.items() if role not in roles | {GATEWAY} for pod in pods)
        facts = [*this.pool_facts().values(), this.gateway_facts()]
        this.pending = prune_hold(prunes, facts, old_ready)
        if not this.pending:
            await self._delete(this, prunes)

    async def _delete(self, this: Pass, prunes: Sequence[Prune]) -> None:
        for prune in prunes:
            kind = lookup({"apiVersion": prune.ref.api_version, "kind": prune.ref.kind})
            try:
                await self._kube.delete(kind, this.key.namespace, prune.ref.name, uid=prune.uid)
            except Conflict:
                continue  # another object has the name now; the next pass judges it
            log.info("child pruned", service=str(this.key), child=str(prune.ref))
            self._metrics.changes.labels("pruned", prune.ref.kind).inc()

    # Reporting

    async def _report(self, this: Pass) -> None:
        due = this.now - self._capacity_at.get(this.key, float("-inf")) >= CAPACITY_S
        mode = this.service.spec.autoscaling.mode
        decision: Decision | None = None if mode is ScalingMode.OFF else self._book.decision(this.key)
        facts = Facts(
            service=this.service,
            pools=this.pool_facts(),
            gateway=this.gateway_facts(),
            endpoint=f"http://{this.key.name}.{this.key.namespace}.svc",
            decision=decision,
            capacity=self._book.capacity(this.key),
            pending=this.pending,
            stall=this.stall,
            obstacle=this.actuators.obstacle,
        )
        after = compose(facts, this.before, this.now, capacity_due=due)
        for note in this.notes:
            await self._status.tell(this.manifest, note)
        if await self._status.write(this.manifest, this.before, after) and after.capacity != this.before.capacity:
            self._capacity_at[this.key] = this.now

    async def _refuse(self, manifest: Manifest, before: InferenceServiceStatus, stall: Stall) -> None:
        """Report a spec that can't be used. Its children stay as they are, and a retry would find the same."""
        generation = manifest["metadata"].get("generation") or 0
        self._book.withdraw(Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"]))
        await self._status.write(manifest, before, refuse(before, stall, generation, self._clock.now()))


def desired_settings(settings: Settings) -> DesiredSettings:
    """The operator's settings as far as they shape manifests."""
    return DesiredSettings(
        engine_image=settings.engine_image,
        gateway_image=settings.gateway_image,
        image_pull_policy=settings.image_pull_policy,
        operator_namespace=settings.operator_namespace,
        metrics_namespaces=settings.metrics_namespaces,
        drain_deadline_s=int(settings.drain_deadline_s),
        startup_deadline_s=settings.startup_deadline_s,
        prometheus_url=settings.prometheus_url or "",
    )
