"""Short fingerprints of what decides a result: the code, and the trace files. Rows of others are told apart by them."""

import hashlib
from functools import lru_cache
from pathlib import Path

from headrace.simulator import bounds

FOLDERS = (Path(bounds.__file__).parents[1], Path(__file__).parent)  # the package headrace, and this folder


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Eight hex digits over all sources of the product and of the benchmarks. A docstring changes it too."""
    found = hashlib.sha256()
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:8]


def file_digest(path: Path) -> str:
    """Eight hex digits over a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]
