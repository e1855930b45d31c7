"""Metrics of what was decided and from which bounds and capacity: `headrace replay --from prometheus` reads them."""

from collections.abc import Mapping
from math import exp

from prometheus_client import CollectorRegistry, Gauge

from headrace.api.pools import ScalingMode
from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.figures import capacity_figures, limit_figures
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.memory import startup_s
from headrace.autoscaler.plan import Plan
from headrace.autoscaler.signals import Signals
from headrace.loops.keys import Key
from headrace.observability.families import OF_ROLE, OF_SERVICE, Families, Family

HALVES = ("prefill", "decode")


class DecisionMetrics(Families):
    """The latest decision of each service in numbers: some 55 series for one with prefill and decode."""

    target = Family(
        Gauge,
        "headrace_target_replicas",
        "Replicas that the autoscaler decided for, without those that drain.",
        OF_ROLE,
    )
    mode = Family(
        Gauge,
        "headrace_scaling_mode",
        "1 for the mode that a service is scaled in: Internal, HPA, KEDA or Advisory.",
        (*OF_SERVICE, "mode"),
    )
    workload = Family(
        Gauge,
        "headrace_workload_replicas",
        "spec.replicas of a role's workload as the decision saw it, those that drain included.",
        OF_ROLE,
    )
    floor = Family(
        Gauge,
        "headrace_floor_replicas",
        "Replicas below which a role may not go because somebody else wrote that number; 0: nobody did.",
        OF_ROLE,
    )
    need = Family(
        Gauge,
        "headrace_need_replicas",
        "Replicas that one constraint asks for by itself; the largest one binds.",
        (*OF_ROLE, "constraint"),
    )
    feedback = Family(
        Gauge,
        "headrace_feedback_factor",
        "Factor on the needs of prefill or decode for what clients got of late; 1: what the model asks for.",
        (*OF_SERVICE, "half"),
    )
    startup = Family(
        Gauge,
        "headrace_startup_seconds",
        "Start-up time that decisions about a role reckon with: the learned 90 % quantile, or the prior.",
        OF_ROLE,
    )
    limit = Family(
        Gauge,
        "headrace_limit",
        "What decisions must respect, by name and in the unit of its name: objective.ttft_s, prefill.max, tick_s.",
        (*OF_SERVICE, "limit"),
    )
    capacity = Family(
        Gauge,
        "headrace_capacity",
        "The calibrated capacity model of one replica, by name and in the unit of its name: steps.decode_base_s.",
        (*OF_SERVICE, "figure"),
    )

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._kinds: dict[Key, tuple[ScalingMode, tuple[Role, ...]]] = {}
        self._limits: dict[Key, Limits] = {}
        self._models: dict[Key, CapacityModel] = {}

    def publish(self, key: Key, mode: ScalingMode, signals: Signals, limits: Limits, made: Plan) -> None:
        """Set all series of a service. Limits and capacity are written only when they changed."""
        kind = mode, tuple(limits.roles)
        if self._kinds.get(key) != kind:
            self.forget(key)  # another topology or mode: the series of the roles that are gone
            self.mode.labels(*key, mode.value).set(1)
        known, model = self._limits.get(key), self._models.get(key)
        for role, part in made.decision.roles.items():
            labels = (*key, role.value)
            self.target.labels(*labels).set(part.target.replicas)
            self.startup.labels(*labels).set(startup_s(made.memory.role(role), limits.startup_prior_s))
            for need in part.needs:
                self.need.labels(*labels, need.constraint.value).set(need.replicas)
        for half in HALVES:
            self.feedback.labels(*key, half).set(exp(getattr(made.memory.feedback, half)))
        for role, pool in signals.pools.items():
            self.workload.labels(*key, role.value).set(pool.desired)
            self.floor.labels(*key, role.value).set(pool.floor if pool.floor_until > signals.at else 0)
        if known != limits:
            _set(self.limit, key, limit_figures(limits), {} if known is None else limit_figures(known))
        if model is not made.model:
            _set(self.capacity, key, capacity_figures(made.model), {})
        self._kinds[key], self._limits[key], self._models[key] = kind, limits, made.model

    def forget(self, service: Key) -> None:
        """Drop every series of a service."""
        if self._kinds.pop(service, None) is None:
            return
        del self._limits[service], self._models[service]
        super().forget(service)


def _set(gauge: Gauge, key: Key, figures: Mapping[str, float], before: Mapping[str, float]) -> None:
    for name, value in figures.items():
        gauge.labels(*key, name).set(value)
    for name in before.keys() - figures.keys():  # a bound that was taken off
        gauge.remove(*key, name)
