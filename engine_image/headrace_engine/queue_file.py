"""queue.json beside engine.json: the order in which requests are taken, which changes while the engine runs."""

import logging
from pathlib import Path

from pydantic import ValidationError

from headrace_engine_config.late_last import QueueConfig

log = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0  # a changed objective comes by way of a kubelet that takes longer than that


class QueueFile:
    """The file's content as of the last look; times are seconds of any one clock."""

    def __init__(self, path: Path | None) -> None:
        self._path = path  # None: there is no such file, and the order is that of arrival
        self._looked_at = float("-inf")
        self._config: QueueConfig | None = None
        self._trouble: str | None = None  # said once, not at each look

    def current(self, now: float) -> QueueConfig | None:
        """What the file says; None without one. A file that can't be used leaves the last one in force."""
        if self._path is None or now - self._looked_at < LOOK_EVERY_S:
            return self._config
        self._looked_at = now
        try:
            self._follow(QueueConfig.model_validate_json(self._path.read_bytes()))
        except FileNotFoundError:
            self._follow(None)
        except (OSError, ValidationError) as error:
            self._complain(error)
        return self._config

    def _follow(self, config: QueueConfig | None) -> None:
        if config != self._config:
            log.info("queue.json: %s", config.model_dump_json(by_alias=True) if config else "gone; order of arrival")
        self._config, self._trouble = config, None

    def _complain(self, error: OSError | ValidationError) -> None:
        trouble = str(error)
        if isinstance(error, ValidationError):
            fields = ((".".join(map(str, e["loc"])) or "not JSON", e["msg"]) for e in error.errors())
            trouble = "; ".join(f"{field}: {message}" for field, message in fields)
        if trouble != self._trouble:
            log.error("queue.json can't be used, the last order stays: %s", trouble)
        self._trouble = trouble
