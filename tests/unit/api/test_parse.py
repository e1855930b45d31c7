from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.errors import SpecError
from headrace.api.roles import Role
from headrace.api.serving import QueueOrder
from headrace.api.v1alpha1 import InferenceService

Make = Callable[..., dict[str, Any]]

BAD_SPECS = [
    ({"topology": "Both"}, "spec.topology", "set one of 'Aggregated' or 'Disaggregated'"),
    ({"model": {}}, "spec.model.source", "is required; set it, for example hf://Qwen/Qwen3-8B"),
    ({"model": {"source": "Qwen"}}, "spec.model.source", "set hf://ORG/NAME"),
    ({"model": {"source": "file:///a/../b"}}, "spec.model.source", 'without ".."'),
    ({"model": {"source": "file:///tmp/"}}, "spec.model.source", "a folder of the model's own"),
    ({"model": {"source": "pvc://claim/a", "revision": "x"}}, "spec.model.revision", "hf:// sources only"),
    ({"worker": {"replicas": {"min": 3, "max": 2}}}, "spec.worker.replicas.max", "set max to 3 or more"),
    ({"worker": {"replicas": {"min": 0}}}, "spec.worker.replicas.min", "set 1 or more"),
    ({"worker": {"replicas": {"max": 10**6}}}, "spec.worker.replicas.max", "set 1000 or less"),
    ({"worker": {"parallelism": {"tensor": 4, "expert": 3}}}, "spec.worker.parallelism.expert", "a divisor of 4"),
    ({"worker": {"resources": {"limits": {"cpu": "2x"}}}}, "spec.worker.resources.limits.cpu", "not a quantity"),
    ({"worker": {"resources": {"limits": {"cpu": 0.5}}}}, "spec.worker.resources.limits.cpu", 'in quotes: "0.5"'),
    ({"worker": {"podTemplate": {"labels": {"headrace.dev/role": "x"}}}}, "spec.worker.podTemplate.labels", "Headrace"),
    ({"prefill": {}}, "spec.prefill", "set topology Disaggregated"),
    ({"topology": "Disaggregated", "worker": {}}, "spec.worker", "set topology Aggregated"),
    ({"slo": {"ttft": "soon"}}, "spec.slo.ttft", 'set one such as "2s"'),
    ({"slo": {"tpot": "0ms"}}, "spec.slo.tpot", "not above zero"),
    ({"slo": {"percentile": 100}}, "spec.slo.percentile", "set 99 or less"),
    ({"autoscaling": {"pdBand": {}}}, "spec.autoscaling", "remove it"),
    (
        {"topology": "Disaggregated", "autoscaling": {"pdBand": {"min": "1:2", "max": "1:4"}}},
        "spec.autoscaling.pdBand.max",
        'set it to "1:2" or more',
    ),
    ({"engine": {"env": [{"name": "a b", "value": "x"}]}}, "spec.engine.env[0].name", "does not fit"),
    ({"engine": {"env": [{"name": "A", "value": "1"}] * 2}}, "spec.engine.env", "is there twice; keep one"),
    ({"engine": {"queueOrder": "Fifo"}}, "spec.engine.queueOrder", "set one of 'LateLast' or 'Arrival'"),
    ({"engine": {"extraArgs": {"--tp": 2}}}, "spec.engine.extraArgs", "set tp: VALUE"),
    ({"engine": {"extraArgs": {"tp-size": 2}}}, "spec.engine.extraArgs", "set parallelism.tensor instead"),
    ({"engine": {"extraArgs": {"data-parallel-size": 2}}}, "spec.engine.extraArgs", "set parallelism.data instead"),
    ({"engine": {"extraArgs": {"disaggregation-mod": "null"}}}, "spec.engine.extraArgs", "set spec.topology instead"),
    ({"engine": {"extraArgs": {"host": "::1"}}}, "spec.engine.extraArgs", "is set by Headrace; remove it"),
    ({"engine": {"extraArgs": {"a": {"b": 1}}}}, "spec.engine.extraArgs", "is a map"),
]


@pytest.mark.parametrize(("spec", "path", "mend"), BAD_SPECS, ids=[f"{row[1]}:{row[2]}" for row in BAD_SPECS])
def test_a_wrong_spec_is_told_by_field_and_mend(manifest: Make, spec: dict[str, Any], path: str, mend: str) -> None:
    with pytest.raises(SpecError) as caught:
        InferenceService.parse(manifest(**spec))
    assert [problem.path for problem in caught.value.problems] == [path]
    assert mend in str(caught.value)


def test_all_problems_are_told_at_once(manifest: Make) -> None:
    with pytest.raises(SpecError) as caught:
        InferenceService.parse(manifest("1st", slo={"ttft": "x"}, gateway={"replicas": 0}))
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"metadata.name", "spec.slo.ttft", "spec.gateway.replicas"}


@pytest.mark.parametrize("name", ["", "Chat", "1chat", "chat-", "a.b", "a" * 41])
def test_a_name_that_cannot_name_children_is_refused(manifest: Make, name: str) -> None:
    with pytest.raises(SpecError, match=r"metadata\.name"):
        InferenceService.parse(manifest(name))


def test_another_kind_is_refused(manifest: Make) -> None:
    with pytest.raises(SpecError, match="set apiVersion"):
        InferenceService.parse({**manifest(), "apiVersion": "v1"})


def test_live_objects_may_carry_fields_of_a_newer_version(manifest: Make) -> None:
    service = InferenceService.parse(manifest(someday={"x": 1}, slo={"ttft": "1s", "later": True}))
    assert service.spec.slo.ttft_s == 1.0


@pytest.mark.parametrize(
    ("spec", "mend"),
    [
        ({"worker": {"replica": {}}}, "spec.worker.replica: is not a field; set replicas instead"),
        ({"slo": {"wobble": 1}}, "spec.slo.wobble: is not a field; remove it (fields here: ttft, tpot"),
        ({"modle": {}}, "spec.modle: is not a field; set model instead"),
    ],
)
def test_an_unknown_field_of_a_file_is_refused_with_the_nearest_name(
    manifest: Make, spec: dict[str, Any], mend: str
) -> None:
    with pytest.raises(SpecError) as caught:
        InferenceService.parse(manifest(**spec), strict=True)
    assert mend in str(caught.value)


def test_an_empty_object_names_what_is_required() -> None:
    with pytest.raises(SpecError) as caught:
        InferenceService.parse({"apiVersion": "headrace.dev/v1alpha1", "kind": "InferenceService"})
    assert {"metadata.name", "spec.model", "spec.accelerator"} == {problem.path for problem in caught.value.problems}


def test_a_pool_without_max_keeps_its_size(manifest: Make) -> None:
    pool = InferenceService.parse(manifest(worker={"replicas": {"min": 3}})).spec.pool(Role.WORKER)
    assert (pool.replicas.min, pool.replicas.upper) == (3, 3)


def test_absent_pools_have_all_defaults(manifest: Make) -> None:
    spec = InferenceService.parse(manifest(topology="Disaggregated")).spec
    assert [spec.pool(role).replicas.upper for role in spec.roles] == [1, 1]


@pytest.mark.parametrize("spec", [{}, {"engine": {"contextLength": 4096}}])
def test_an_object_from_before_the_queue_order_takes_late_requests_last(manifest: Make, spec: dict[str, Any]) -> None:
    assert InferenceService.parse(manifest(**spec)).spec.engine.queue_order is QueueOrder.LATE_LAST


def test_the_served_name_is_the_last_part_of_the_source_unless_set(manifest: Make) -> None:
    assert InferenceService.parse(manifest()).spec.model.name == "Qwen3-8B"
    named = manifest(model={"source": "pvc://claim/a/b/", "servedName": "mine"})
    assert InferenceService.parse(named).spec.model.name == "mine"


def test_accelerators_of_a_replica_multiply_over_ranks(manifest: Make) -> None:
    parallelism = {"tensor": 4, "expert": 2, "pipeline": 2, "data": 2}
    pool = InferenceService.parse(manifest(worker={"parallelism": parallelism})).spec.pool(Role.WORKER)
    assert pool.parallelism.accelerators == 16


def test_metadata_that_headrace_acts_on_is_read(manifest: Make) -> None:
    raw = manifest()
    raw["metadata"] |= {
        "uid": "u-1",
        "generation": 7,
        "annotations": {"headrace.dev/paused": "true"},
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }
    service = InferenceService.parse(raw)
    assert (service.key, service.uid, service.generation) == ("team/chat", "u-1", 7)
    assert service.paused
    assert service.deleting


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("model", "accelerator", "slo", "worker", "gateway", "autoscaling", "kvCache", "engine", "imagePullSecrets")


@given(metadata=JSON, spec=JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_whatever_is_written_is_told_and_never_crashes(metadata: Any, spec: Any) -> None:
    manifest = {"apiVersion": "headrace.dev/v1alpha1", "kind": "InferenceService", "metadata": metadata, "spec": spec}
    with pytest.raises(SpecError) as caught:
        InferenceService.parse(manifest, strict=True)
    assert all(problem.path and problem.message for problem in caught.value.problems)


@given(block=st.sampled_from(FIELDS), value=JSON)
def test_a_wrong_block_of_a_sound_object_is_told_by_its_path(block: str, value: Any) -> None:
    sound = {"model": {"source": "hf://a/b"}, "accelerator": "cpu"}
    manifest = {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "chat"},
        "spec": {**sound, block: value},
    }
    try:
        InferenceService.parse(manifest, strict=True)
    except SpecError as error:
        paths = [problem.path for problem in error.problems]
    else:
        paths = []
    assert all(path.startswith(f"spec.{block}") for path in paths)


@pytest.mark.parametrize("written", [[], "text", None, 3])
def test_a_file_without_an_object_is_told(written: Any) -> None:
    with pytest.raises(SpecError, match="set apiVersion"):
        InferenceService.parse(written)
