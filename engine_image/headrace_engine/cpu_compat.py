"""What SGLang lacks on a machine without CUDA, closed from outside. Nothing here runs where a GPU is.

1. `sgl_kernel` can't be imported without libcuda. A stub module is enough: its operations are never reached on the
   plain CPU path. It has no catch-all attribute, which would be mistaken for scalar types: only `*_cpu` names answer,
   and raise when called.
2. Mooncake's sender claims to read host tensors by index, which needs a CUDA copy.

Engine processes are spawned and import the main module anew, so the first gap is closed at its top, before SGLang
loads; the second by the plugin, which SGLang runs in each process.
"""

import importlib.machinery
import os
import sys
import types
from collections.abc import Callable

DEVICE_VARIABLE = "HEADRACE_ENGINE_DEVICE"  # spawned processes inherit it


def on_cpu() -> bool:
    """Whether this engine was told to run on the CPU."""
    return os.environ.get(DEVICE_VARIABLE) == "cpu"


def install() -> None:
    """Close the gaps that must be closed before SGLang is imported; a no-op on other devices."""
    if not on_cpu() or "sgl_kernel" in sys.modules:
        return
    stub = types.ModuleType("sgl_kernel", "Stands for GPU kernels on a CPU.")
    stub.__spec__ = importlib.machinery.ModuleSpec("sgl_kernel", loader=None, is_package=True)
    stub.__path__ = []
    stub.__getattr__ = _missing_kernel  # type: ignore[method-assign]
    sys.modules["sgl_kernel"] = stub


def _missing_kernel(name: str) -> Callable[..., None]:
    if not name.endswith("_cpu"):
        raise AttributeError(f"sgl_kernel has no {name} on a CPU")

    def kernel(*_: object, **__: object) -> None:
        raise RuntimeError(
            f"sgl_kernel.{name} needs the kernels of SGLang's CPU build, which no registry has as a wheel"
        )

    return kernel


def patch_mooncake() -> None:
    """Gap 2; to be called once SGLang can be imported."""
    from sglang.srt.disaggregation.mooncake.conn import MooncakeKVSender  # only in prefill on a CPU

    MooncakeKVSender.supports_host_tensor_indices = False
