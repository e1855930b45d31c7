"""What arrived is priced with the answers expected then; when the law of answers changes, so does what was expected."""

import numpy as np

from headrace.autoscaler.history import History
from headrace.autoscaler.lengths import LengthLaw, moments_held
from headrace.autoscaler.prompts import PromptLaw


def reprice(history: History, prompts: PromptLaw, old: LengthLaw, new: LengthLaw) -> History:
    """The history with answers as `new` expects them, by the classes' recent shares.

    Ten requests that were priced at 40 tokens, which the first answers said, count 2,000 once the law says 200. Without
    that the error stays for a whole look-back.
    """
    if old is new or not history.seconds or sum(prompts.count) <= 0.0:
        return history
    before, after = _price(prompts, old), _price(prompts, new)
    factors = [now / then if then > 0.0 else 1.0 for now, then in zip(after, before, strict=True)]
    columns = history.columns.copy()
    columns[-3:] *= np.array(factors)[:, None]  # output, kv, kv_sq
    return History(history.start, columns, history.ahead)


def _price(prompts: PromptLaw, law: LengthLaw) -> tuple[float, float, float]:
    """Expected output tokens, KV tokens held and their squares, of the mix: the last columns of History."""
    output = kv = kv_sq = 0.0
    moments = zip(law.mean, law.square, law.cube, strict=True)
    for count, tokens, (mean, square, cube) in zip(prompts.count, prompts.tokens, moments, strict=True):
        if count > 0.0:
            held, held_sq = moments_held(tokens / count, mean, square, cube)
            output += count * mean
            kv += count * held
            kv_sq += count * held_sq
    return output, kv, kv_sq
