"""What is said about a model before SGLang is imported, and how the command passes it on."""

import json
from pathlib import Path

import pytest

from headrace_engine.checks import check_model
from headrace_engine.cli import BAD_CONFIG, main
from headrace_engine_config import EngineConfigError

from .conftest import MakeConfig


def _sentence(config: MakeConfig, path: Path) -> str:
    with pytest.raises(EngineConfigError) as caught:
        check_model(config(model_path=str(path)))
    return str(caught.value)


def test_a_missing_directory(config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "absent"
    mend = "mount the model there or correct spec.model.source"
    assert _sentence(config, path) == f"modelPath: {path} is not a directory; {mend}"


def test_a_file_in_its_place(config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.touch()
    assert _sentence(config, path).startswith(f"modelPath: {path} is not a directory")


def test_a_directory_without_config_json(config: MakeConfig, tmp_path: Path) -> None:
    mend = "it must be a model directory as a hub has it"
    assert _sentence(config, tmp_path) == f"modelPath: {tmp_path} has no config.json; {mend}"


def test_a_broken_config_json(config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": [')
    sentence = _sentence(config, tmp_path)
    assert sentence.startswith(f"modelPath: {tmp_path}/config.json is not JSON (")
    assert sentence.endswith("; copy the model again")


def test_a_config_json_that_is_no_text(config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    assert "is not JSON" in _sentence(config, tmp_path)


def test_a_model_directory_passes(config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    check_model(config(model_path=str(tmp_path)))


def test_a_name_on_a_hub_is_left_to_sglang(config: MakeConfig) -> None:
    check_model(config(model_path="Qwen/Qwen3-8B"))


def _engine_json(tmp_path: Path, **changes: object) -> str:
    file = tmp_path / "engine.json"
    plain = {"modelPath": str(tmp_path), "servedModelName": "m", "role": "worker", "device": "cpu"}
    file.write_text(json.dumps(plain | changes))
    return str(file)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "has no config.json"),
        ({"tp": 1}, "tp: unknown key"),
        ({"sglangVersion": "0.1"}, "sglangVersion: 0.1 is not supported"),
    ],
)
def test_serve_ends_at_once_with_the_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], sentence: str
) -> None:
    assert main(["serve", "--config", _engine_json(tmp_path, **changes)]) == BAD_CONFIG == 78
    said = capsys.readouterr().err
    assert said.startswith("headrace-engine: error: ")
    assert sentence in said
    assert said.count("\n") == 1


def test_serve_without_its_file_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", "/nowhere/engine.json"]) == BAD_CONFIG
    assert "/nowhere/engine.json" in capsys.readouterr().err


def test_a_dry_run_prints_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--dry-run", "--config", _engine_json(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"sglang.launch_server --model-path {tmp_path} --served-model-name m ")
