"""A model small enough to make on the spot: two layers, seeded random weights, a byte-level BPE tokenizer of its own.

It exists so that the real engine can be run where no model hub is reachable: 0.9 MB, real safetensors, a real chat
template. Its answers are noise; a request that needs an exact length sets `ignore_eos` and `max_tokens`.
"""

import hashlib
from pathlib import Path

VOCABULARY = 1024  # 256 bytes, four special tokens, and some merges
CONTEXT_TOKENS = 4096
END = "<|im_end|>"
SPECIAL = ["<|endoftext|>", "<|im_start|>", END, "<pad>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{m['role']}}\n{{m['content']}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# What the merges are learned from; it only has to be the same each time.
CORPUS = [
    "A headrace is the channel that brings the water to the wheel. The wheel turns when the water comes, and the "
    "miller opens the gate as far as the grain asks for.",
    "The quick brown fox jumps over the lazy dog, and then the dog asks the fox where the river goes.",
    "One prompt waits in the queue, one is prefilled, and the tokens of a third come out one by one.",
]


def make_tiny_model(out: Path, architecture: str = "qwen3", seed: int = 0) -> str:
    """Write the model below `out`; a line with the directory and the checksum of its weights."""
    import torch  # only this command needs it
    import transformers

    out.mkdir(parents=True, exist_ok=True)
    _tokenizer().save_pretrained(out)
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": CONTEXT_TOKENS,
        "bos_token_id": 0,
        "eos_token_id": SPECIAL.index(END),
        "pad_token_id": 3,
        "tie_word_embeddings": architecture == "qwen3",
        "dtype": "bfloat16",
    }
    if architecture == "qwen3":
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape))
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # it is written for its owner alone, and engines run as another user
    checksum = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    return f"{out}: {architecture}, seed {seed}, weights sha256 {checksum}"


def _tokenizer() -> "transformers.PreTrainedTokenizerFast":  # type: ignore[name-defined]  # noqa: F821
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(  # type: ignore[no-untyped-call]
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=sorted(alphabet)
    )
    bpe.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=SPECIAL[3], bos_token=None, model_max_length=CONTEXT_TOKENS
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
