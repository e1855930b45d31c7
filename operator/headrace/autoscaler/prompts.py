"""How long prompts are: the recent share of every length class, for objectives that grow with the prompt."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from headrace_engine_config.length_class import LENGTH_CLASSES

Prompts = dict[int, tuple[float, float]]  # length class -> requests, prompt tokens
TIGHT_SHARE = 0.5  # of the requests, the shorter ones: the mean of fewer follows chance, that of all the longest


@dataclass(frozen=True, slots=True)
class PromptLaw:
    """Requests and prompt tokens per length class, faded over the look-back."""

    count: tuple[float, ...] = (0.0,) * LENGTH_CLASSES
    tokens: tuple[float, ...] = (0.0,) * LENGTH_CLASSES


def learn(law: PromptLaw, new: Mapping[int, tuple[float, float]], passed_s: float, lookback_s: float) -> PromptLaw:
    """The law after the arrivals of the last `passed_s` seconds. Without any it stays: lulls say nothing of lengths."""
    if not new:
        return law
    keep = math.exp(-passed_s / lookback_s)
    added = [new.get(kind, (0.0, 0.0)) for kind in range(LENGTH_CLASSES)]
    return PromptLaw(
        tuple(keep * old + count for old, (count, _) in zip(law.count, added, strict=True)),
        tuple(keep * old + tokens for old, (_, tokens) in zip(law.tokens, added, strict=True)),
    )


def tight_prompt_tokens(law: PromptLaw, mean_tokens: float) -> float:
    """The mean of the shorter half of the prompts; the mean of all where no lengths are known.

    All prompts wait in one queue, and those with the tightest limits miss first: half of the requests with 500 tokens
    beside half with 20,000 ask for the limit of 500 tokens, not for that of the mean, 10,250. It is the lower quartile
    of an even spread, and never jumps: one short prompt among a hundred long ones takes 2 % off.
    """
    total = TIGHT_SHARE * sum(law.count)
    if total <= 0.0:
        return mean_tokens
    left, tokens = total, 0.0
    for count, size in zip(law.count, law.tokens, strict=True):
        taken = min(count, left)
        if taken > 0.0:
            tokens += taken * size / count
            left -= taken
    return tokens / total
