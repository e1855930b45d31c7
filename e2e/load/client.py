"""One streamed chat completion, and what became of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
import orjson

from e2e.load.results import Outcome, Result

_ERROR_CHARS = 300  # of an error body: enough for the gateway's code and message


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask for."""

    number: int
    phase: str
    scheduled_at: float
    model: str
    prompt: str
    output_tokens: int

    def body(self) -> dict[str, object]:
        """Greedy, of exactly the asked length, with the server's token counts at the end."""
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


@dataclass(slots=True)
class _Stream:
    """What a stream has said so far."""

    status: int | None = None
    first_at: float | None = None
    last_at: float | None = None
    gaps_s: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    done: bool = False
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""

    def take(self, data: bytes, now: float) -> None:
        """One `data:` line of the event stream."""
        if data == b"[DONE]":
            self.done = True
            return
        chunk = orjson.loads(data)
        if "error" in chunk:
            self.error = f"error in the stream: {orjson.dumps(chunk['error']).decode()[:_ERROR_CHARS]}"
            return
        if usage := chunk.get("usage"):
            self.prompt_tokens = usage.get("prompt_tokens")
            self.output_tokens = usage.get("completion_tokens")
        for choice in chunk.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            delta = choice.get("delta") or {}
            if delta.get("content") or delta.get("reasoning_content"):
                self._text_at(now)

    def _text_at(self, now: float) -> None:
        if self.last_at is not None:
            self.gaps_s.append(now - self.last_at)
        self.first_at = now if self.first_at is None else self.first_at
        self.last_at = now

    def verdict(self, asked_tokens: int) -> tuple[Outcome, str]:
        """Whole, or what is missing. Without a token count from the server the finish reason has to do."""
        cut = Outcome.FAILED if self.first_at is None else Outcome.TRUNCATED
        if self.error:
            return cut, self.error
        if not self.done or self.finish_reason is None:
            return cut, "the stream ended before finish_reason and [DONE]"
        if self.output_tokens is not None and self.output_tokens < asked_tokens:
            return Outcome.TRUNCATED, f"fewer tokens than asked for (finish_reason {self.finish_reason})"
        if self.finish_reason != "length":
            return Outcome.TRUNCATED, f"finish_reason {self.finish_reason} instead of length"
        return Outcome.OK, ""


async def send(
    session: aiohttp.ClientSession, url: str, request: Request, timeout_s: float, clock: Callable[[], float]
) -> Result:
    """Send one request and read its stream to the end. Never raises for what the server or the network does."""
    stream = _Stream()
    sent_at = clock()
    try:
        async with asyncio.timeout(timeout_s):
            await _read(session, url, request, stream, clock)
    except TimeoutError:
        stream.error = f"not finished within {timeout_s:g} s"
    except (aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
        stream.error = f"{type(error).__name__}: {error}"[:_ERROR_CHARS]
    outcome, error_text = stream.verdict(request.output_tokens)
    return Result(
        number=request.number,
        phase=request.phase,
        scheduled_at=request.scheduled_at,
        sent_at=sent_at,
        ended_at=clock(),
        outcome=outcome,
        error=error_text,
        status=stream.status,
        prompt_tokens=stream.prompt_tokens,
        asked_tokens=request.output_tokens,
        output_tokens=stream.output_tokens,
        first_token_at=stream.first_at,
        last_token_at=stream.last_at,
        gaps_s=tuple(stream.gaps_s),
    )


async def _read(
    session: aiohttp.ClientSession, url: str, request: Request, stream: _Stream, clock: Callable[[], float]
) -> None:
    async with session.post(f"{url}/v1/chat/completions", json=request.body()) as response:
        stream.status = response.status
        if response.status != 200:
            text = (await response.text())[:_ERROR_CHARS]
            stream.error = f"HTTP {response.status}: {text}"
            return
        async for line in response.content:
            if line.startswith(b"data:"):
                stream.take(line[5:].strip(), clock())
