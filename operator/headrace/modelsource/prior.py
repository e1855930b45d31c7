"""The capacity model that a service begins with: its model's shape on its accelerator."""

from dataclasses import replace
from typing import Any

from headrace.api.roles import Role
from headrace.api.serving import KVCacheDtype
from headrace.api.v1alpha1 import InferenceServiceSpec
from headrace.autoscaler.capacity import CapacityModel
from headrace.catalog.accelerators import lookup
from headrace.modelsource.config import read_model


async def prior(spec: InferenceServiceSpec) -> CapacityModel:
    """What one replica is expected to do before anything was measured."""
    report = await read_model(spec.model.location)
    pool = spec.pool(Role.DECODE if Role.DECODE in spec.roles else Role.WORKER)
    dtype = spec.kv_cache.dtype
    model = CapacityModel.prior(
        report.facts,
        lookup(spec.accelerator),
        pool.parallelism.accelerators,
        None if dtype is KVCacheDtype.AUTO else dtype.value,
        chunk_tokens=spec.engine.chunked_prefill_size or 8192,  # SGLang's own default on large chips
        max_running=spec.engine.max_running_requests or 256,  # the capacity model's default
    )
    model = _with_sleep(model, spec.engine.slow_down_seconds or 0.0)
    tokens = spec.kv_cache.capacity_tokens
    return model if tokens is None else replace(model, kv_capacity_tokens=float(tokens))


def _with_sleep(model: CapacityModel, sleep_s: float) -> CapacityModel:
    """The engine sleeps that long before each step, prefill or decode, whatever is in it: known, not to be learnt."""
    steps = replace(
        model.steps,
        prefill_base_s=model.steps.prefill_base_s + sleep_s,
        decode_base_s=model.steps.decode_base_s + sleep_s,
    )
    return replace(model, prior_steps=steps, steps=steps)


def basis_of(spec: InferenceServiceSpec) -> tuple[Any, ...]:
    """What the prior depends on: when it changes, what was learnt is no longer about these engines."""
    pools = tuple(spec.pool(role).parallelism for role in spec.roles)
    return (spec.model, spec.accelerator, spec.topology, pools, spec.kv_cache, spec.engine)
