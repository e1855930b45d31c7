"""How long a need must stay away before a replica goes, learned from the steps down that had to be taken back."""

from headrace.autoscaler.memory import RoleMemory

MORE_PATIENCE = 3.0  # for a step taken back: with twice the window the same burst brought it back once more
MOST_PATIENCE = 6.0  # an hour at the shortest default window: what outlasts that is a change of the load
SOON_S = 1200.0  # a cycle shorter than 40 minutes is more than three reversals an hour for the role
PATIENCE_S = 3600.0  # without a change before patience is given back


def patience(memory: RoleMemory, window_s: float, replicas: int, before: int, now: float) -> float:
    """Triples when a step down is taken back soon (20 minutes, or two windows), halves after an hour in which none was.

    The window that fits a load cannot be known beforehand; being wrong costs a start-up, so it is learned like a
    back-off. 600 s become 1,800 s after one reversal; from six windows on it grows no more. A rise beyond what there
    was before is a new load, and waiting would not have helped: 18 -> 17 -> 21 took back one of four, 600 s become 900.
    """
    is_soon = memory.lowered_at > memory.raised_at and now - memory.lowered_at < max(SOON_S, 2.0 * window_s)
    if replicas > before and is_soon:
        taken_back = min(max(memory.lowered_from - before, 0) / (replicas - before), 1.0)
        return min(memory.patience * (1.0 + (MORE_PATIENCE - 1.0) * taken_back), MOST_PATIENCE)
    if memory.patience > 1.0 and now - max(memory.raised_at, memory.lowered_at) > PATIENCE_S:
        return max(memory.patience / 2.0, 1.0)
    return memory.patience


def lowered_from(memory: RoleMemory, replicas: int, before: int) -> int:
    """The replicas before the steps down since the last rise: 20 -> 18 -> 15 came from 20."""
    if replicas < before and memory.lowered_at <= memory.raised_at:
        return before
    return memory.lowered_from
