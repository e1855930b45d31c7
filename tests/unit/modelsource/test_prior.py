"""The capacity model that a service begins with."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.api.v1alpha1 import InferenceServiceSpec
from headrace.modelsource.prior import prior

TINY = {
    "num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "intermediate_size": 256, "vocab_size": 1024,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    return tmp_path


def spec(folder: Path, **engine: Any) -> InferenceServiceSpec:
    return InferenceServiceSpec.model_validate(
        {
            "model": {"source": f"file://{folder}"},
            "accelerator": "cpu",
            "topology": "Disaggregated",
            "slo": {"ttft": "2s", "tpot": "1s"},
            "engine": engine,
        }
    )


async def test_a_sleep_in_each_step_is_part_of_every_step_time(folder: Path) -> None:
    plain = await prior(spec(folder, chunkedPrefillSize=256))
    slowed = await prior(spec(folder, chunkedPrefillSize=256, slowDownSeconds=0.2))
    assert slowed.prior_steps == slowed.steps
    assert slowed.steps.prefill_s(256) == pytest.approx(plain.steps.prefill_s(256) + 0.2)
    assert slowed.steps.decode_s(8, 1000) == pytest.approx(plain.steps.decode_s(8, 1000) + 0.2)
    # A queue is worked off chunk by chunk, each of which sleeps: 0.2 s / 256 tokens.
    assert slowed.token_price_s(0) == pytest.approx(plain.token_price_s(0) + 0.2 / 256)
