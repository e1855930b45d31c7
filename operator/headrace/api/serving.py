"""What serves: the blocks `engine`, `kvCache` and `gateway` of the spec."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, WithJsonSchema, field_validator

from headrace.api.base import ApiModel
from headrace.api.pods import EnvVar, PodTemplate, Resources
from headrace_engine_config.config import OWN_ARGUMENTS, own_argument

# Where the spec says what an engine's own argument sets; those without an entry are Headrace's alone.
_SPEC_FIELDS = {
    "modelPath": "spec.model.source",
    "servedModelName": "spec.model.servedName",
    "modelRevision": "spec.model.revision",
    "device": "spec.accelerator",
    "parallelism.tensor": "parallelism.tensor",
    "parallelism.data": "parallelism.data",
    "parallelism.expert": "parallelism.expert",
    "parallelism.pipeline": "parallelism.pipeline",
    "role": "spec.topology",
}


def _check_arguments(arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name, value in arguments.items():
        if name.startswith("-"):
            raise ValueError(f'"{name}" has dashes; set {name.lstrip("-")}: VALUE (true for a flag)')
        if own := own_argument(name):
            field = _SPEC_FIELDS.get(OWN_ARGUMENTS[own] or "")
            raise ValueError(f'"{name}" is set by Headrace; ' + (f"set {field} instead" if field else "remove it"))
        if isinstance(value, dict):
            raise ValueError(f'"{name}" is a map; set a text, a number, true, or a list of these')  # noqa: TRY004
    return arguments


ExtraArgs = Annotated[
    dict[str, JsonValue],
    AfterValidator(_check_arguments),
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]


class GatewayPolicy(StrEnum):
    """How the gateway picks an engine."""

    CACHE_AWARE = "CacheAware"
    ROUND_ROBIN = "RoundRobin"
    POWER_OF_TWO = "PowerOfTwo"
    LEAST_LOAD = "LeastLoad"
    RANDOM = "Random"


class Gateway(ApiModel):
    """The gateway in front of the engines: an OpenAI-compatible endpoint that picks an engine for each request."""

    replicas: int = Field(default=1, ge=1, le=64)
    """Number of gateways. Each keeps its own picture of the prefix caches."""

    policy: GatewayPolicy = GatewayPolicy.CACHE_AWARE
    """How an engine is picked; with prefill and decode pools: how the prefill engine is picked."""

    resources: Resources = Resources(requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "1Gi"})
    """CPU and memory of one gateway."""

    pod_template: PodTemplate = PodTemplate()
    """Overlay on the gateway pods."""


class KVCacheDtype(StrEnum):
    """The number format of the KV cache."""

    AUTO = "auto"
    BF16 = "bf16"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


class KVCache(ApiModel):
    """The KV cache of each engine."""

    dtype: KVCacheDtype = KVCacheDtype.AUTO
    """Number format; auto: the model's."""

    page_size: int | None = Field(default=None, ge=1, le=1024)
    """Tokens a page, the grain of prefix sharing and of the transfer between engines; absent: the engine's choice."""

    capacity_tokens: int | None = Field(default=None, ge=1)
    """Tokens that fit; absent: what the memory allows."""


PRIORITIES = "enable-priority-scheduling"  # SGLang's argument by which clients' priorities order what waits


class QueueOrder(StrEnum):
    """In which order an engine takes the requests that wait."""

    LATE_LAST = "LateLast"
    ARRIVAL = "Arrival"


class Engine(ApiModel):
    """The engine that the pools run."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """Container image; absent: the operator's default."""

    context_length: int | None = Field(default=None, ge=1)
    """Longest prompt plus output, in tokens; absent: the model's."""

    max_running_requests: int | None = Field(default=None, ge=1)
    """Most requests of one engine in a batch; absent: what the memory allows."""

    chunked_prefill_size: int | None = Field(default=None, ge=1)
    """Prompt tokens prefilled in one step; absent: the engine's own choice."""

    queue_order: QueueOrder = QueueOrder.LATE_LAST
    """LateLast: waiting requests that are as good as late for the TTFT objective give way to younger ones, so that more
    meet it; under a lasting overload late ones wait until it is over. Arrival: first come, first served: set it where
    the longest wait matters more than the share of requests within the objective. A change rolls no engine."""

    extra_args: ExtraArgs = Field(default_factory=dict, max_length=64)
    """Further arguments of SGLang by their command-line names: {attention-backend: fa3, enable-mixed-chunk: true}."""

    slow_down_seconds: float | None = Field(default=None, ge=0, le=60)
    """Sleep in each step of the engine. For tests and demos alone, where engines share the same cores."""

    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Further environment variables of the engine."""

    @field_validator("env")
    @classmethod
    def _names_are_unlike(cls, value: tuple[EnvVar, ...]) -> tuple[EnvVar, ...]:
        names = [variable.name for variable in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f'"{twice}" is there twice; keep one')
        return value
