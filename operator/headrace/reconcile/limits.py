"""The spec's bounds and objective, and the operator's timings, as the limits of a decision."""

from headrace.api.pools import ScalingMode, parse_ratio
from headrace.api.serving import QueueOrder
from headrace.api.v1alpha1 import InferenceService
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.catalog.accelerators import Accelerator
from headrace.reconcile.replicas import Bounds


def objective_of(service: InferenceService) -> Objective:
    """The objective that a service is sized for."""
    slo = service.spec.slo
    return Objective(
        ttft_s=slo.ttft_s,
        tpot_s=slo.tpot_s,
        percentile=float(slo.percentile),
        ttft_per_1k_prompt_s=slo.ttft_s_per_1k_tokens or 0.0,
    )


def bounds_of(service: InferenceService) -> dict[str, Bounds]:
    """The replica bounds by role."""
    pools = {role: service.spec.pool(role).replicas for role in service.spec.roles}
    return {role.value: Bounds(replicas.min, replicas.upper) for role, replicas in pools.items()}


def limits_of(
    service: InferenceService,
    accelerator: Accelerator,
    *,
    tick_s: float,
    scale_down_window_s: float | None,
    restart_hold_s: float,
    max_starting: int,
) -> Limits:
    """Everything that a decision about the service must respect."""
    spec = service.spec
    roles = {}
    for role in spec.roles:
        pool = spec.pool(role)
        chips = float(pool.parallelism.accelerators)
        roles[role] = RoleLimits(
            min=pool.replicas.min,
            max=pool.replicas.upper,
            gpus=chips,
            cost_per_hour=chips * accelerator.price_per_hour,
        )
    band = spec.autoscaling.pd_band
    return Limits(
        objective=objective_of(service),
        roles=roles,
        gpu_budget=None if spec.autoscaling.gpu_budget is None else float(spec.autoscaling.gpu_budget),
        pd_ratio_min=float(parse_ratio(band.min)) if band else None,
        pd_ratio_max=float(parse_ratio(band.max)) if band else None,
        tick_s=tick_s,
        scale_down_window_s=scale_down_window_s,
        restart_hold_s=restart_hold_s,
        max_starting=max_starting,
        starts_shared=True,
        late_last=spec.queue_order is QueueOrder.LATE_LAST,
        paused=service.paused,
        advisory=spec.autoscaling.mode is ScalingMode.ADVISORY,
    )
