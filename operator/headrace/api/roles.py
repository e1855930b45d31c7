"""What a pod of an engine pool does. Code speaks of roles and pools: a role need not be a Deployment of its own."""

from enum import StrEnum


class Role(StrEnum):
    """The part that an engine replica plays for its InferenceService."""

    PREFILL = "prefill"
    DECODE = "decode"
    WORKER = "worker"  # both phases in one engine (topology: Aggregated)


DISAGGREGATED_ROLES = (Role.PREFILL, Role.DECODE)
AGGREGATED_ROLES = (Role.WORKER,)
