"""The prefix cache of one engine: 512-token blocks by hash, least recently used out first."""

from collections import OrderedDict
from collections.abc import Sequence

BLOCK_TOKENS = 512  # the block length of the traces' hash_ids


class PrefixCache:
    """Blocks that a prompt can skip, the least recently used first."""

    __slots__ = ("blocks",)

    def __init__(self) -> None:
        self.blocks: OrderedDict[int, None] = OrderedDict()

    def match(self, hash_ids: Sequence[int], isl: int) -> int:
        """Prompt tokens found from the start on; never the whole prompt, whose last token must be computed."""
        blocks, found = self.blocks, 0
        for block in hash_ids:
            if block not in blocks:
                break
            found += 1
        return min(found * BLOCK_TOKENS, isl - 1)

    def insert(self, hash_ids: Sequence[int], room_tokens: int) -> None:
        """Note a prompt's blocks as most recently used, then keep no more than `room_tokens` of them."""
        blocks = self.blocks
        for block in hash_ids:
            blocks[block] = None
            blocks.move_to_end(block)
        excess = len(blocks) - max(room_tokens, 0) // BLOCK_TOKENS
        while excess > 0 and blocks:
            blocks.popitem(last=False)
            excess -= 1
