"""The tiny model that the real engines serve in scenarios and in the demo."""

import subprocess
import sys
from pathlib import Path


def tiny_model(directory: Path) -> Path:
    """The tiny Qwen3 below a directory that the cluster's pods can read; made once."""
    path = directory / "tiny-qwen3"
    if not (path / "config.json").is_file():
        engine = str(Path(sys.executable).with_name("headrace-engine"))
        subprocess.run([engine, "make-tiny-model", "--out", str(path)], check=True)
    return path
