"""The status of an InferenceService: one object, composed in one place and applied whole by one field manager."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic.config import JsonDict

from headrace.api.base import ApiModel
from headrace.api.conditions import Condition

_TEXT_LIMIT = 1024  # enough for a sentence with its figures; the objects of a thousand services stay small


def _cut(text: Any) -> Any:
    """An explanation that is too long loses its end: the API server would refuse the whole status for it."""
    return text[:_TEXT_LIMIT] if isinstance(text, str) else text


Text = Annotated[str, StringConstraints(max_length=_TEXT_LIMIT), BeforeValidator(_cut)]
Word = Annotated[str, StringConstraints(max_length=64)]
Count = Annotated[int, Field(ge=0)]
_TIME: JsonDict = {"format": "date-time"}

RECENT_DECISIONS = 10  # an hour of a busy service; the whole history is in the log and the metrics


class RoleStatus(ApiModel):
    """The replicas of one role."""

    desired: Count = 0
    """Replicas that shall stay."""

    replicas: Count = 0
    """Pods that exist, draining ones included."""

    ready: Count = 0
    """Pods that serve."""

    starting: Count = 0
    """Pods that are not ready yet."""

    draining: Count = 0
    """Pods that were taken out of the gateway and finish what they have."""

    revision: Word = ""
    """The revision that new pods get."""

    summary: Word = ""
    """ready/desired, for kubectl get."""


class CapacityFigure(ApiModel):
    """One figure of the capacity model. Absent: not known."""

    predicted: float | None = None
    """From the accelerator's data and the model's facts alone."""

    measured: float | None = None
    """From the running engines' own sums."""


RoleCapacity = Annotated[dict[Word, CapacityFigure], Field(max_length=24)]


class NeedRecord(ApiModel):
    """Replicas that one constraint asks for."""

    constraint: Word
    """For example PrefillBacklog."""

    replicas: float
    """How many, fractional."""

    detail: Text = ""
    """The numbers that gave it."""


class VetoRecord(ApiModel):
    """A guard that changed or held the wanted number."""

    guard: Word
    """The guard's name."""

    message: Text
    """What it did, and why."""


class WhatIfRecord(ApiModel):
    """What would be expected with another number of replicas. Absent: not known."""

    replicas: Count
    """The number of replicas."""

    ttft_attainment: float | None = None
    """Share of requests within the TTFT objective, 0 to 1."""

    tpot_seconds: float | None = None
    """Seconds per output token."""

    kv_share: float | None = None
    """KV tokens over capacity."""

    accelerators: float | None = None
    """Accelerators of the role."""


class RoleDecisionRecord(ApiModel):
    """The last decision about one role."""

    current: Count
    """Replicas when it was decided."""

    target: Count
    """Replicas wanted."""

    starting: Count = 0
    """Replicas starting when it was decided."""

    draining: Count = 0
    """Replicas draining when it was decided."""

    needs: Annotated[tuple[NeedRecord, ...], Field(max_length=16)] = ()
    """What each constraint asks for."""

    binding: Word = ""
    """The constraint that asks for most."""

    reason: Word
    """Why the target is what it is."""

    message: Text = ""
    """The same in a sentence."""

    vetoes: Annotated[tuple[VetoRecord, ...], Field(max_length=16)] = ()
    """Guards that changed or held the number."""

    what_if: Annotated[tuple[WhatIfRecord, ...], Field(max_length=8)] = ()
    """What one replica less or more would bring."""


class DecisionRecord(ApiModel):
    """The last scaling decision."""

    at: str = Field(json_schema_extra=_TIME)
    """When it was taken."""

    prefill: RoleDecisionRecord | None = None
    """About the prefill pool."""

    decode: RoleDecisionRecord | None = None
    """About the decode pool."""

    worker: RoleDecisionRecord | None = None
    """About the aggregated pool."""

    inputs: Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] = Field(
        default_factory=dict
    )
    """The figures it was taken on, units in their names."""


class TargetChange(ApiModel):
    """A decision that changed a target."""

    at: str = Field(json_schema_extra=_TIME)
    """When."""

    role: Word
    """Of which role."""

    from_replicas: Count
    """The target before."""

    to_replicas: Count
    """The target after."""

    binding: Word = ""
    """The constraint that asked for most."""

    reason: Word
    """Why."""

    message: Text = ""
    """The same in a sentence."""


class InferenceServiceStatus(ApiModel):
    """What is, as last observed."""

    observed_generation: int = 0
    """The generation of the spec that this status speaks about."""

    conditions: Annotated[tuple[Condition, ...], Field(max_length=32)] = Field(
        default=(), json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    )
    """Ready, Reconciling, Stalled and the parts' own."""

    endpoint: Text | None = None
    """The URL inside the cluster that clients use."""

    prefill: RoleStatus | None = None
    """The prefill pool."""

    decode: RoleStatus | None = None
    """The decode pool."""

    worker: RoleStatus | None = None
    """The aggregated pool."""

    gateway: RoleStatus | None = None
    """The gateways."""

    resolved: Annotated[
        dict[str, Any] | None, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    ] = None
    """The spec with every default filled in, and what follows from it."""

    capacity: Annotated[dict[Word, RoleCapacity], Field(max_length=4)] | None = None
    """What one replica can do: by role, then by figure (for example prefillTokensPerSecond; units in the names)."""

    decision: DecisionRecord | None = None
    """The last scaling decision."""

    recent_decisions: Annotated[tuple[TargetChange, ...], Field(max_length=RECENT_DECISIONS)] = Field(
        default=(), json_schema_extra={"x-kubernetes-list-type": "atomic"}
    )
    """The last decisions that changed a target, newest first."""

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> "InferenceServiceStatus":
        """The status of a live object; fields of a newer version are passed over. Empty if there is none yet."""
        return cls.model_validate(manifest.get("status") or {}, extra="ignore", by_alias=True, by_name=False)
