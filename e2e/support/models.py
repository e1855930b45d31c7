"""What scenarios serve: the tiny model with real engines, or the stand-in where it is not about the engine."""

import os
import subprocess
import sys
from pathlib import Path

from e2e.support.kubectl import Object

REAL_ENGINES = bool(os.environ.get("HEADRACE_E2E_REAL_ENGINES"))  # set by make e2e-full


def tiny_model(directory: Path) -> Path:
    """The tiny Qwen3 below a directory that the cluster's pods can read; made once."""
    path = directory / "tiny-qwen3"
    if not (path / "config.json").is_file():
        engine = str(Path(sys.executable).with_name("headrace-engine"))
        subprocess.run([engine, "make-tiny-model", "--out", str(path)], check=True)
    return path


def service_on_standin(folder: Path, name: str = "chat", topology: str = "Disaggregated", **spec: object) -> Object:
    """An InferenceService on the stand-in, Ready in seconds without a look at weights; on real engines in e2e-full."""
    roles = ("prefill", "decode") if topology == "Disaggregated" else ("worker",)
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "model": {"source": f"file://{folder}"},
            "accelerator": "cpu",
            "topology": topology,
            "engine": {} if REAL_ENGINES else {"image": "headrace/standin:dev"},
            **{role: {"replicas": {"min": 1, "max": 3}} for role in roles},
            **spec,
        },
    }
