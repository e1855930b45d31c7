"""The schemas of engine.json and queue.json: written by the operator, read by the engine.

pydantic only, so that both can import it.
"""

from headrace_engine_config.config import EngineConfig, EngineConfigError, Parallelism, load_config

__all__ = ["EngineConfig", "EngineConfigError", "Parallelism", "load_config"]
