"""What the autoscaler remembers between two ticks: one frozen value per service, bounded, JSON-able."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from headrace.api.roles import Role
from headrace.autoscaler.forecast import ForecastState
from headrace.autoscaler.history import History
from headrace.autoscaler.lengths import LengthLaw
from headrace.autoscaler.prompts import PromptLaw

STARTS_KEPT = 32  # start-ups remembered per role: enough for a 90 % quantile, soon over an image change
STARTS_NEEDED = 3  # before so many starts were seen the prior speaks too
LEAD_QUANTILE = 0.9  # capacity is ordered for the start-up that nine of ten pods keep


@dataclass(frozen=True, slots=True)
class PodMemory:
    """The last read of one pod, so that the next one gives differences. Times are epoch seconds."""

    at: float = 0.0
    uncached_tokens: float | None = None
    busy_s: float | None = None
    waiting_tokens: float | None = None
    used_tokens: float = 0.0
    moments: tuple[float, ...] | None = None
    arrivals_until: int = 0  # last complete second whose arrivals were counted
    start_counted: bool = False
    finished: int | None = None  # the engine's running count of answers


@dataclass(frozen=True, slots=True)
class Feedback:
    """What clients got, with a fading memory, and the integrals of what they should not have got (feedback.py)."""

    seconds: float = 0.0
    answers: float = 0.0
    ttft_missed: float = 0.0
    late_alone: float = 0.0  # of these, prompts that take longer than their objective on an idle replica
    tpot_missed: float = 0.0
    prefill: float = 0.0  # logarithm of the factor on prefill's needs
    decode: float = 0.0


@dataclass(frozen=True, slots=True)
class RoleMemory:
    """What a role did lately."""

    peaks: tuple[tuple[float, float], ...] = ()  # (time, need) that are larger than every later need
    starts_s: tuple[float, ...] = ()  # created -> ready of recent pods, newest last
    target: int | None = None
    victims: tuple[str, ...] = ()  # chosen at the last tick
    raised_at: float = 0.0
    lowered_at: float = 0.0
    lowered_from: int = 0  # replicas before the steps down since the last rise
    retracted_at: float = 0.0
    kv_capacity_tokens: float | None = None  # last seen of a replica
    held: tuple[tuple[float, float], ...] = ()  # (time, KV tokens held and waited for) within the look-back
    patience: float = 1.0  # multiplies the scale-down window; grows when a step down has to be taken back


@dataclass(frozen=True, slots=True)
class Memory:
    """All of it for one service. `since`: when this memory began, epoch seconds; 0: before the first tick."""

    since: float = 0.0
    at: float = 0.0
    pods: Mapping[str, PodMemory] = field(default_factory=dict)
    roles: Mapping[Role, RoleMemory] = field(default_factory=dict)
    history: History = field(default_factory=History)
    lengths: LengthLaw = field(default_factory=LengthLaw)
    prompts: PromptLaw = field(default_factory=PromptLaw)
    forecast: ForecastState = field(default_factory=ForecastState)
    feedback: Feedback = field(default_factory=Feedback)

    def role(self, role: Role) -> RoleMemory:
        """The role's memory, empty if it has none."""
        known = self.roles.get(role)
        return known if known is not None else RoleMemory()

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return asdict(replace(self, history=History())) | {"history": self.history.to_dict()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Memory":
        """What `to_dict` wrote, also after a round trip through JSON. Raises KeyError or TypeError on anything else."""
        return cls(
            since=record["since"],
            at=record["at"],
            pods={name: PodMemory(**_tuples(pod)) for name, pod in record["pods"].items()},
            roles={Role(name): RoleMemory(**_tuples(role)) for name, role in record["roles"].items()},
            history=History.from_dict(record["history"]),
            lengths=LengthLaw(**_tuples(record["lengths"])),
            prompts=PromptLaw(**_tuples(record["prompts"])),
            forecast=ForecastState(**_tuples(record["forecast"])),
            feedback=Feedback(**record["feedback"]),
        )


def initial_memory() -> Memory:
    """Memory of a service that was never planned."""
    return Memory()


def startup_s(memory: RoleMemory, prior_s: float, quantile: float = LEAD_QUANTILE) -> float:
    """Start-up time at the quantile; until three starts were seen, the largest of them and the prior."""
    if len(memory.starts_s) < STARTS_NEEDED:
        return max((*memory.starts_s, prior_s))
    ordered = sorted(memory.starts_s)
    return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]


def add_peak(
    peaks: tuple[tuple[float, float], ...], now: float, need: float, window_s: float
) -> tuple[tuple[float, float], ...]:
    """The running maximum of needs over a window: entries that a later, larger need covers are dropped."""
    kept = [(at, value) for at, value in peaks if at >= now - window_s and value > need]
    kept.append((now, need))
    return tuple(kept)


def _tuples(value: Any) -> Any:
    """Lists as tuples, all the way down a dict's values: what JSON loses."""
    if isinstance(value, Mapping):
        return {name: _tuples(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    return value
