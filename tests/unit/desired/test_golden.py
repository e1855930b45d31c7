"""Whole manifests, as reviewed. After a wanted change: HEADRACE_UPDATE_GOLDEN=1 pytest tests/unit/desired."""

import os
from pathlib import Path

import pytest
import yaml

from headrace.api.crdgen import to_yaml
from headrace.api.v1alpha1 import InferenceService
from headrace.desired.build import build
from headrace.desired.settings import DesiredSettings

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("sample", ["aggregated", "disaggregated", "cpu-demo-disaggregated"])
def test_manifests_are_as_reviewed(sample: str) -> None:
    manifest = yaml.safe_load((ROOT / f"crds/samples/{sample}.yaml").read_text(encoding="utf-8"))
    manifest["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000"
    children = build(InferenceService.parse(manifest), DesiredSettings())
    text = "---\n".join(to_yaml(child) for child in children)
    golden = ROOT / f"tests/golden/{sample}.yaml"
    if os.environ.get("HEADRACE_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
