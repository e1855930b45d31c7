"""The tiny model: the same files each time, and a model that others can load."""

import hashlib
from pathlib import Path

import pytest

from headrace_engine.tiny_model import CONTEXT_TOKENS, VOCABULARY, make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn at import


def _checksums(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    said = [make_tiny_model(tmp_path / name, "qwen3", seed=7) for name in ("one", "other")]
    one, other = _checksums(tmp_path / "one"), _checksums(tmp_path / "other")
    assert one == other
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= one.keys()
    assert all(line.endswith(f"qwen3, seed 7, weights sha256 {one['model.safetensors']}") for line in said)


def test_another_seed_gives_other_weights_and_the_same_tokenizer(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "one", seed=0)
    make_tiny_model(tmp_path / "other", seed=1)
    one, other = _checksums(tmp_path / "one"), _checksums(tmp_path / "other")
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors"}


def test_making_it_anew_in_the_same_folder_changes_nothing(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    before = _checksums(tmp_path)
    make_tiny_model(tmp_path)
    assert _checksums(tmp_path) == before


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_transformers_loads_it_and_generates_from_a_chat(tmp_path: Path, architecture: str) -> None:
    import transformers

    make_tiny_model(tmp_path, architecture)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert model.config.model_type == architecture
    assert model.config.max_position_embeddings == CONTEXT_TOKENS
    chat = [{"role": "user", "content": "Where does the river go?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    tokens = model.generate(**prompt, max_new_tokens=4, do_sample=False)[0]
    assert len(tokens) > prompt["input_ids"].shape[1]
    assert int(tokens.max()) < VOCABULARY


@pytest.mark.parametrize("text", ["The wheel turns.", "naïve café, 水車, 🌊", "\n\ttabs and  spaces", ""])
def test_the_tokenizer_gives_any_text_back(tmp_path: Path, text: str) -> None:
    from headrace_engine.tiny_model import _tokenizer

    tokenizer = _tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_it_is_small_and_readable_by_another_user(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    assert weights.stat().st_size < 2**20
    assert weights.stat().st_mode & 0o004
