"""What serves: the blocks `engine`, `kvCache` and `gateway` of the spec."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from headrace.api.base import ApiModel
from headrace.api.pods import EnvVar, PodTemplate, Resources


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
    BF16 = "bfloat16"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


class KVCache(ApiModel):
    """The KV cache of each engine."""

    dtype: KVCacheDtype = KVCacheDtype.AUTO
    """Number format; auto: the model's."""

    page_size: int = Field(default=1, ge=1, le=1024)
    """Tokens a page: the grain of prefix sharing and of the transfer from prefill to decode."""

    capacity_tokens: int | None = Field(default=None, ge=1)
    """Tokens that fit; absent: what the memory allows."""


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

    extra_args: tuple[Annotated[str, StringConstraints(max_length=1024)], ...] = Field(default=(), max_length=64)
    """Further arguments of the engine, as on its command line: ["--attention-backend", "torch_native"]."""

    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """Further environment variables of the engine."""
