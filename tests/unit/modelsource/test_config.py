"""What is read of a model's folder, and what is said of one that holds no model."""

import json
from pathlib import Path

import pytest

from headrace.api.source import parse_source
from headrace.modelsource.config import ASSUMED, ModelReport, read_model

TINY = {
    "num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "intermediate_size": 256, "vocab_size": 1024,
}  # fmt: skip
UNKNOWN = ModelReport(ASSUMED, known=False)


async def test_the_shape_is_read_from_config_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    report = await read_model(parse_source(f"file://{tmp_path}"))
    assert report.known
    assert (report.facts.layers, report.facts.kv_heads) == (2, 2)


async def test_a_folder_without_config_json_is_told_with_its_path(tmp_path: Path) -> None:
    report = await read_model(parse_source(f"file://{tmp_path}"))
    assert f"{tmp_path} has no config.json" in report.problem
    assert "spec.model.source" in report.problem


@pytest.mark.parametrize(("text", "words"), [("{", "is not JSON"), ("[1]", "no JSON object")])
async def test_a_broken_config_json_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert words in (await read_model(parse_source(f"file://{tmp_path}"))).problem


async def test_a_model_the_capacity_model_cannot_read_is_left_to_the_engine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Mystery"]}')
    assert await read_model(parse_source(f"file://{tmp_path}")) == UNKNOWN


@pytest.mark.parametrize("source", ["file:///no/such/folder", "hf://Qwen/Qwen3-8B", "pvc://claim/models/a"])
async def test_what_cannot_be_seen_from_here_says_nothing(source: str) -> None:
    assert await read_model(parse_source(source)) == UNKNOWN
