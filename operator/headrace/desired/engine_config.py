"""engine.json and queue.json: from the spec to the engine's own configuration, by the schemas that both sides share."""

from headrace.api.errors import Problem, SpecError
from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.catalog.accelerators import Accelerator, lookup
from headrace.desired.model_volume import model_mount
from headrace.desired.names import BOOTSTRAP_PORT, ENGINE_PORT
from headrace.desired.settings import DesiredSettings
from headrace_engine_config.config import EngineConfig
from headrace_engine_config.config import Parallelism as EngineParallelism
from headrace_engine_config.late_last import QueueConfig

# By the resource that a pod asks for: the engine's name of the device, and how KV goes from engine to engine there.
_CPU = ("cpu", "mooncake_tcp")
_DEVICES = {None: _CPU, "nvidia.com/gpu": ("cuda", "mooncake"), "amd.com/gpu": ("cuda", "mooncake")}


def engine_json(service: InferenceService, role: Role, settings: DesiredSettings) -> str:
    """The text of engine.json. Raises UnknownAccelerator, or SpecError for one that no engine runs on yet."""
    config = engine_config(service, role, settings)
    return config.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"


def engine_config(service: InferenceService, role: Role, settings: DesiredSettings) -> EngineConfig:
    """One role's configuration."""
    spec = service.spec
    device, transfer = _device(lookup(spec.accelerator))
    parallelism = spec.pool(role).parallelism
    return EngineConfig.model_validate(
        {
            "model_path": model_mount(spec.model.location).path,
            "served_model_name": spec.model.name,
            "model_revision": spec.model.revision,
            "role": role.value,
            "device": device,
            "port": ENGINE_PORT,
            "bootstrap_port": BOOTSTRAP_PORT,
            "transfer_backend": transfer,
            "parallelism": EngineParallelism(**parallelism.model_dump()),
            "max_total_tokens": spec.kv_cache.capacity_tokens,
            "max_running_requests": spec.engine.max_running_requests,
            "chunked_prefill_size": spec.engine.chunked_prefill_size,
            "context_length": spec.engine.context_length,
            "page_size": spec.kv_cache.page_size,
            "kv_cache_dtype": spec.kv_cache.dtype.value,
            "slow_down_seconds": spec.engine.slow_down_seconds,
            "termination_drain_seconds": settings.drain_deadline_s,
            "extra_args": spec.engine.extra_args,
        }
    )


def queue_json(service: InferenceService) -> str:
    """The text of queue.json, alike for all roles. Engines read it again when it changes, so it makes no revision."""
    slo = service.spec.slo
    config = QueueConfig.model_validate(
        {
            "order": service.spec.queue_order.value,
            "ttft_seconds": slo.ttft_s,
            "ttft_per_1k_prompt_seconds": slo.ttft_s_per_1k_tokens or 0.0,
        }
    )
    return config.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"


def _device(accelerator: Accelerator) -> tuple[str, str]:
    try:
        return _DEVICES[accelerator.resource_name]
    except KeyError:
        message = f"no engine runs on {accelerator.name} yet; set an NVIDIA or AMD accelerator, or cpu"
        raise SpecError([Problem("spec.accelerator", message)]) from None
