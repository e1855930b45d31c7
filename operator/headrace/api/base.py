"""What all API models share: frozen, camelCase on the wire, no unknown fields, described by their docstrings."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

GROUP = "headrace.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "InferenceService"
PLURAL = "inferenceservices"
SINGULAR = "inferenceservice"
SHORT_NAME = "infsvc"

# Rules of the Common Expression Language that the API server runs, under the key it expects in the schema.
CEL_KEY = "x-kubernetes-validations"


class ApiModel(BaseModel):
    """Base of every object in the spec and the status.

    Unknown fields are errors here (a typing mistake must not pass silently); readers of live objects switch that off,
    so that a newer CRD never stops an older operator.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """The object as Kubernetes sees it: camelCase, JSON types, nothing where there is nothing."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def cel(rule: str, message: str, field_path: str = "") -> JsonDict:
    """One rule for the API server. `field_path` (".max") points the error at a field below the object."""
    entry: JsonDict = {"rule": rule, "message": message}
    if field_path:
        entry["fieldPath"] = field_path
    return entry
