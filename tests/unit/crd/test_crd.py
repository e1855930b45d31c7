from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field
from typer.testing import CliRunner

from headrace.api.base import CEL_KEY, ApiModel
from headrace.api.crdgen import CRD_NAME, SCHEMA_ANNOTATION, SchemaError, crd, structural, to_yaml
from headrace.api.resolve import resolve
from headrace.api.v1alpha1 import InferenceService, InferenceServiceSpec
from headrace.cli.crd import app, generated

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = sorted((ROOT / "crds/samples").glob("*.yaml"))
SCHEMA: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema node with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """What the API server stores: absent fields get the schema's defaults, from the outside in."""
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, inner in schema.get("properties", {}).items():
        if name not in filled and "default" in inner:
            filled[name] = inner["default"]
        if name in filled:
            filled[name] = with_defaults(filled[name], inner)
    return filled


@pytest.mark.parametrize("name", generated())
def test_the_checked_in_file_is_what_the_models_give(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generated()[name], "run: headrace crd update"


def test_every_row_of_the_reference_is_one_line() -> None:
    rows = [line for line in generated()["docs/api.md"].splitlines() if line.startswith("| `")]
    assert "`queueOrder`" in "".join(rows)
    assert [row for row in rows if not row.endswith(" |")] == []


def test_verify_tells_a_stale_file_and_update_mends_it(tmp_path: Path) -> None:
    runner = CliRunner()
    missing = runner.invoke(app, ["verify", "--root", str(tmp_path)])
    assert missing.exit_code == 1
    assert "headrace crd update" in missing.output
    assert runner.invoke(app, ["update", "--root", str(tmp_path)]).exit_code == 0
    assert runner.invoke(app, ["verify", "--root", str(tmp_path)]).exit_code == 0
    path = tmp_path / "docs/api.md"
    path.write_text(path.read_text(encoding="utf-8") + "x", encoding="utf-8")
    stale = runner.invoke(app, ["verify", "--root", str(tmp_path)])
    assert stale.exit_code == 1
    assert "docs/api.md" in stale.output


def test_print_gives_a_document_that_kubectl_can_apply() -> None:
    printed = yaml.safe_load(CliRunner().invoke(app, ["print"]).output)
    assert printed["metadata"]["name"] == CRD_NAME


def test_every_list_and_map_is_bounded_and_typed() -> None:
    open_ended = [
        path
        for path, node in nodes(SCHEMA["properties"]["spec"])
        if (node.get("type") == "array" and "maxItems" not in node)
        or (isinstance(node.get("additionalProperties"), dict) and "maxProperties" not in node)
    ]
    assert open_ended == []


def test_every_string_of_the_spec_is_bounded() -> None:
    unbounded = [
        path
        for path, node in nodes(SCHEMA["properties"]["spec"])
        if node.get("type") == "string" and not {"maxLength", "enum"} & node.keys()
    ]
    assert unbounded == []


def test_the_schema_is_structural() -> None:
    for path, node in nodes(SCHEMA):
        assert not {"$ref", "anyOf", "const", "title", "nullable"} & node.keys(), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert node.get("default", "") not in (None, {}, []), path


def test_no_live_count_has_a_default_in_the_spec() -> None:
    counts = [path for path, _ in nodes(SCHEMA["properties"]["spec"]) if path.endswith(".replicas")]
    assert counts == [".prefill.replicas", ".decode.replicas", ".worker.replicas", ".gateway.replicas"]
    assert all("max" in dict(nodes(SCHEMA["properties"]["spec"]))[path]["properties"] for path in counts[:3])


def test_every_field_is_described() -> None:
    undescribed = [path for path, node in nodes(SCHEMA) if path and "[]" not in path and not node.get("description")]
    assert undescribed == [".apiVersion", ".kind", ".metadata"]


def test_the_api_server_fills_in_the_queue_order_of_an_older_object() -> None:
    engine = SCHEMA["properties"]["spec"]["properties"]["engine"]
    assert engine["properties"]["queueOrder"]["enum"] == ["LateLast", "Arrival"]
    assert with_defaults({"contextLength": 4096}, engine) == {"contextLength": 4096, "queueOrder": "LateLast"}


def test_every_rule_has_a_sentence() -> None:
    rules = [rule for _, node in nodes(SCHEMA) for rule in node.get(CEL_KEY, ())]
    assert len(rules) > 10
    assert all(rule["message"] for rule in rules)


def test_conditions_merge_by_type() -> None:
    conditions = SCHEMA["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_columns_show_what_a_user_looks_for() -> None:
    columns = [column["name"] for column in crd()["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert {"Ready", "Model", "Prefill", "Decode", "Reason", "Age"} <= set(columns)


@pytest.mark.parametrize("path", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_samples_are_valid_to_the_letter(path: Path) -> None:
    assert InferenceService.parse(yaml.safe_load(path.read_text(encoding="utf-8")), strict=True).name


def test_samples_show_both_topologies_on_both_kinds_of_machine() -> None:
    assert len(SAMPLES) == 4


@pytest.mark.parametrize("path", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_the_api_servers_defaults_are_those_of_the_models(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    stored = {**manifest, "spec": with_defaults(manifest["spec"], SCHEMA["properties"]["spec"])}
    assert resolve(InferenceService.parse(stored).spec) == resolve(InferenceService.parse(manifest).spec)


def test_resolved_echoes_what_the_user_left_out() -> None:
    spec = InferenceServiceSpec.model_validate(
        {"model": {"source": "hf://a/b"}, "accelerator": "nvidia-h100", "worker": {"parallelism": {"tensor": 2}}}
    )
    resolved = resolve(spec)
    assert resolved["model"]["servedName"] == "b"
    assert resolved["slo"] == {"ttft": "2s", "tpot": "50ms", "percentile": 95}
    assert resolved["worker"]["replicas"] == {"min": 1, "max": 1}
    assert resolved["worker"]["acceleratorsPerReplica"] == 2


def test_yaml_has_no_anchors() -> None:
    shared = {"x": 1}
    assert to_yaml({"a": shared, "b": shared}) == "a:\n  x: 1\nb:\n  x: 1\n"


def test_the_schema_annotation_follows_the_schema() -> None:
    annotation = crd()["metadata"]["annotations"][SCHEMA_ANNOTATION]
    assert len(annotation) == 16


class _Union(ApiModel):
    value: int | str


class _Recursive(ApiModel):
    children: Annotated[tuple["_Recursive", ...], Field(max_length=3)] = ()


class _Exclusive(ApiModel):
    inner: Annotated[int, Field(multiple_of=3)] = 3


class _OpenMap(ApiModel):
    anything: dict[str, Any]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_Union, "_Union.value: a union"),
        (_Recursive, "contains itself"),
        (_Exclusive, "_Exclusive.inner: multipleOf"),
        (_OpenMap, "_OpenMap.anything: an open map"),
    ],
)
def test_what_a_structural_schema_cannot_say_is_an_error(model: type[ApiModel], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        structural(model)
