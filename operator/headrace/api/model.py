"""What is served, and how fast: the blocks `model` and `slo` of the spec."""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from headrace.api.base import CEL_KEY, ApiModel, cel
from headrace.api.pods import SecretKey
from headrace.api.quantity import Duration, parse_duration
from headrace.api.source import HIDING_PATTERN, MAX_SOURCE_LENGTH, SOURCE_PATTERN, ModelSource, parse_source


class Model(ApiModel):
    """Which model is served, and where it comes from."""

    model_config = ConfigDict(
        json_schema_extra={
            CEL_KEY: [
                cel(
                    "has(self.servedName) == has(oldSelf.servedName)"
                    " && (!has(self.servedName) || self.servedName == oldSelf.servedName)",
                    "is immutable: clients ask for the model by this name; create another InferenceService",
                    ".servedName",
                ),
                cel(
                    "!has(self.revision) || self.source.startsWith('hf://')",
                    "has a meaning for hf:// sources only; remove it",
                    ".revision",
                ),
            ]
        }
    )

    source: Annotated[
        str,
        StringConstraints(max_length=MAX_SOURCE_LENGTH),
        AfterValidator(lambda text: parse_source(text).text),
    ] = Field(
        json_schema_extra={
            CEL_KEY: [
                cel(
                    f"self.matches(r'{SOURCE_PATTERN}') && !self.matches(r'/[.][.](/|$)')",
                    "must be hf://ORG/NAME, pvc://CLAIM/PATH or file:///PATH, for example hf://Qwen/Qwen3-8B",
                ),
                cel(
                    f"!self.matches(r'{HIDING_PATTERN}')",
                    "would hide a folder that the engine needs; set a folder of the model's own",
                ),
                cel(
                    "self == oldSelf",
                    "is immutable: one InferenceService serves one model; create another InferenceService",
                ),
            ],
        }
    )
    """hf://ORG/NAME, pvc://CLAIM/PATH or file:///PATH. Immutable: one InferenceService serves one model."""

    revision: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """Branch, tag or commit of an hf:// source. A change rolls the engines."""

    served_name: Annotated[str, StringConstraints(min_length=1, max_length=253)] | None = None
    """The name that clients put into `model`; the last part of the source unless set. Immutable."""

    credentials: SecretKey | None = None
    """The Secret with the access token of an hf:// source."""

    @field_validator("revision")
    @classmethod
    def _revision_needs_hub(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and not info.data.get("source", "hf://").startswith("hf://"):
            raise ValueError("has a meaning for hf:// sources only; remove it")
        return value

    @property
    def location(self) -> ModelSource:
        """The source, taken apart."""
        return parse_source(self.source)

    @property
    def name(self) -> str:
        """The name under which clients ask for the model."""
        return self.served_name or self.location.default_name


class SLO(ApiModel):
    """The objective: `percentile` of the requests meet both TTFT and TPOT."""

    ttft: Duration = "2s"
    """Time to first token."""

    tpot: Duration = "50ms"
    """A request's mean time per output token after the first."""

    percentile: int = Field(default=95, ge=50, le=99)
    """Share of requests, in per cent, that meet both."""

    ttft_per1k_prompt_tokens: Duration | None = Field(default=None, alias="ttftPer1kPromptTokens")
    """Further allowance by prompt length: the TTFT objective is the larger of `ttft` and this times tokens / 1000."""

    @property
    def ttft_s(self) -> float:
        """The TTFT objective in seconds."""
        return parse_duration(self.ttft)

    @property
    def tpot_s(self) -> float:
        """The TPOT objective in seconds."""
        return parse_duration(self.tpot)

    @property
    def ttft_s_per_1k_tokens(self) -> float | None:
        """The length-proportional TTFT objective in seconds per 1000 prompt tokens, if there is one."""
        return None if self.ttft_per1k_prompt_tokens is None else parse_duration(self.ttft_per1k_prompt_tokens)
