"""Carries out a scaling step of one pool: relabels pods and applies replicas, in the order that loses nothing."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from headrace.api.conditions import format_time
from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import PoolState
from headrace.engines.client import ENGINE_PORT, GATEWAY_PORT, Reading
from headrace.kube.interface import Kube, Manifest, NotFound
from headrace.kube.kinds import DEPLOYMENT, POD
from headrace.reconcile import drain
from headrace.reconcile.pods import DELETION_COST, DRAINING, DRAINING_SINCE, SERVING, STATE_LABEL, PodView
from headrace.reconcile.replicas import SCALE_MANAGER, Bounds, Scale, adopt, read_scale, release_patch, scale_manifest
from headrace.reconcile.transitions import News


class Engines(Protocol):
    """What a drain asks of engines and gateways (headrace.engines.client.EngineClient)."""

    async def engine(self, address: str) -> Reading:
        """One engine's reading."""
        ...

    async def workers(self, address: str) -> frozenset[str] | None:
        """The hosts a gateway sends to, None if it can't be asked."""
        ...


@dataclass(frozen=True, slots=True)
class ScaleRequest:
    """One pool and what is wanted of it."""

    role: Role
    deployment: Manifest
    pods: Sequence[PodView]
    gateways: Sequence[PodView]
    target: RoleTarget | None
    bounds: Bounds
    now: float
    deadline_s: float
    window_s: float
    wanted_elsewhere: bool
    writes_replicas: bool = True  # False: an actuator does


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """What was done: the pool's new state for the autoscaler, and the Events that tell of it."""

    replicas: int  # what the workload should have now
    pool: PoolState
    stay: int
    pods: tuple[PodView, ...] = ()  # as they are after the writes
    notes: tuple[News, ...] = ()
    busy: bool = False  # a drain goes on: look again soon


async def scale_pool(kube: Kube, engines: Engines, request: ScaleRequest) -> ScaleResult:
    """Take one step of the pool towards its target, and write it."""
    live = read_scale(request.deployment)
    ours = request.writes_replicas
    scale = adopt(live, request.bounds, request.now, request.window_s) if ours else Scale(live.replicas, None)
    draining = [pod for pod in request.pods if pod.draining and not pod.terminating]
    step = drain.step(
        _pool(request, scale),
        request.pods,
        request.target,
        await witness(engines, draining, request.gateways),
        now=request.now,
        deadline_s=request.deadline_s,
        floor=scale.active_floor(request.now),
        wanted_elsewhere=request.wanted_elsewhere,
    )
    await _write_pods(kube, request, step)
    await _write_replicas(kube, request, scale, step.replicas)
    left = {pod.name for pod in draining}.union(step.drain).difference(step.reactivate)
    ended = max(0, live.replicas - step.replicas)
    return ScaleResult(
        replicas=step.replicas,
        # The autoscaler counts on what was ordered; of an actuator nobody knows when it will.
        pool=PoolState(step.replicas if ours else live.replicas, scale.active_floor(request.now), scale.floor_until),
        stay=step.replicas - max(0, len(left) - ended),
        pods=tuple(replace(pod, draining=pod.name in left) for pod in request.pods),
        notes=_notes(request, live, scale, step),
        busy=bool(draining or step.drain),
    )


async def _write_replicas(kube: Kube, request: ScaleRequest, scale: Scale, replicas: int) -> None:
    if request.writes_replicas:
        wanted = scale_manifest(request.deployment, replicas, scale, request.now)
        if wanted is not None:
            await kube.apply(wanted, SCALE_MANAGER)
        return
    released = release_patch(request.deployment)
    if released is not None:
        meta = request.deployment["metadata"]
        await kube.merge_patch(DEPLOYMENT, meta["namespace"], meta["name"], released)


async def witness(
    engines: Engines, draining: Sequence[PodView], gateways: Sequence[PodView]
) -> dict[str, drain.Witness]:
    """For each draining pod: have all gateways let go of it, and, asked after that, what does its engine have?"""
    if not draining:
        return {}
    lists = await asyncio.gather(*(engines.workers(f"{pod.ip}:{GATEWAY_PORT}") for pod in gateways if pod.ip))
    known = [hosts for hosts in lists if hosts is not None]
    sure = len(known) == len(lists)  # a gateway that can't be asked may still send
    readings = await asyncio.gather(*(_read(engines, pod) for pod in draining))
    return {
        pod.name: drain.Witness(sure and all(pod.ip not in hosts for hosts in known), reading)
        for pod, reading in zip(draining, readings, strict=True)
    }


async def _read(engines: Engines, pod: PodView) -> Any:
    if not pod.ip or pod.engine_down:
        return None
    reading = await engines.engine(f"{pod.ip}:{ENGINE_PORT}")
    return drain.with_streams(reading.load, reading.state)


def _pool(request: ScaleRequest, scale: Scale) -> drain.Pool:
    meta, status = request.deployment["metadata"], request.deployment.get("status") or {}
    return drain.Pool(
        replicas=scale.replicas,
        created=int(status.get("replicas") or 0),
        settled=int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0),
        bounds=request.bounds,
    )


async def _write_pods(kube: Kube, request: ScaleRequest, step: drain.Step) -> None:
    since = format_time(request.now)
    patches: dict[str, Mapping[str, Any]] = {
        name: {"annotations": {DELETION_COST: str(cost)}} for name, cost in step.costs.items()
    }
    for name in step.drain:
        notes = {DELETION_COST: str(drain.DRAINING_COST), DRAINING_SINCE: since}
        patches[name] = {"labels": {STATE_LABEL: DRAINING}, "annotations": notes}
    for name in step.reactivate:
        patches[name] = {"labels": {STATE_LABEL: SERVING}, "annotations": {DELETION_COST: None, DRAINING_SINCE: None}}
    namespace = request.deployment["metadata"]["namespace"]
    for name, metadata in patches.items():
        try:
            await kube.merge_patch(POD, namespace, name, {"metadata": metadata})
        except NotFound:
            continue  # it ended meanwhile; the next pass sees it


def _notes(request: ScaleRequest, live: Scale, scale: Scale, step: drain.Step) -> tuple[News, ...]:
    role = request.role.value
    notes: list[News] = []
    if request.writes_replicas and live.foreign():
        notes.append(
            News(
                "ReplicasAdopted",
                f"{role} replicas were set to {live.replicas} by somebody else (Headrace wanted {live.wanted}): "
                f"{scale.floor} is kept as a floor for {request.window_s:.0f} s",
                warning=False,
            )
        )
    if step.drain:
        notes.append(News("DrainStarted", f"{role}: {', '.join(step.drain)} taken out of the gateways", warning=False))
    if step.reactivate:
        notes.append(News("DrainTakenBack", f"{role}: {', '.join(step.reactivate)} serve again", warning=False))
    if request.writes_replicas and step.replicas != live.replicas:
        notes.append(News("Scaled", f"{role} replicas {live.replicas} -> {step.replicas}", warning=False))
    notes.extend(News("RequestsLost", loss.message(), warning=True) for loss in step.losses)
    return tuple(notes)
