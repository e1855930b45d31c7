"""Reads a model's config.json where the operator can see it: file:// paths that exist on this machine too."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from headrace.api.source import ModelSource, Scheme
from headrace.catalog.models import IncompleteModelConfig, ModelFacts

MAX_CONFIG_BYTES = 4 << 20  # real ones have some kilobytes

# The shape of Llama-3.1-8B: what a model is taken for until its config.json can be read. Decode and prefill times are
# calibrated by the running engines within minutes; only the first decisions rest on this.
ASSUMED = ModelFacts(layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, intermediate=14336, vocab=128256)


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What is known of a model. `problem`: what is wrong with its files, with the mend; empty: nothing found."""

    facts: ModelFacts
    known: bool
    problem: str = ""


async def read_model(source: ModelSource) -> ModelReport:
    """The facts of a model, from its config.json where it can be read from here. Never raises."""
    if source.scheme is not Scheme.FILE:
        return ModelReport(ASSUMED, known=False)
    return await asyncio.to_thread(_read_folder, Path(source.path))


def _read_folder(folder: Path) -> ModelReport:
    """A folder that this machine lacks, or may not read, says nothing: the path is one of the engines' nodes."""
    try:
        raw = _read_bounded(folder / "config.json") if folder.is_dir() else None
    except FileNotFoundError:
        return _unusable(f"{folder} has no config.json; set spec.model.source to a folder that holds a model")
    except OSError:
        raw = None
    return ModelReport(ASSUMED, known=False) if raw is None else _judge(folder, raw)


def _judge(folder: Path, raw: bytes) -> ModelReport:
    try:
        config: Any = orjson.loads(raw)
        if not isinstance(config, dict):
            return _unusable(f"{folder}/config.json holds no JSON object; put the model's own file there")
        return ModelReport(ModelFacts.from_config(config), known=True)
    except orjson.JSONDecodeError as error:
        return _unusable(f"{folder}/config.json is not JSON ({error}); put the model's own file there")
    except IncompleteModelConfig:
        return ModelReport(ASSUMED, known=False)  # an engine may serve what the capacity model can't read


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_CONFIG_BYTES)


def _unusable(problem: str) -> ModelReport:
    return ModelReport(ASSUMED, known=False, problem=problem)
