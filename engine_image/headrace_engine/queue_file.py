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
        self._text: str | None = None
        self._config: QueueConfig | None = None

    def current(self, now: float) -> QueueConfig | None:
        """What the file says; None without one. A file that can't be used leaves the last one in force."""
        if self._path is None or now - self._looked_at < LOOK_EVERY_S:
            return self._config
        self._looked_at = now
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = None
        except OSError as error:
            log.warning("queue.json: not readable (%s); the last order stays", error)
            return self._config
        if text != self._text:
            self._text = text
            self._config = None if text is None else self._parsed(text)
        return self._config

    def _parsed(self, text: str) -> QueueConfig | None:
        try:
            return QueueConfig.model_validate_json(text)
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'queue.json'}: {e['msg']}" for e in error.errors())
            log.error("queue.json can't be used, the last order stays: %s", found)  # noqa: TRY400 - the fields say it all
            return self._config
