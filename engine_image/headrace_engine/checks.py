"""What can be said about a configuration before half a minute of imports."""

import json
from pathlib import Path

from headrace_engine_config import EngineConfig, EngineConfigError


def check_model(config: EngineConfig) -> None:
    """A model given as a directory must be one; raises EngineConfigError with the mend."""
    if not config.model_path.startswith("/"):
        return
    path = Path(config.model_path)
    if not path.is_dir():
        raise EngineConfigError(
            f"modelPath: {path} is not a directory; mount the model there or correct spec.model.source"
        )
    file = path / "config.json"
    if not file.is_file():
        raise EngineConfigError(f"modelPath: {path} has no config.json; it must be a model directory as a hub has it")
    try:
        json.loads(file.read_text())
    except ValueError as error:
        raise EngineConfigError(f"modelPath: {file} is not JSON ({error}); copy the model again") from None
