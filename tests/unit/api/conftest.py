from collections.abc import Callable
from typing import Any

import pytest

Manifest = dict[str, Any]


@pytest.fixture
def manifest() -> Callable[..., Manifest]:
    """An InferenceService as a user writes it; keyword arguments replace parts of the spec."""

    def make(name: str = "chat", **spec: Any) -> Manifest:
        return {
            "apiVersion": "headrace.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"model": {"source": "hf://Qwen/Qwen3-8B"}, "accelerator": "cpu", **spec},
        }

    return make
