"""InferenceService `headrace.dev/v1alpha1`. A field is here only if it does something.

The API server checks the same rules: each validator below has its twin in the schema, and tests hold them together.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from headrace.api.base import API_VERSION, CEL_KEY, KIND, ApiModel, cel
from headrace.api.errors import Problem, SpecError, from_validation_error
from headrace.api.model import SLO, Model
from headrace.api.pods import LocalReference
from headrace.api.pools import Autoscaling, Pool
from headrace.api.roles import AGGREGATED_ROLES, DISAGGREGATED_ROLES, Role
from headrace.api.serving import PRIORITIES, Engine, Gateway, KVCache, QueueOrder


class Topology(StrEnum):
    """Which pools serve."""

    AGGREGATED = "Aggregated"
    DISAGGREGATED = "Disaggregated"


class InferenceServiceSpec(ApiModel):
    """What is to be served, on what, how fast, and within which bounds."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL_KEY: [
                cel(
                    "self.topology == 'Disaggregated' || (!has(self.prefill) && !has(self.decode))",
                    "topology Aggregated has one pool: move prefill and decode into worker, or set Disaggregated",
                    ".topology",
                ),
                cel(
                    "self.topology == 'Aggregated' || !has(self.worker)",
                    "topology Disaggregated has the pools prefill and decode: move worker into them, or set Aggregated",
                    ".topology",
                ),
                cel(
                    "self.topology == 'Disaggregated' || !has(self.autoscaling.pdBand)",
                    "has a meaning with topology Disaggregated only; remove it",
                    ".autoscaling.pdBand",
                ),
            ]
        }
    )

    model: Model
    """Which model is served."""

    accelerator: Annotated[
        str,
        StringConstraints(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    ]
    """What engines run on: an entry of the accelerator catalogue, for example nvidia-h100, or cpu."""

    topology: Topology = Topology.AGGREGATED
    """Aggregated: one pool of engines that do both phases. Disaggregated: one pool each for prefill and decode."""

    slo: SLO = SLO()
    """The objective that the pools are sized for."""

    prefill: Pool | None = None
    """The prefill pool (topology Disaggregated); all defaults unless set."""

    decode: Pool | None = None
    """The decode pool (topology Disaggregated); all defaults unless set."""

    worker: Pool | None = None
    """The one pool of topology Aggregated; all defaults unless set."""

    gateway: Gateway = Gateway()
    """The gateway in front of the pools."""

    autoscaling: Autoscaling = Autoscaling()
    """How the pools are sized."""

    kv_cache: KVCache = KVCache()
    """The KV cache of each engine. Prefill and decode share it: their layouts must match."""

    engine: Engine = Engine()
    """The engine that the pools run."""

    image_pull_secrets: tuple[LocalReference, ...] = Field(default=(), max_length=8)
    """Secrets for pulling the images."""

    @field_validator("prefill", "decode")
    @classmethod
    def _belongs_to_disaggregated(cls, value: Pool | None, info: ValidationInfo) -> Pool | None:
        if value is not None and info.data.get("topology") is Topology.AGGREGATED:
            raise ValueError("topology Aggregated has the one pool worker; move it there or set topology Disaggregated")
        return value

    @field_validator("worker")
    @classmethod
    def _belongs_to_aggregated(cls, value: Pool | None, info: ValidationInfo) -> Pool | None:
        if value is not None and info.data.get("topology") is Topology.DISAGGREGATED:
            raise ValueError("topology Disaggregated has prefill and decode; move it there or set topology Aggregated")
        return value

    @field_validator("autoscaling")
    @classmethod
    def _band_belongs_to_disaggregated(cls, value: Autoscaling, info: ValidationInfo) -> Autoscaling:
        if value.pd_band is not None and info.data.get("topology") is Topology.AGGREGATED:
            raise ValueError("pdBand has a meaning with topology Disaggregated only; remove it")
        return value

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of this topology, in the order in which they serve a request."""
        return DISAGGREGATED_ROLES if self.topology is Topology.DISAGGREGATED else AGGREGATED_ROLES

    @property
    def queue_order(self) -> QueueOrder:
        """The order that the engines keep: the stages of a pipeline and clients' priorities have one of their own."""
        pipeline = any(self.pool(role).parallelism.pipeline > 1 for role in self.roles)
        own = pipeline or bool(self.engine.extra_args.get(PRIORITIES))
        return QueueOrder.ARRIVAL if own else self.engine.queue_order

    def pool(self, role: Role) -> Pool:
        """The pool of a role of this topology, with defaults where the spec says nothing."""
        pools: dict[Role, Pool | None] = {
            Role.PREFILL: self.prefill,
            Role.DECODE: self.decode,
            Role.WORKER: self.worker,
        }
        return pools[role] or Pool()


PAUSED_ANNOTATION = "headrace.dev/paused"

# The longest child name is NAME-prefill-engine, 15 characters more; 63 is the limit of labels and Service names.
MAX_NAME_LENGTH = 40
NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"


@dataclass(frozen=True, slots=True)
class InferenceService:
    """One InferenceService as read: the spec, and of the metadata what Headrace acts on."""

    name: str
    namespace: str
    spec: InferenceServiceSpec
    uid: str = ""
    generation: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    deletion_timestamp: str | None = None

    @property
    def key(self) -> str:
        """NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"

    @property
    def deleting(self) -> bool:
        """Whether it is on its way out: nothing may be created for it any more."""
        return self.deletion_timestamp is not None

    @property
    def paused(self) -> bool:
        """Whether somebody holds its scaling by annotation."""
        return self.annotations.get(PAUSED_ANNOTATION, "").lower() == "true"

    @classmethod
    def parse(cls, manifest: Mapping[str, Any], *, strict: bool = False) -> "InferenceService":
        """Read an object. Raises SpecError with every problem at once.

        `strict` refuses unknown fields (files that somebody wrote); live objects may carry fields of a newer version.
        """
        if not isinstance(manifest, Mapping):  # a file can hold anything
            raise SpecError([Problem("object", f"is not an object; set apiVersion: {API_VERSION} and kind: {KIND}")])
        problems: list[Problem] = []
        if (manifest.get("apiVersion"), manifest.get("kind")) != (API_VERSION, KIND):
            mend = f"set apiVersion: {API_VERSION} and kind: {KIND}"
            problems.append(Problem("kind", f"is not {KIND} of {API_VERSION}; {mend}"))
        metadata = _read(_Metadata, manifest.get("metadata"), "metadata", "ignore", problems)
        spec = _read(InferenceServiceSpec, manifest.get("spec"), "spec", "forbid" if strict else "ignore", problems)
        if problems or metadata is None or spec is None:
            raise SpecError(problems)
        return cls(
            name=metadata.name,
            namespace=metadata.namespace or "default",
            spec=spec,
            uid=metadata.uid,
            generation=metadata.generation,
            labels=metadata.labels or {},
            annotations=metadata.annotations or {},
            deletion_timestamp=metadata.deletion_timestamp,
        )


def _check_name(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH or not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(
            f'"{name}" cannot name the children; set at most {MAX_NAME_LENGTH} lower-case letters, digits and "-", '
            "a letter first"
        )
    return name


class _Metadata(ApiModel):
    """Of an object's metadata, what Headrace acts on."""

    name: Annotated[str, AfterValidator(_check_name)]
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


_T = TypeVar("_T", bound=ApiModel)


def _read(
    model: type[_T], value: Any, path: str, unknown: Literal["forbid", "ignore"], problems: list[Problem]
) -> _T | None:
    """The part of an object at `path`; None, and what is wrong added to `problems`, if it cannot be read."""
    try:
        return model.model_validate({} if value is None else value, extra=unknown, by_alias=True, by_name=False)
    except ValidationError as error:
        problems.extend(from_validation_error(error, model, path).problems)
        return None
