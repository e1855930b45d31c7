"""EngineConfig: what one engine process is told, whatever the version of SGLang behind it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator
from pydantic.alias_generators import to_camel

# The version that the argument table was checked against; another one is an error, never a guess.
DEFAULT_SGLANG_VERSION = "0.5.23"

# What the gateway, the probes and the autoscaler rely on has a field of its own; None: nothing else works.
OWN_ARGUMENTS = {
    "model-path": "modelPath",
    "model": "modelPath",
    "served-model-name": "servedModelName",
    "revision": "modelRevision",
    "device": "device",
    "tp-size": "parallelism.tensor",
    "tensor-parallel-size": "parallelism.tensor",
    "dp-size": "parallelism.data",
    "data-parallel-size": "parallelism.data",
    "ep-size": "parallelism.expert",
    "expert-parallel-size": "parallelism.expert",
    "ep": "parallelism.expert",
    "pp-size": "parallelism.pipeline",
    "pipeline-parallel-size": "parallelism.pipeline",
    "host": "host",
    "port": "port",
    "disaggregation-mode": "role",
    "disaggregation-bootstrap-port": "bootstrapPort",
    "enable-metrics": None,
}


def own_argument(name: str) -> str | None:
    """The argument of Headrace's own that a name would set: SGLang's parser takes beginnings for the whole."""
    return name if name in OWN_ARGUMENTS else next((own for own in OWN_ARGUMENTS if own.startswith(name)), None)


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class Parallelism(_Model):
    """How one replica spreads over accelerators."""

    tensor: int = Field(default=1, ge=1)
    data: int = Field(default=1, ge=1)
    expert: int = Field(default=1, ge=1)
    pipeline: int = Field(default=1, ge=1)


class Speculative(_Model):
    """Speculative decoding: a draft proposes, the model verifies."""

    algorithm: Literal["EAGLE", "EAGLE3", "NEXTN"]
    draft_model_path: str | None = None
    steps: int = Field(default=3, ge=1)
    top_k: int = Field(default=1, ge=1)
    draft_tokens: int = Field(default=4, ge=1)


class EngineConfig(_Model):
    """The whole of engine.json. Camel-case keys; an unknown key is an error."""

    model_path: str = Field(min_length=1)
    """Directory with the model's config.json, or a model hub's name."""
    served_model_name: str = Field(min_length=1)
    """The name that clients use in `model`."""
    model_revision: str | None = None
    """Branch, tag or commit on the hub; none for a directory."""
    role: Literal["prefill", "decode", "worker"]
    """worker: both phases in one engine."""
    device: Literal["cuda", "cpu"] = "cuda"
    sglang_version: str = DEFAULT_SGLANG_VERSION
    host: str = "0.0.0.0"  # noqa: S104 - inside a pod, whose network policy says who may connect
    port: int = Field(default=30000, ge=1, le=65535)
    bootstrap_port: int = Field(default=8998, ge=1, le=65535)
    """Where decode engines meet a prefill engine to agree on a KV transfer."""
    transfer_backend: Literal["mooncake", "mooncake_tcp", "nixl"] = "mooncake"
    parallelism: Parallelism = Parallelism()
    mem_fraction_static: float | None = Field(default=None, gt=0, lt=1)
    """Share of the device's memory for weights and KV cache; none: SGLang's own choice."""
    max_total_tokens: int | None = Field(default=None, ge=1)
    """KV tokens; none: what the memory holds."""
    max_running_requests: int | None = Field(default=None, ge=1)
    chunked_prefill_size: int | None = None
    """Prompt tokens of one prefill step; -1 switches chunking off."""
    context_length: int | None = Field(default=None, ge=1)
    page_size: int | None = Field(default=None, ge=1)
    kv_cache_dtype: Literal["auto", "fp8_e4m3", "fp8_e5m2", "bf16"] = "auto"
    radix_cache: bool = True
    """Keep the KV of finished prompts for requests that share a prefix."""
    speculative: Speculative | None = None
    slow_down_seconds: float | None = Field(default=None, ge=0)
    """Sleep in each forward step: for demos and tests where engines share the same cores."""
    termination_drain_seconds: float = Field(default=60, ge=0)
    """How long SIGTERM waits for running requests before the process ends."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    extra_args: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments of SGLang's server by their command-line names, without the dashes; they win over the table's. One that
    a field above sets is refused."""

    @field_validator("extra_args")
    @classmethod
    def _leave_our_own(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in value:
            if own := own_argument(name):
                field = OWN_ARGUMENTS[own]
                raise ValueError(f'"{name}" is set by Headrace; ' + (f"set {field} instead" if field else "remove it"))
        return value


class EngineConfigError(ValueError):
    """An engine.json that can't be used: one line for each field, each with what is wrong."""


def load_config(text: str | bytes) -> EngineConfig:
    """Parse engine.json; raises EngineConfigError with the fields by their names in the file."""
    try:
        return EngineConfig.model_validate_json(text)
    except ValidationError as error:
        raise EngineConfigError("; ".join(_sentence(e["loc"], e["type"], e["msg"]) for e in error.errors())) from None


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    field = ".".join(str(part) for part in location) or "engine.json"
    if kind == "extra_forbidden":
        return f"{field}: unknown key; remove it or check its spelling (SGLang's own arguments go below extraArgs)"
    if kind == "missing":
        return f"{field}: missing; set it"
    return f"{field}: {message.removeprefix('Value error, ')}"
