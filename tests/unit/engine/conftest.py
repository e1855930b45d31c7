"""Configurations that differ from a plain one in what a test is about."""

from collections.abc import Callable
from typing import Any

import pytest

from headrace_engine_config import EngineConfig

MakeConfig = Callable[..., EngineConfig]


@pytest.fixture
def config() -> MakeConfig:
    def make(**changes: Any) -> EngineConfig:
        plain = {"model_path": "/models/tiny", "served_model_name": "tiny", "role": "worker", "device": "cpu"}
        return EngineConfig(**{**plain, **changes})

    return make
