"""The capacity model in the figures that the status shows: predicted beside measured, units in the names."""

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.memory import Memory

# A context and a batch to state step times at; real ones move all the time, and a fixed point can be compared.
CONTEXT_TOKENS = 1024.0
BATCH = 8.0


def capacity_view(
    roles: tuple[Role, ...], model: CapacityModel, memory: Memory
) -> dict[str, dict[str, dict[str, float | None]]]:
    """role -> figure -> {predicted, measured}. measured is None until the engines' own sums carry it."""
    return {role.value: _role(role, model, memory) for role in roles}


def _role(role: Role, model: CapacityModel, memory: Memory) -> dict[str, dict[str, float | None]]:
    figures: dict[str, dict[str, float | None]] = {}
    if role is not Role.DECODE:
        prior, now = model.prior_steps.prefill_s(model.chunk_tokens), model.steps.prefill_s(model.chunk_tokens)
        figures["prefillTokensPerSecond"] = {
            "predicted": model.chunk_tokens / prior,
            "measured": model.chunk_tokens / (now * model.saturated) if model.prefill_valid else None,
        }
    if role is not Role.PREFILL:
        kv = BATCH * CONTEXT_TOKENS
        figures["decodeStepSecondsAtBatch8"] = {
            "predicted": model.prior_steps.decode_s(BATCH, kv),
            "measured": model.steps.decode_s(BATCH, kv) if model.decode_valid else None,
        }
        figures["kvTokens"] = {
            "predicted": model.kv_capacity_tokens,
            "measured": memory.role(role).kv_capacity_tokens,
        }
    return figures
