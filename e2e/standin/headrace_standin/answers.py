"""OpenAI-compatible answers: deterministic text, one word a token."""

import itertools
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from headrace_standin.batching import Job

WORDS = ("water", "wheel", "gate", "mill", "stone", "grain", "race", "river")
DEFAULT_OUTPUT_TOKENS = 16  # the API's own default for completions


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Roughly a token for four characters, as English text has."""
    if "messages" in body:
        text = "".join(str(message.get("content") or "") for message in body["messages"])
    else:
        text = str(body.get("prompt") or body.get("text") or "")
    return max(1, len(text) // 4)


def output_tokens(body: Mapping[str, Any]) -> int:
    """Tokens asked for."""
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    if asked is None:
        asked = (body.get("sampling_params") or {}).get("max_new_tokens", DEFAULT_OUTPUT_TOKENS)
    return max(1, int(asked))


async def words(job: Job) -> AsyncIterator[str]:
    """The text of a job, a word for each token that the batcher emits."""
    for word in itertools.cycle(WORDS):
        if not await job.tokens.get():
            return
        yield f" {word}"


def chunk(chat: bool, rid: str, model: str, text: str | None, finish: str | None) -> bytes:
    """One event of a stream."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    choice |= {"delta": {"content": text} if text is not None else {}} if chat else {"text": text or ""}
    return event(envelope(chat, rid, model, streaming=True) | {"choices": [choice]})


def event(body: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def whole(chat: bool, job: Job, model: str, text: str) -> dict[str, Any]:
    """The answer of a request that does not stream."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return envelope(chat, job.rid, model, streaming=False) | {"choices": [choice], "usage": usage(job)}


def envelope(chat: bool, rid: str, model: str, *, streaming: bool) -> dict[str, Any]:
    """What every answer begins with."""
    kind = ("chat.completion.chunk" if streaming else "chat.completion") if chat else "text_completion"
    return {"id": rid, "object": kind, "created": int(time.time()), "model": model}


def usage(job: Job) -> dict[str, int]:
    """Token counts."""
    total = job.prompt_tokens + job.generated
    return {"prompt_tokens": job.prompt_tokens, "completion_tokens": job.generated, "total_tokens": total}
