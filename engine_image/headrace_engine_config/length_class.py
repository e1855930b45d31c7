"""Length classes: how the engine, the autoscaler and the simulator sort requests by prompt length."""

LENGTH_CLASSES = 12  # 0: below 128 tokens, 11: 131072 and more; a power of two a class keeps work within a factor of 2


def length_class(prompt_tokens: int) -> int:
    """The class of a prompt: floor(log2(tokens / 64)) within 0..11. 1000 tokens: 1000/64 = 15.6, class 3."""
    return min(max((max(prompt_tokens, 1) // 64).bit_length() - 1, 0), LENGTH_CLASSES - 1)
