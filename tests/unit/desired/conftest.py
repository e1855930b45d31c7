from collections.abc import Callable
from typing import Any

import pytest

from headrace.api.v1alpha1 import InferenceService

Make = Callable[..., InferenceService]


@pytest.fixture
def service() -> Make:
    """A service as read from the API server; keyword arguments replace parts of the spec."""

    def make(topology: str = "Disaggregated", name: str = "chat", **spec: Any) -> InferenceService:
        return InferenceService.parse(
            {
                "apiVersion": "headrace.dev/v1alpha1",
                "kind": "InferenceService",
                "metadata": {"name": name, "namespace": "team", "uid": "uid-1"},
                "spec": {
                    "model": {"source": "hf://Qwen/Qwen3-8B"},
                    "accelerator": "nvidia-h100",
                    "topology": topology,
                    **spec,
                },
            }
        )

    return make
