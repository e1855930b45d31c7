"""The command line itself: help, examples, laziness, and `plan` from a file to its exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from headrace import cli
from headrace.cli import COMMANDS, app, load

ROOT = Path(__file__).parents[3]
runner = CliRunner()
SPEC = """
apiVersion: headrace.dev/v1alpha1
kind: InferenceService
metadata: {name: chat}
spec:
  model: {source: "%s"}
  accelerator: nvidia-h100
  topology: Disaggregated
  prefill: {replicas: {min: 1, max: 4}}
  decode: {replicas: {min: 2, max: 6}, parallelism: {tensor: %d}}
"""
# Llama-3.1-70B: 141 GB of bf16 weights do not fit into one 80 GB chip.
LLAMA_70B = {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}


def test_help_lists_every_command_without_importing_any() -> None:
    script = (
        "import sys; from headrace.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'kubernetes', 'kopf', 'aiohttp', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "crd"])
def test_every_command_s_help_has_an_example(name: str) -> None:
    shown = runner.invoke(app, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Example: " in shown.output


def test_an_unknown_command_is_named() -> None:
    shown = runner.invoke(app, ["scale"])
    assert shown.exit_code == 2
    assert "scale" in shown.output


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(cli, "import_module", missing)
    with pytest.raises(typer.Exit):
        load("simulate")
    assert capsys.readouterr().err == "headrace simulate needs matplotlib: pip install 'headrace[simulate]'\n"


def plan_of(tmp_path: Path, text: str, *options: str) -> tuple[int, str]:
    file = tmp_path / "service.yaml"
    file.write_text(text)
    done = runner.invoke(app, ["plan", str(file), *options])
    return done.exit_code, done.output


def test_plan_shows_children_accelerators_and_capacity(tmp_path: Path) -> None:
    code, text = plan_of(tmp_path, SPEC % ("hf://Qwen/Qwen3-8B", 1))
    assert code == 0
    assert "Deployment           chat-decode" in text
    assert "accelerators in all: 3 to 10" in text
    assert "prefillTokensPerSecond" in text
    assert "--model-config" in text


def test_plan_finds_weights_that_do_not_fit_and_layouts_that_differ(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_70B))
    code, text = plan_of(tmp_path, SPEC % ("hf://meta/Llama-3.1-70B", 4), "--model-config", str(tmp_path))
    assert code == 1
    assert "PROBLEM: spec.prefill.parallelism: weights take 141 GB and 1 nvidia-h100 leave 70 GB" in text
    assert "set tensor to at least 3" in text
    assert "note: prefill spreads over tensor 1 x pipeline 1 and decode over 4 x 1" in text


def test_plan_names_the_field_of_a_wrong_file(tmp_path: Path) -> None:
    code, text = plan_of(tmp_path, (SPEC % ("hf://Qwen/Qwen3-8B", 1)).replace("max: 4", "mox: 4"))
    assert code == 2
    assert "spec.prefill.replicas.mox: is not a field; set max instead" in text
    assert plan_of(tmp_path, "- a\n- b\n")[0] == 2


def test_plan_prints_manifests_and_json(tmp_path: Path) -> None:
    _, text = plan_of(tmp_path, SPEC % ("hf://Qwen/Qwen3-8B", 1), "--manifests")
    assert "kind: NetworkPolicy" in text
    code, text = plan_of(tmp_path, SPEC % ("hf://Qwen/Qwen3-8B", 1), "--json")
    assert code == 0
    assert json.loads(text)[0]["accelerators_max"] == 10


def test_every_sample_can_be_planned() -> None:
    for sample in sorted((ROOT / "crds/samples").glob("*.yaml")):
        assert runner.invoke(app, ["plan", str(sample)]).exit_code == 0, sample.name
