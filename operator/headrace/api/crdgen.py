"""The CustomResourceDefinition, made from the models (pure). What a structural schema cannot say is an error here.

Differences between pydantic's JSON Schema (2020-12) and Kubernetes' structural schemas that this file bridges:
references are inlined; "X or null" becomes X, absent being the Kubernetes way; defaults that are models are written out
without nulls and without empty collections (a bare `{}` is refused by the API server where the object has CEL rules).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from headrace.api.base import CEL_KEY, GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION, ApiModel, cel
from headrace.api.status import InferenceServiceStatus
from headrace.api.v1alpha1 import MAX_NAME_LENGTH, NAME_PATTERN, InferenceServiceSpec

Schema = dict[str, Any]

CRD_NAME = f"{PLURAL}.{GROUP}"
SCHEMA_ANNOTATION = f"{GROUP}/schema"  # lets `headrace doctor` see at once whether the installed CRD is this one

_KEPT = (
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "description",
)
_DROPPED = {"title", "propertyNames", "$defs"}  # propertyNames has no structural twin; the models still check it
_HANDLED = {"$ref", "anyOf", "properties", "required", "items", "additionalProperties", "default"}

_COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Model", "string", ".spec.model.source", 0),
    ("Prefill", "string", ".status.prefill.summary", 0),
    ("Decode", "string", ".status.decode.summary", 0),
    ("Worker", "string", ".status.worker.summary", 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
    ("Endpoint", "string", ".status.endpoint", 1),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)


class SchemaError(ValueError):
    """A model says something that a structural schema cannot. The message carries the field's path."""


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition, ready to apply."""
    schema = _object_schema()
    digest = hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME, "annotations": {SCHEMA_ANNOTATION: digest}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """Stable YAML: keys in the order given, no anchors, lines as long as they are."""
    return yaml.dump(dict(manifest), Dumper=_PlainDumper, sort_keys=False, width=4096, allow_unicode=True)


def structural(model: type[ApiModel]) -> Schema:
    """The structural schema of a model."""
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}), model.__name__)


def _object_schema() -> Schema:
    return {
        "type": "object",
        "description": "One model, served: engine pools, a gateway, and the objective that the pools are sized for.",
        "required": ["spec"],
        CEL_KEY: [
            cel(
                f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && self.metadata.name.matches('{NAME_PATTERN}')",
                f'the name must be at most {MAX_NAME_LENGTH} lower-case letters, digits and "-", a letter first',
            )
        ],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(InferenceServiceSpec),
            "status": structural(InferenceServiceStatus),
        },
    }


def _column(name: str, kind: str, path: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return column | {"priority": priority} if priority else column


def _convert(node: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    node, definitions = _flatten(node, definitions, path)
    unknown = [key for key in node if key not in {*_KEPT, *_DROPPED, *_HANDLED} and not key.startswith("x-kubernetes-")]
    if unknown:
        raise SchemaError(f"{path}: {', '.join(unknown)} has no twin in a structural schema")
    result: Schema = {key: node[key] for key in _KEPT if key in node}
    result |= {key: value for key, value in node.items() if key.startswith("x-kubernetes-")}
    default = _clean_default(node.get("default"))
    if default is not None:
        result["default"] = default
    if "items" in node:
        result["items"] = _convert(node["items"], definitions, f"{path}[]")
    extra = node.get("additionalProperties", False)
    if isinstance(extra, dict):
        result["additionalProperties"] = _convert(extra, definitions, f"{path}.*")
    elif extra and not result.get("x-kubernetes-preserve-unknown-fields"):
        raise SchemaError(f"{path}: an open map must say x-kubernetes-preserve-unknown-fields")
    if node.get("required"):
        result["required"] = node["required"]
    if "properties" in node:
        result["properties"] = {
            name: _convert(inner, definitions, f"{path}.{name}") for name, inner in node["properties"].items()
        }
    return result


def _flatten(node: Schema, definitions: Mapping[str, Schema], path: str) -> tuple[Schema, Mapping[str, Schema]]:
    """Inline a reference, or the one alternative of "X or null"; what stands beside it wins.

    Also returns the definitions that may be used inside: all but the one inlined, so that a recursion is found out.
    """
    beside = {key: value for key, value in node.items() if key not in {"$ref", "anyOf"}}
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name not in definitions:
            raise SchemaError(f"{path}: {name} contains itself")
        others = {key: schema for key, schema in definitions.items() if key != name}
        return _flatten(definitions[name] | beside, others, path)
    if "anyOf" in node:
        alternatives = [inner for inner in node["anyOf"] if inner.get("type") != "null"]
        if len(alternatives) != 1:
            raise SchemaError(f"{path}: a union of {len(alternatives)} types has no twin in a structural schema")
        return _flatten(alternatives[0] | beside, definitions, path)
    return node, definitions


def _clean_default(value: Any) -> Any:
    """A default as the API server takes it: without nulls, and nothing at all instead of an empty collection."""
    if isinstance(value, dict):
        value = {key: inner for key, raw in value.items() if (inner := _clean_default(raw)) is not None}
    return None if value in ({}, []) else value


class _PlainDumper(yaml.SafeDumper):
    """Writes shared objects out instead of using anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  the base class's signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT
        super().increase_indent(flow, indentless=False)

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Texts of several lines stay readable."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_PlainDumper.add_representer(str, _PlainDumper.represent_text)
