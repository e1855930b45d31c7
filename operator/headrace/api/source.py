"""Where a model comes from: the schemes of `spec.model.source`, taken apart."""

import re
from dataclasses import dataclass
from enum import StrEnum

MAX_SOURCE_LENGTH = 512
# One expression for the API server and for us. Dots-only path parts are refused below, where the message can say why.
SOURCE_PATTERN = (
    r"^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
    r"|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[A-Za-z0-9._/-]*)?"
    r"|file:///[A-Za-z0-9._/-]+)$"
)


# Mounted over, these would take from the engine what it reads and writes there. Folders below them are fine.
_NEEDED_BY_THE_POD = (
    *("/dev", "/dev/shm", "/etc", "/etc/headrace", "/proc", "/sys", "/tmp", "/usr"),  # noqa: S108  paths in a pod
    *("/var", "/var/cache", "/var/cache/headrace"),
)
HIDING_PATTERN = f"^file:///*({'|'.join(_NEEDED_BY_THE_POD)})?/*$"


class Scheme(StrEnum):
    """The kinds of places a model can come from."""

    HUB = "hf"
    VOLUME_CLAIM = "pvc"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A source, taken apart. `place` is the repository or the claim, empty for files; `path` is the rest."""

    text: str
    scheme: Scheme
    place: str
    path: str

    @property
    def default_name(self) -> str:
        """The last part of the source: what the model is called unless the spec names it."""
        return self.text.rstrip("/").rsplit("/", 1)[-1]


def parse_source(text: str) -> ModelSource:
    """Take a source apart. Raises ValueError with the mend."""
    if not re.fullmatch(SOURCE_PATTERN, text):
        raise ValueError(
            f'"{text}" is not a model source; set hf://ORG/NAME, pvc://CLAIM/PATH or file:///PATH, '
            "for example hf://Qwen/Qwen3-8B"
        )
    scheme, _, rest = text.partition("://")
    if ".." in rest.split("/"):
        raise ValueError(f'"{text}" climbs out of its folder; set a path without ".."')
    match Scheme(scheme):
        case Scheme.HUB:
            return ModelSource(text, Scheme.HUB, rest, "")
        case Scheme.VOLUME_CLAIM:
            claim, _, path = rest.partition("/")
            return ModelSource(text, Scheme.VOLUME_CLAIM, claim, path.strip("/"))
        case Scheme.FILE:
            return ModelSource(text, Scheme.FILE, "", _folder(text, rest))


def _folder(text: str, path: str) -> str:
    folder = "/" + "/".join(part for part in path.split("/") if part not in {"", "."})
    if folder in {"/", *_NEEDED_BY_THE_POD}:
        raise ValueError(f'"{text}" would hide a folder that the engine needs; set a folder of the model\'s own')
    return folder
