import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.errors import SpecError
from headrace.api.v1alpha1 import InferenceService
from headrace.catalog.accelerators import UnknownAccelerator
from headrace.desired.build import build, initial_replicas, revision_of
from headrace.desired.names import Manifest
from headrace.desired.settings import DesiredSettings
from headrace_engine_config.config import load_config

Make = Callable[..., InferenceService]
SETTINGS = DesiredSettings()
TOPOLOGIES = ("Aggregated", "Disaggregated")


def find(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    return next(m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)


def pods(manifests: tuple[Manifest, ...]) -> dict[str, dict[str, Any]]:
    """Pod templates by Deployment name."""
    return {m["metadata"]["name"]: m["spec"]["template"] for m in manifests if m["kind"] == "Deployment"}


def container(template: dict[str, Any]) -> dict[str, Any]:
    (only,) = template["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def env(template: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(template)["env"]}


@pytest.mark.parametrize(
    ("topology", "names"),
    [
        ("Aggregated", {"chat-worker", "chat-gateway"}),
        ("Disaggregated", {"chat-prefill", "chat-decode", "chat-gateway"}),
    ],
)
def test_a_topology_has_its_pools_and_a_gateway(service: Make, topology: str, names: set[str]) -> None:
    assert set(pods(build(service(topology), SETTINGS))) == names


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_same_service_gives_the_same_bytes(service: Make, topology: str) -> None:
    assert json.dumps(build(service(topology), SETTINGS)) == json.dumps(build(service(topology), SETTINGS))


def test_replicas_of_engines_are_left_to_the_autoscaler_and_those_of_the_gateway_are_not(service: Make) -> None:
    manifests = build(service(gateway={"replicas": 3}), SETTINGS)
    assert "replicas" not in find(manifests, "Deployment", "chat-prefill")["spec"]
    assert find(manifests, "Deployment", "chat-gateway")["spec"]["replicas"] == 3


def test_engines_are_born_with_min(service: Make) -> None:
    assert initial_replicas(service(decode={"replicas": {"min": 2, "max": 9}})) == {"chat-prefill": 1, "chat-decode": 2}


def test_every_child_belongs_to_the_service(service: Make) -> None:
    for manifest in build(service(), SETTINGS):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("uid-1", True)
        assert manifest["metadata"]["namespace"] == "team"
        assert manifest["metadata"]["labels"]["headrace.dev/service"] == "chat"


def test_no_workload_selects_by_what_changes_in_a_pods_life(service: Make) -> None:
    for manifest in build(service(), SETTINGS):
        if manifest["kind"] == "Deployment":
            labels = manifest["spec"]["selector"]["matchLabels"]
            assert set(labels) == {"headrace.dev/service", "headrace.dev/role"}
            assert labels.items() <= manifest["spec"]["template"]["metadata"]["labels"].items()


def test_engine_pods_are_labelled_for_discovery(service: Make) -> None:
    templates = pods(build(service(), SETTINGS))
    labels = templates["chat-prefill"]["metadata"]["labels"]
    assert labels["headrace.dev/state"] == "serving"
    assert labels["headrace.dev/revision"] == revision_of(service(), SETTINGS)
    assert templates["chat-prefill"]["metadata"]["annotations"]["sglang.ai/bootstrap-port"] == "8998"
    assert "sglang.ai/bootstrap-port" not in templates["chat-decode"]["metadata"]["annotations"]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_pod_is_restricted(service: Make, topology: str) -> None:
    for template in pods(build(service(topology), SETTINGS)).values():
        pod, security = template["spec"]["securityContext"], container(template)["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        allowed = {"name", "configMap", "emptyDir", "persistentVolumeClaim"}
        assert all(set(volume) <= allowed for volume in template["spec"]["volumes"])


def test_only_the_gateway_holds_a_token(service: Make) -> None:
    tokens = {name: t["spec"]["automountServiceAccountToken"] for name, t in pods(build(service(), SETTINGS)).items()}
    assert tokens == {"chat-prefill": False, "chat-decode": False, "chat-gateway": True}


def test_whatever_a_library_writes_has_a_writable_folder(service: Make) -> None:
    template = pods(build(service(), SETTINGS))["chat-prefill"]
    writable = [m["mountPath"] for m in container(template)["volumeMounts"] if not m.get("readOnly")]
    folders = [env(template)[name] for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "TRITON_CACHE_DIR")]
    assert all(any(folder.startswith(path) for path in writable) for folder in folders)
    assert {"/tmp", "/dev/shm"} <= set(writable)  # noqa: S108  paths in a pod


def test_the_kubelet_waits_longer_than_the_engine_drains(service: Make) -> None:
    short = replace(SETTINGS, drain_deadline_s=100)
    manifests = build(service(), short)
    for name in ("prefill", "decode"):
        grace = pods(manifests)[f"chat-{name}"]["spec"]["terminationGracePeriodSeconds"]
        config = load_config(find(manifests, "ConfigMap", f"chat-{name}-engine")["data"]["engine.json"])
        assert config.termination_drain_seconds == 100
        assert grace > config.termination_drain_seconds + 20


def test_engine_json_carries_the_spec(service: Make) -> None:
    built = build(
        service(
            model={"source": "hf://Qwen/Qwen3-8B", "revision": "main", "servedName": "q"},
            kvCache={"dtype": "fp8_e4m3", "pageSize": 64, "capacityTokens": 1000},
            engine={"contextLength": 4096, "maxRunningRequests": 7, "extraArgs": {"attention-backend": "fa3"}},
            decode={"parallelism": {"tensor": 4}},
        ),
        SETTINGS,
    )
    config = load_config(find(built, "ConfigMap", "chat-decode-engine")["data"]["engine.json"])
    assert (config.model_path, config.model_revision, config.served_model_name) == ("Qwen/Qwen3-8B", "main", "q")
    assert (config.role, config.device, config.transfer_backend) == ("decode", "cuda", "mooncake")
    assert (config.kv_cache_dtype, config.page_size, config.max_total_tokens) == ("fp8_e4m3", 64, 1000)
    assert (config.context_length, config.max_running_requests) == (4096, 7)
    assert config.parallelism.tensor == 4
    assert config.extra_args == {"attention-backend": "fa3"}


def test_accelerators_are_asked_for_by_the_catalogues_name(service: Make) -> None:
    pool = {"parallelism": {"tensor": 4}, "resources": {"requests": {"cpu": 8}}}
    template = pods(build(service(decode=pool), SETTINGS))["chat-decode"]
    assert container(template)["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    assert container(template)["resources"]["requests"] == {"cpu": "8", "nvidia.com/gpu": "4"}
    assert template["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}


def test_a_cpu_engine_asks_for_no_accelerator(service: Make) -> None:
    built = build(service(accelerator="cpu"), SETTINGS)
    template = pods(built)["chat-decode"]
    assert container(template)["resources"] == {}
    assert "nodeSelector" not in template["spec"]
    config = load_config(find(built, "ConfigMap", "chat-decode-engine")["data"]["engine.json"])
    assert (config.device, config.transfer_backend) == ("cpu", "mooncake_tcp")


def test_an_accelerator_that_nobody_knows_is_an_error(service: Make) -> None:
    with pytest.raises(UnknownAccelerator, match="nvidia-h1000"):
        build(service(accelerator="nvidia-h1000"), SETTINGS)


def test_an_accelerator_that_no_engine_runs_on_is_an_error(service: Make) -> None:
    with pytest.raises(SpecError, match=r"spec\.accelerator: no engine runs on tpu-v5e yet; set"):
        build(service(accelerator="tpu-v5e"), SETTINGS)


def test_a_claim_is_mounted_read_only(service: Make) -> None:
    built = build(service(model={"source": "pvc://weights/qwen/8b"}), SETTINGS)
    template = pods(built)["chat-decode"]
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in container(template)["volumeMounts"]
    config = load_config(find(built, "ConfigMap", "chat-decode-engine")["data"]["engine.json"])
    assert config.model_path == "/models/qwen/8b"


def test_a_folder_of_the_node_is_mounted_read_only_at_its_own_path(service: Make) -> None:
    template = pods(build(service(model={"source": "file:///srv/models/tiny"}), SETTINGS))["chat-decode"]
    volume = next(v for v in template["spec"]["volumes"] if v["name"] == "model")
    assert volume["hostPath"] == {"path": "/srv/models/tiny", "type": "Directory"}
    assert {"name": "model", "mountPath": "/srv/models/tiny", "readOnly": True} in container(template)["volumeMounts"]


def test_the_hubs_token_comes_from_its_secret(service: Make) -> None:
    model = {"source": "hf://a/b", "credentials": {"name": "hub", "key": "t"}}
    template = pods(build(service(model=model), SETTINGS))["chat-decode"]
    assert env(template)["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "t"}}
    assert "HF_TOKEN" not in env(pods(build(service(), SETTINGS))["chat-decode"])


def test_a_users_variable_never_replaces_one_of_headraces(service: Make) -> None:
    variables = [{"name": "HOME", "value": "/root"}, {"name": "MINE", "value": "1"}]
    template = pods(build(service(engine={"env": variables}), SETTINGS))["chat-decode"]
    names = [entry["name"] for entry in container(template)["env"]]
    assert len(names) == len(set(names))
    assert (env(template)["HOME"], env(template)["MINE"]) == ("/var/cache/headrace", "1")


def test_the_overlay_adds_and_never_replaces(service: Make) -> None:
    overlay = {
        "labels": {"team": "search"},
        "annotations": {"note": "x"},
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
    }
    built = build(service(decode={"podTemplate": overlay}, imagePullSecrets=[{"name": "registry"}]), SETTINGS)
    template = pods(built)["chat-decode"]
    spec = template["spec"]
    assert template["metadata"]["labels"].items() >= {"team": "search", "headrace.dev/role": "decode"}.items()
    assert template["metadata"]["annotations"]["note"] == "x"
    assert spec["nodeSelector"].keys() == {"zone", "nvidia.com/gpu.product"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("high", "nvidia")
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert "tolerations" not in pods(built)["chat-prefill"]["spec"]


@pytest.mark.parametrize(
    "change",
    [
        {"engine": {"image": "other:1"}},
        {"engine": {"env": [{"name": "A", "value": "1"}]}},
        {"engine": {"contextLength": 128}},
        {"kvCache": {"pageSize": 16}},
        {"prefill": {"parallelism": {"tensor": 2}}},
        {"accelerator": "nvidia-h200"},
        {"model": {"source": "hf://Qwen/Qwen3-8B", "revision": "v2"}},
    ],
)
def test_what_concerns_the_engines_makes_a_revision_of_all_roles(service: Make, change: dict[str, Any]) -> None:
    before, after = (pods(build(s, SETTINGS)) for s in (service(), service(**change)))
    for name in ("chat-prefill", "chat-decode"):
        old, new = (t[name]["metadata"]["labels"]["headrace.dev/revision"] for t in (before, after))
        assert old != new
        assert len(new) == 10


@pytest.mark.parametrize(
    "change",
    [
        {"slo": {"ttft": "9s"}},
        {"decode": {"replicas": {"min": 2, "max": 5}}},
        {"gateway": {"replicas": 4, "policy": "RoundRobin"}},
        {"autoscaling": {"mode": "Off", "gpuBudget": 3}},
    ],
)
def test_what_does_not_concern_the_engines_leaves_their_pods_alone(service: Make, change: dict[str, Any]) -> None:
    before, after = (pods(build(s, SETTINGS)) for s in (service(), service(**change)))
    assert before["chat-prefill"] == after["chat-prefill"]
    assert before["chat-decode"] == after["chat-decode"]


def test_the_gateway_finds_serving_engines_by_label(service: Make) -> None:
    command = container(pods(build(service(), SETTINGS))["chat-gateway"])["command"]
    start = command.index("--decode-selector") + 1
    assert command[start : start + 3] == [
        "headrace.dev/service=chat",
        "headrace.dev/role=decode",
        "headrace.dev/state=serving",
    ]
    assert "--pd-disaggregation" in command
    assert command[command.index("--service-discovery-namespace") + 1] == "team"


def test_an_aggregated_gateway_routes_plainly(service: Make) -> None:
    chosen = service("Aggregated", gateway={"policy": "PowerOfTwo"})
    command = container(pods(build(chosen, SETTINGS))["chat-gateway"])["command"]
    assert "--pd-disaggregation" not in command
    assert command[command.index("--policy") + 1] == "power_of_two"


def test_engines_take_requests_from_their_gateway_and_kv_from_their_peers_alone(service: Make) -> None:
    policy = find(build(service(), SETTINGS), "NetworkPolicy", "chat-engine")["spec"]
    gateway, peers, watchers = policy["ingress"]
    assert policy["policyTypes"] == ["Ingress"]
    assert gateway["from"] == [
        {"podSelector": {"matchLabels": {"headrace.dev/service": "chat", "headrace.dev/role": "gateway"}}}
    ]
    assert peers == {"from": [{"podSelector": policy["podSelector"]}]}
    namespaces = [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in watchers["from"]]
    assert namespaces == ["headrace-system", "monitoring"]
    assert watchers["ports"] == [{"port": 30000, "protocol": "TCP"}]


NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
POOLS = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(1, 9).map(lambda n: {"min": n, "max": n + 3}),
        "parallelism": st.fixed_dictionaries({}, optional={"tensor": st.sampled_from([1, 2, 8])}),
        "resources": st.just({"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}),
        "podTemplate": st.just({"labels": {"a": "b"}}),
    },
)
SPECS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["hf://a/b", "pvc://c/d", "pvc://c", "file:///x/y"]).map(lambda s: {"source": s}),
        "accelerator": st.sampled_from(["cpu", "nvidia-h100", "amd-mi300x"]),
    },
    optional={
        "kvCache": st.fixed_dictionaries({}, optional={"pageSize": st.integers(1, 128)}),
        "gateway": st.fixed_dictionaries({}, optional={"replicas": st.integers(1, 4)}),
        "engine": st.fixed_dictionaries({}, optional={"slowDownSeconds": st.floats(0, 1)}),
    },
)


@st.composite
def services(draw: st.DrawFn) -> InferenceService:
    spec = draw(SPECS)
    spec["topology"] = draw(st.sampled_from(TOPOLOGIES))
    for role in ("worker",) if spec["topology"] == "Aggregated" else ("prefill", "decode"):
        if draw(st.booleans()):
            spec[role] = draw(POOLS)
    metadata = {"name": draw(NAMES), "namespace": "team", "uid": "u"}
    return InferenceService.parse(
        {"apiVersion": "headrace.dev/v1alpha1", "kind": "InferenceService", "metadata": metadata, "spec": spec},
        strict=True,
    )


@settings(max_examples=60, deadline=None)
@given(services())
def test_any_valid_spec_builds_children_with_sound_and_unlike_names(service: InferenceService) -> None:
    manifests = build(service, SETTINGS)
    identities = [(m["apiVersion"], m["kind"], m["metadata"]["name"]) for m in manifests]
    assert len(identities) == len(set(identities))
    assert all(len(name) <= 63 for _, _, name in identities)
    assert all(len(text) <= 63 for m in manifests for text in m["metadata"]["labels"].values())
    assert set(initial_replicas(service)) < set(pods(manifests))
    for template in pods(manifests).values():
        mounts = [mount["mountPath"] for mount in container(template)["volumeMounts"]]
        assert len(mounts) == len(set(mounts))
        assert {m["name"] for m in container(template)["volumeMounts"]} == {
            volume["name"] for volume in template["spec"]["volumes"]
        }
