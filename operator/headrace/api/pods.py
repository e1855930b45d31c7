"""The parts of the spec that shape pods: resources, environment, and the overlay on the pod template."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from headrace.api.base import CEL_KEY, ApiModel, cel
from headrace.api.quantity import Quantity

# Prefixes that Headrace sets itself: a user's value would break selectors, drain or the gateway's discovery.
RESERVED_PREFIXES = ("headrace.dev/", "app.kubernetes.io/", "sglang.ai/", "controller.kubernetes.io/")

ObjectName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
_Key = Annotated[str, StringConstraints(min_length=1, max_length=317)]  # 253 for the prefix, "/", 63 for the name
_LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
_AnnotationValue = Annotated[str, StringConstraints(max_length=4096)]

_NOT_RESERVED = cel(
    "self.all(key, " + " && ".join(f"!key.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES) + ")",
    f"keys that start with {', '.join(RESERVED_PREFIXES)} are set by Headrace",
)


def _refuse_reserved(entries: dict[str, str]) -> dict[str, str]:
    for key in entries:
        if key.startswith(RESERVED_PREFIXES):
            raise ValueError(f'"{key}" is set by Headrace; set a key with another prefix')
    return entries


_OwnKeys: Any = Field(default_factory=dict, max_length=32, json_schema_extra={CEL_KEY: [_NOT_RESERVED]})


class LocalReference(ApiModel):
    """An object of the same namespace."""

    name: ObjectName
    """Its name."""


class SecretKey(ApiModel):
    """One key of a Secret of the same namespace."""

    name: ObjectName
    """The Secret's name."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=253)] = "token"
    """The key that holds the value."""


class EnvVar(ApiModel):
    """An environment variable with a plain value. Secrets belong into `model.credentials`, never here."""

    name: Annotated[str, StringConstraints(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The variable's name."""

    value: Annotated[str, StringConstraints(max_length=4096)]
    """The variable's value."""


class Resources(ApiModel):
    """CPU, memory and other resources of one container. The accelerator's own resource is added from the catalogue."""

    requests: dict[_Key, Quantity] = Field(default_factory=dict, max_length=16)
    """What the scheduler sets aside."""

    limits: dict[_Key, Quantity] = Field(default_factory=dict, max_length=16)
    """What the container may use at most."""


class TolerationOperator(StrEnum):
    """How a toleration compares a taint."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """A taint that the pods tolerate."""

    key: _Key | None = None
    """The taint's key; absent with operator Exists: every key."""

    operator: TolerationOperator = TolerationOperator.EQUAL
    """Exists compares the key alone, Equal the value too."""

    value: _LabelValue | None = None
    """The taint's value, with operator Equal."""

    effect: TaintEffect | None = None
    """The taint's effect; absent: every effect."""

    toleration_seconds: int | None = Field(default=None, ge=0)
    """How long a NoExecute taint is borne, in seconds; absent: for ever."""


class PodTemplate(ApiModel):
    """An overlay on the pods of a pool. What Headrace needs for serving and draining cannot be overlaid."""

    labels: Annotated[dict[_Key, _LabelValue], AfterValidator(_refuse_reserved)] = _OwnKeys
    """Further labels."""

    annotations: Annotated[dict[_Key, _AnnotationValue], AfterValidator(_refuse_reserved)] = _OwnKeys
    """Further annotations."""

    node_selector: dict[_Key, _LabelValue] = Field(default_factory=dict, max_length=32)
    """Labels that a node must have, beside those of the accelerator."""

    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)
    """Taints that the pods tolerate, beside those of the accelerator."""

    priority_class_name: ObjectName | None = None
    """The pods' PriorityClass."""

    runtime_class_name: ObjectName | None = None
    """The pods' RuntimeClass, where accelerators need one (for example "nvidia")."""
