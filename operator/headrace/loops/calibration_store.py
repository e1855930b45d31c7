"""What was learnt about a service's engines, kept over restarts: one small ConfigMap a service, seldom written.

It carries no `headrace.dev/service` label: so no pass lists it (and none prunes it), and no watch wakes for its writes.
"""

import asyncio
import hashlib
import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import structlog
from pydantic import TypeAdapter, ValidationError

from headrace.api.base import API_VERSION, KIND
from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.autoscaler.capacity import CapacityModel, DecodeEvidence, PrefillEvidence
from headrace.autoscaler.lengths import LengthLaw
from headrace.autoscaler.memory import Memory, PodMemory, RoleMemory, startup_s
from headrace.catalog.step_times import StepTimes
from headrace.kube.interface import Kube, KubeError, Manifest
from headrace.kube.kinds import CONFIG_MAP
from headrace.loops.keys import Key
from headrace.reconcile.diff import controlled_by
from headrace.reconcile.pods import PodView
from headrace.reconcile.replicas import SCALE_MANAGER
from headrace_engine_config.length_class import LENGTH_CLASSES

log = structlog.get_logger(__name__)

VERSION = 1
DATA_KEY = "state.json"
EVERY_S = 60.0  # a service is written at most so often, and only when a figure has moved
MOVED = 0.05  # relative: calibrations of a steady load wander by less
BUDGET_S = 1.0  # of one tick for all writes: what does not fit is written in the next ones


@dataclass(frozen=True, slots=True)
class Learnt:
    """One service with what the loop knows about its engines. `basis`: what the prior was made from."""

    service: InferenceService
    basis: tuple[Any, ...]
    model: CapacityModel
    memory: Memory

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return Key(self.service.namespace, self.service.name)


@dataclass(frozen=True, slots=True)
class Saved:
    """The content of the ConfigMap. Times in seconds, `at` since the epoch."""

    version: int
    at: float
    basis: str  # digest of what the prior was made from
    prior_steps: StepTimes
    steps: StepTimes
    saturated: float
    prefill_valid: bool
    decode_valid: bool
    prefill: PrefillEvidence
    decode: DecodeEvidence
    starts_s: dict[Role, tuple[float, ...]]
    lengths: LengthLaw


_SAVED = TypeAdapter(Saved)


@dataclass(slots=True)
class _Page:
    """What the store knows about one ConfigMap."""

    uid: str
    figures: Mapping[str, float]  # as saved
    at: float  # of the last try to write, or of the take-over


@dataclass(slots=True)
class CalibrationStore:
    """Reads once at take-over, writes when figures moved. Never raises."""

    kube: Kube
    _pages: dict[Key, _Page] = field(default_factory=dict)

    async def load(
        self,
        service: InferenceService,
        basis: tuple[Any, ...],
        prior: CapacityModel,
        pods: Iterable[PodView],
        now: float,
    ) -> tuple[CapacityModel, Memory]:
        """Model and memory to begin with: what was saved if it is about these engines, else the prior and nothing."""
        begun = prior, Memory()
        key = Key(service.namespace, service.name)
        try:
            found = await self.kube.get(CONFIG_MAP, key.namespace, name_of(key.name))
        except KubeError as error:
            log.warning("saved calibration can't be read", service=str(key), error=str(error))
            found = None
        if found is not None:
            try:
                begun = restore(_read(found, service.uid), digest(basis), prior, pods)
                log.info("calibration restored", service=str(key))
            except ValueError as error:
                log.warning("saved calibration ignored", service=str(key), reason=str(error))
        self._pages[key] = _Page(service.uid, figures(*begun), now)
        return begun

    async def save(self, learnt: Iterable[Learnt], known: Set[Key], now: float) -> None:
        """Write what has moved since it was last written. Services that are not `known` any more are forgotten."""
        for gone in self._pages.keys() - known:
            del self._pages[gone]
        try:
            async with asyncio.timeout(BUDGET_S):
                for item in learnt:
                    await self._save(item, now)
        except TimeoutError:
            log.warning("calibration is saved later: the API server is slow")

    async def _save(self, item: Learnt, now: float) -> None:
        page = self._pages.setdefault(item.key, _Page(item.service.uid, {}, now))
        found = figures(item.model, item.memory)
        if now - page.at < EVERY_S or not moved(page.figures, found):
            return
        page.at = now  # also of a try that fails: the next service gets its turn, and this one waits a minute
        key = item.key
        try:
            live = await self.kube.get(CONFIG_MAP, key.namespace, name_of(key.name))
            if live is not None and not controlled_by(live, item.service.uid):
                log.warning("calibration is not saved: somebody else's ConfigMap has its name", name=name_of(key.name))
                return
            await self.kube.apply(manifest(item, now), SCALE_MANAGER)
        except KubeError as error:
            log.warning("calibration can't be saved", service=str(key), error=str(error))
            return
        page.figures = found


def name_of(service: str) -> str:
    """The ConfigMap's name."""
    return f"{service}-headrace-state"


def digest(basis: tuple[Any, ...]) -> str:
    """What the prior was made from, in 16 hex digits: models, parallelism and engine settings print all they hold."""
    return hashlib.sha256(repr(basis).encode()).hexdigest()[:16]


def figures(model: CapacityModel, memory: Memory) -> dict[str, float]:
    """What a saved state is worth rewriting for: step times at fixed points, start-ups, and whether they count."""
    steps = model.steps
    found = {
        "prefill_alone_s": steps.prefill_s(model.chunk_tokens),
        "prefill_batched_s": steps.prefill_s(model.chunk_tokens) * model.saturated,
        "decode_alone_s": steps.decode_s(1.0, 1024.0),
        "decode_batch64_s": steps.decode_s(64.0, 64 * 1024.0),
        "valid": 1.0 + model.prefill_valid + 2.0 * model.decode_valid,
    }
    starts = {f"{role}_startup_s": startup_s(part, 0.0) for role, part in memory.roles.items() if part.starts_s}
    return found | starts


def moved(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether a figure is new or differs by more than a twentieth."""
    return any(
        name not in before or abs(value - before[name]) > MOVED * abs(before[name]) for name, value in after.items()
    )


def manifest(item: Learnt, now: float) -> Manifest:
    """The ConfigMap of one service, owned by it: about 4 KiB."""
    model, service = item.model, item.service
    saved = Saved(
        version=VERSION,
        at=now,
        basis=digest(item.basis),
        prior_steps=model.prior_steps,
        steps=model.steps,
        saturated=model.saturated,
        prefill_valid=model.prefill_valid,
        decode_valid=model.decode_valid,
        prefill=model.prefill,
        decode=model.decode,
        starts_s={role: part.starts_s for role, part in item.memory.roles.items()},
        lengths=item.memory.lengths,
    )
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": service.name, "uid": service.uid, "controller": True}
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {
            "name": name_of(service.name),
            "namespace": service.namespace,
            "labels": {
                "app.kubernetes.io/name": "headrace",
                "app.kubernetes.io/instance": service.name,
                "app.kubernetes.io/component": "autoscaler-state",
                "app.kubernetes.io/managed-by": "headrace",
            },
            "ownerReferences": [owner],
        },
        "data": {DATA_KEY: _SAVED.dump_json(saved).decode()},
    }


def restore(saved: Saved, basis: str, prior: CapacityModel, pods: Iterable[PodView]) -> tuple[CapacityModel, Memory]:
    """Today's prior with yesterday's evidence. Raises ValueError where that is about other engines, or no sense."""
    if saved.basis != basis or saved.prior_steps != prior.prior_steps:
        raise ValueError("it is about another model, accelerator, engine or version of Headrace")
    _check(saved)
    model = replace(
        prior,
        steps=saved.steps,
        saturated=saved.saturated,
        prefill_valid=saved.prefill_valid,
        decode_valid=saved.decode_valid,
        prefill=saved.prefill,
        decode=saved.decode,
    )
    memory = Memory(
        # Starts that the saved list has already: without this each restart of ours would count them again.
        pods={
            pod.name: PodMemory(start_counted=True)
            for pod in pods
            if pod.ready_at is not None and pod.ready_at <= saved.at
        },
        roles={role: RoleMemory(starts_s=starts) for role, starts in saved.starts_s.items()},
        lengths=replace(saved.lengths, at=0.0, finished_total=0.0),  # of engines that may be gone
    )
    return model, memory


def _read(found: Manifest, uid: str) -> Saved:
    if not controlled_by(found, uid):
        raise ValueError("the ConfigMap belongs to somebody else")
    try:
        content = orjson.loads((found.get("data") or {}).get(DATA_KEY, ""))
        version = content.get("version") if isinstance(content, dict) else None
        if version != VERSION:
            raise ValueError(f"its version is {version!r}, this build reads {VERSION}")
        return _SAVED.validate_python(content)
    except orjson.JSONDecodeError:
        raise ValueError(f"{DATA_KEY} is not JSON") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _check(saved: Saved) -> None:
    """Figures that no engine can have, by whichever hand they came in."""
    steps, law = saved.steps, saved.lengths
    times = [getattr(steps, name) for name in StepTimes.__slots__]
    evidence = [getattr(part, name) for part in (saved.prefill, saved.decode) for name in type(part).__slots__]
    starts = [start for part in saved.starts_s.values() for start in part]
    moments = (*law.mean, *law.square, *law.cube)
    if not all(math.isfinite(value) and value >= 0.0 for value in (*times, *evidence, *starts, *moments, law.seen)):
        raise ValueError("a figure is negative or not finite")
    if steps.prefill_token_s <= 0.0 or steps.decode_base_s <= 0.0 or saved.saturated <= 0.0:
        raise ValueError("a step time is zero")
    if {len(law.mean), len(law.square), len(law.cube)} != {LENGTH_CLASSES}:
        raise ValueError(f"answer lengths are not those of {LENGTH_CLASSES} classes")
