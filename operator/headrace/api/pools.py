"""How many engines, over how many accelerators: the pools of the spec and the block `autoscaling`."""

from enum import StrEnum
from fractions import Fraction
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from headrace.api.base import CEL_KEY, ApiModel, cel
from headrace.api.pods import PodTemplate, Resources

MAX_REPLICAS = 1000  # far above any pool seen; stops a slip of the keyboard from asking for a million pods
MAX_PARALLELISM = 64  # ranks of one kind in a replica


class ScalingMode(StrEnum):
    """Who sizes the pools."""

    INTERNAL = "Internal"
    HPA = "HPA"
    KEDA = "KEDA"
    ADVISORY = "Advisory"
    OFF = "Off"

    @property
    def delegated(self) -> bool:
        """Whether Headrace decides and an object that it makes for the purpose writes the replicas."""
        return self in {ScalingMode.HPA, ScalingMode.KEDA}

    @property
    def acts(self) -> bool:
        """Whether decisions are carried out, by whomever."""
        return self is ScalingMode.INTERNAL or self.delegated


class Replicas(ApiModel):
    """Bounds of a pool. The live count is in the status and in the workload, never here."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL_KEY: [cel("!has(self.max) || self.min <= self.max", "must be at least min; raise it", ".max")]
        }
    )

    min: int = Field(default=1, ge=1, le=MAX_REPLICAS)
    """The least number of replicas; also what a new service starts with."""

    max: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)
    """The greatest number of replicas; equal to `min` unless set, so that no accelerator is taken unasked."""

    @field_validator("max")
    @classmethod
    def _max_is_at_least_min(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min", 1)
        if value is not None and value < least:
            raise ValueError(f"{value} is below min {least}; set max to {least} or more, or lower min")
        return value

    @property
    def upper(self) -> int:
        """The upper bound that holds."""
        return self.min if self.max is None else self.max


class Parallelism(ApiModel):
    """How one replica spreads over accelerators."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL_KEY: [
                cel("self.tensor % self.expert == 0", "must divide tensor", ".expert"),
            ]
        }
    )

    tensor: int = Field(default=1, ge=1, le=MAX_PARALLELISM)
    """Tensor parallel ranks."""

    data: int = Field(default=1, ge=1, le=MAX_PARALLELISM)
    """Copies of the tensor and pipeline parallel group within one replica."""

    expert: int = Field(default=1, ge=1, le=MAX_PARALLELISM)
    """Expert parallel ranks, within the tensor parallel group; must divide `tensor`."""

    pipeline: int = Field(default=1, ge=1, le=MAX_PARALLELISM)
    """Pipeline stages, each with `tensor` ranks."""

    @field_validator("expert")
    @classmethod
    def _divides_tensor(cls, value: int, info: ValidationInfo) -> int:
        tensor = info.data.get("tensor", value)
        if tensor % value:
            raise ValueError(f"{value} does not divide tensor {tensor}; set a divisor of {tensor}")
        return value

    @property
    def accelerators(self) -> int:
        """Accelerators that one replica takes: 2 tensor x 2 pipeline x 2 data ranks are 8; experts add none."""
        return self.tensor * self.pipeline * self.data


class Pool(ApiModel):
    """The engines of one role."""

    replicas: Replicas = Replicas()
    """Bounds of the number of engines."""

    parallelism: Parallelism = Parallelism()
    """How one engine spreads over accelerators."""

    resources: Resources = Resources()
    """CPU and memory of one engine; the accelerators are added from the catalogue and `parallelism`."""

    pod_template: PodTemplate = PodTemplate()
    """Overlay on the engine pods."""


_RATIO_PATTERN = r"^[1-9][0-9]{0,2}:[1-9][0-9]{0,2}$"
Ratio = Annotated[str, StringConstraints(max_length=7, pattern=_RATIO_PATTERN)]


def parse_ratio(text: str) -> Fraction:
    """Prefill over decode engines: "1:4" is 1/4."""
    prefill, decode = text.split(":")
    return Fraction(int(prefill), int(decode))


class PDBand(ApiModel):
    """Bounds on prefill engines for each decode engine."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL_KEY: [
                cel(
                    "int(self.min.split(':')[0]) * int(self.max.split(':')[1])"
                    " <= int(self.max.split(':')[0]) * int(self.min.split(':')[1])",
                    "must not be a smaller share of prefill than min",
                    ".max",
                )
            ]
        }
    )

    min: Ratio = "1:64"
    """The smallest share of prefill, for example "1:4": at least one prefill engine for four decode engines."""

    max: Ratio = "64:1"
    """The greatest share of prefill, for example "2:1": at most two prefill engines for one decode engine."""

    @field_validator("max")
    @classmethod
    def _max_is_at_least_min(cls, value: str, info: ValidationInfo) -> str:
        least = info.data.get("min")
        if least is not None and parse_ratio(value) < parse_ratio(least):
            raise ValueError(f'"{value}" is a smaller share of prefill than min "{least}"; set it to "{least}" or more')
        return value


class Autoscaling(ApiModel):
    """How the pools are sized."""

    mode: ScalingMode = ScalingMode.INTERNAL
    """Internal: Headrace sizes the pools. HPA, KEDA: Headrace decides, and a HorizontalPodAutoscaler or a ScaledObject
    that it makes for each pool writes the replicas. Advisory: it decides and shows, and writes nothing. Off: it does
    neither."""

    gpu_budget: int | None = Field(default=None, ge=1)
    """Most accelerators that all pools together may take, those of starting and draining engines included."""

    pd_band: PDBand | None = None
    """Bounds on the ratio of prefill to decode engines (topology Disaggregated)."""
