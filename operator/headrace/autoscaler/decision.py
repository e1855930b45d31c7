"""What a decision is: targets with the inputs, needs, vetoes and what-ifs that explain them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from headrace.api.roles import Role


class Constraint(StrEnum):
    """What a number of replicas is needed for. The one that asks for most is the binding one."""

    PREFILL_ENVELOPE = "PrefillEnvelope"  # bursts seen: tokens that arrived within the TTFT budget
    PREFILL_RATE = "PrefillRate"  # offered prefill work at the lead time, plus a margin
    PREFILL_BACKLOG = "PrefillBacklog"  # queued tokens to be worked off within the budget
    DECODE_KV = "DecodeKV"  # KV tokens held
    DECODE_STEP = "DecodeStep"  # batch size at which a step still meets the TPOT objective
    KV_LINK = "KVLink"  # bytes per second from prefill to decode
    MINIMUM = "Minimum"  # the lower bound of the spec


class Reason(StrEnum):
    """Why the target is what it is: the reason code of the record, the Event and the metric."""

    STEADY = "Steady"
    SCALE_UP = "ScaleUp"
    SCALE_DOWN = "ScaleDown"
    REACTIVATE = "Reactivate"
    HELD = "Held"  # a change was wanted and a guard vetoed it
    LIMITED = "Limited"  # more was needed than bounds, budget or quota allow
    NO_SIGNALS = "NoSignals"
    PAUSED = "Paused"


@dataclass(frozen=True, slots=True)
class RoleTarget:
    """How many replicas a role should have, and which pods go or come back.

    `replicas` counts the pods that shall stay (serving and starting). Victims drain first and leave only when idle.
    """

    role: Role
    replicas: int
    victims: tuple[str, ...] = ()
    reactivate: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """Replicas that one constraint asks for (fractional), and the numbers that gave it in one line."""

    constraint: Constraint
    replicas: float
    detail: str


@dataclass(frozen=True, slots=True)
class Veto:
    """A guard that changed or held the wanted number."""

    guard: str
    message: str


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What would be expected with another number of replicas. None: not known."""

    replicas: int
    ttft_attainment: float | None  # expected share of requests within the TTFT objective, 0..1
    tpot_s: float | None  # expected seconds per output token
    kv_share: float | None  # expected KV tokens over capacity, 0..
    gpus: float


@dataclass(frozen=True, slots=True)
class RoleDecision:
    """One role's part of a decision."""

    target: RoleTarget
    serving: int
    starting: int
    draining: int
    needs: tuple[Need, ...]
    binding: Constraint
    reason: Reason
    message: str  # one sentence a person can read
    vetoes: tuple[Veto, ...] = ()
    what_if: tuple[WhatIf, ...] = ()


@dataclass(frozen=True, slots=True)
class SignalHealth:
    """Whether the signals can carry a decision: the condition SignalsHealthy."""

    healthy: bool
    reason: str  # CamelCase: Fresh, PodsSilent, Stale, NoEngineState, ...
    message: str
    fresh: int  # pods by state
    stale: int
    missing: int


@dataclass(frozen=True, slots=True)
class Decision:
    """One record per service and tick: what was decided and everything that led to it."""

    service: str
    at: float
    roles: Mapping[Role, RoleDecision]
    health: SignalHealth
    inputs: Mapping[str, Any] = field(default_factory=dict)  # flat, JSON-able figures with units in their names
    shed: bool = False  # hint for the gateways: predicted TTFT is beyond help for the whole horizon

    def targets(self) -> dict[Role, RoleTarget]:
        """The targets alone."""
        return {role: decision.target for role, decision in self.roles.items()}
