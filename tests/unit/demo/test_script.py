"""What the demo makes of the committed manifests."""

from pathlib import Path

import yaml

from e2e.demo.script import operator_manifests, sample_manifest
from headrace.api.v1alpha1 import InferenceService

ROOT = Path(__file__).parents[3]


def test_the_demo_s_sample_is_valid_and_points_at_the_machine_s_model() -> None:
    sample = yaml.safe_load((ROOT / "crds/samples/cpu-demo-disaggregated.yaml").read_text())
    service = InferenceService.parse(sample_manifest(sample, "/models/tiny"), strict=True)
    assert service.spec.model.source == "file:///models/tiny"
    for role in service.spec.roles:
        assert (service.spec.pool(role).replicas.min, service.spec.pool(role).replicas.upper) == (1, 2)


def test_the_operator_gets_the_demo_s_settings_and_its_own_stay() -> None:
    rendered = [
        manifest
        for name in ("namespace", "deployment", "service")
        for manifest in yaml.safe_load_all((ROOT / f"charts/operator/{name}.yaml").read_text())
    ]
    namespace, deployment, service = operator_manifests(rendered, {"HEADRACE_MAX_STARTING": "2"})
    assert "pod-security.kubernetes.io/enforce" not in namespace["metadata"]["labels"]
    assert service == rendered[2]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    names = [variable["name"] for variable in container["env"]]
    assert names[-1] == "HEADRACE_MAX_STARTING"
    assert "HEADRACE_IDENTITY" in names
    assert deployment["spec"]["replicas"] == 1
