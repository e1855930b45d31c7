"""Metrics of what was decided and from which bounds and capacity: `headrace replay --from prometheus` reads them."""

from collections.abc import Iterable, Mapping
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

HALVES = ("prefill", "decode")
_SERVICE = ("namespace", "service")
_ROLE = (*_SERVICE, "role")


class DecisionMetrics:
    """The latest decision of each service in numbers: some 55 series for one with prefill and decode."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.target = Gauge(
            "headrace_target_replicas",
            "Replicas that the autoscaler decided for, without those that drain.",
            _ROLE,
            registry=registry,
        )
        self.mode = Gauge(
            "headrace_scaling_mode",
            "1 for the mode that a service is scaled in: Internal, HPA, KEDA or Advisory.",
            (*_SERVICE, "mode"),
            registry=registry,
        )
        self.workload = Gauge(
            "headrace_workload_replicas",
            "spec.replicas of a role's workload as the decision saw it, those that drain included.",
            _ROLE,
            registry=registry,
        )
        self.floor = Gauge(
            "headrace_floor_replicas",
            "Replicas below which a role may not go because somebody else wrote that number; 0: nobody did.",
            _ROLE,
            registry=registry,
        )
        self.need = Gauge(
            "headrace_need_replicas",
            "Replicas that one constraint asks for by itself; the largest one binds.",
            (*_ROLE, "constraint"),
            registry=registry,
        )
        self.feedback = Gauge(
            "headrace_feedback_factor",
            "Factor on the needs of prefill or decode for what clients got of late; 1: what the model asks for.",
            (*_SERVICE, "half"),
            registry=registry,
        )
        self.startup = Gauge(
            "headrace_startup_seconds",
            "Start-up time that decisions about a role reckon with: the learned 90 % quantile, or the prior.",
            _ROLE,
            registry=registry,
        )
        self.limit = Gauge(
            "headrace_limit",
            "What decisions must respect, by name and in the unit of its name: objective.ttft_s, prefill.max, tick_s.",
            (*_SERVICE, "limit"),
            registry=registry,
        )
        self.capacity = Gauge(
            "headrace_capacity",
            "The calibrated capacity model of one replica, by name and in the unit of its name: steps.decode_base_s.",
            (*_SERVICE, "figure"),
            registry=registry,
        )
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

    def families(self) -> Iterable[Gauge]:
        """All of them."""
        return (
            self.mode,
            self.target,
            self.workload,
            self.floor,
            self.need,
            self.feedback,
            self.startup,
            self.limit,
            self.capacity,
        )

    def forget(self, key: Key) -> None:
        """Drop every series of a service."""
        if self._kinds.pop(key, None) is None:
            return
        del self._limits[key], self._models[key]
        for family in self.families():
            family.remove_by_labels({"namespace": key.namespace, "service": key.name})


def _set(gauge: Gauge, key: Key, figures: Mapping[str, float], before: Mapping[str, float]) -> None:
    for name, value in figures.items():
        gauge.labels(*key, name).set(value)
    for name in before.keys() - figures.keys():  # a bound that was taken off
        gauge.remove(*key, name)
