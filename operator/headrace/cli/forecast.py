"""What a service is expected to need and to do, from its spec, the catalogue and the model's facts. No I/O here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.autoscaler.capacity import KV_MEMORY_SHARE, CapacityModel
from headrace.autoscaler.memory import initial_memory
from headrace.catalog.accelerators import Accelerator
from headrace.modelsource.config import ModelReport
from headrace.reconcile.capacity import capacity_view

GB = 1e9


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to know before applying. Fatal: it would not be served."""

    fatal: bool
    message: str


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """One pool's bounds; `accelerators` for one replica."""

    role: str
    minimum: int
    maximum: int
    accelerators: int
    resource: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected."""

    basis: str
    figures: Mapping[str, float]  # units in the names
    pools: tuple[PoolPlan, ...]
    accelerators_min: int
    accelerators_max: int
    problems: tuple[Problem, ...]


def forecast(
    service: InferenceService, accelerator: Accelerator, model: ModelReport, capacity: CapacityModel
) -> Forecast:
    """The forecast of one service."""
    pools = tuple(_pool(service, role, accelerator) for role in service.spec.roles)
    basis = capacity.source if model.known else f"{capacity.source}; model unknown, taken for an 8B one"
    figures = {
        name: figure["predicted"]
        for role in capacity_view(service.spec.roles, capacity, initial_memory()).values()
        for name, figure in role.items()
        if figure["predicted"] is not None
    }
    return Forecast(
        basis=basis,
        figures=figures,
        pools=pools,
        accelerators_min=sum(pool.minimum * pool.accelerators for pool in pools),
        accelerators_max=sum(pool.maximum * pool.accelerators for pool in pools),
        problems=tuple(problems(service, accelerator, model, capacity, pools)),
    )


def _pool(service: InferenceService, role: Role, accelerator: Accelerator) -> PoolPlan:
    pool = service.spec.pool(role)
    chips = pool.parallelism.accelerators if accelerator.resource_name else 0
    return PoolPlan(role.value, pool.replicas.min, pool.replicas.upper, chips, accelerator.resource_name or "")


def problems(
    service: InferenceService,
    accelerator: Accelerator,
    model: ModelReport,
    capacity: CapacityModel,
    pools: tuple[PoolPlan, ...],
) -> Iterator[Problem]:
    """Everything worth knowing before applying, the fatal ones with their mend."""
    if model.problem:
        yield Problem(True, f"spec.model.source: {model.problem}")
    if not model.known and not model.problem:
        yield Problem(False, "the model's config.json is not here: give its folder with --model-config")
    if model.known:
        yield from _memory(service, accelerator, model)
    yield from _context(service, capacity)
    yield from _budget(service, pools)
    yield from _layout(service)
    for pool in pools:
        if pool.minimum == pool.maximum:
            yield Problem(
                False, f"{pool.role} has a fixed number of replicas: set replicas.max above min to let it grow"
            )


def _memory(service: InferenceService, accelerator: Accelerator, model: ModelReport) -> Iterator[Problem]:
    """Weights must fit into the share of a replica's memory that SGLang gives to weights and KV together."""
    if accelerator.resource_name is None:
        return  # the limit of a CPU pod is its memory resource, not a chip's
    weights = model.facts.weight_bytes
    for role in service.spec.roles:
        chips = service.spec.pool(role).parallelism.accelerators
        room = accelerator.memory_bytes * chips * KV_MEMORY_SHARE
        if weights >= room:
            needed = int(weights / (accelerator.memory_bytes * KV_MEMORY_SHARE)) + 1
            yield Problem(
                True,
                f"spec.{role.value}.parallelism: weights take {weights / GB:.0f} GB and {chips} {accelerator.name} "
                f"leave {room / GB:.0f} GB; set tensor to at least {needed}",
            )


def _context(service: InferenceService, capacity: CapacityModel) -> Iterator[Problem]:
    length = service.spec.engine.context_length
    if length is not None and length > capacity.kv_capacity_tokens:
        yield Problem(
            True,
            f"spec.engine.contextLength: {length} tokens do not fit into the KV cache "
            f"({capacity.kv_capacity_tokens:,.0f} tokens); lower it, or give a replica more accelerators",
        )


def _budget(service: InferenceService, pools: tuple[PoolPlan, ...]) -> Iterator[Problem]:
    budget = service.spec.autoscaling.gpu_budget
    if budget is None:
        return
    least = sum(pool.minimum * pool.accelerators for pool in pools)
    most = sum(pool.maximum * pool.accelerators for pool in pools)
    if least > budget:
        message = f"spec.autoscaling.gpuBudget: {budget} is below the {least} that the pools' min take; raise it"
        yield Problem(True, message)
    elif most > budget:
        yield Problem(False, f"gpuBudget {budget} binds before the pools' max, which would take {most}")


def _layout(service: InferenceService) -> Iterator[Problem]:
    """KV moves between ranks of the same layout; other pairs need a transfer backend that re-shards."""
    if Role.PREFILL not in service.spec.roles:
        return
    prefill = service.spec.pool(Role.PREFILL).parallelism
    decode = service.spec.pool(Role.DECODE).parallelism
    if (prefill.tensor, prefill.pipeline) != (decode.tensor, decode.pipeline):
        yield Problem(
            False,
            f"prefill spreads over tensor {prefill.tensor} x pipeline {prefill.pipeline} and decode over "
            f"{decode.tensor} x {decode.pipeline}: KV must be re-sharded on its way; the same layout is safe",
        )
