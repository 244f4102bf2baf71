"""From a request to llama.cpp and back: prompts, chunks and counts. Must not know HTTP responses or who is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foreman.embedded.requests import SAMPLING_OPTIONS, Refusal, grammar_of, messages_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from foreman.embedded.catalog import Model
    from foreman.embedded.runner import Load, Runner

TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What chat and generate differ in on the wire."""

    type_name: str
    verb: str

    def chunk(self, model: str, created_at: str, content: str) -> dict[str, Any]:
        """The head of every answer object, with `done` false."""
        message = {"role": "assistant", "content": content}
        text = {"message": message} if self is CHAT else {"response": content}
        return {"model": model, "created_at": created_at, **text, "done": False}


CHAT = Kind("ChatRequest", "chat")
GENERATE = Kind("GenerateRequest", "generate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that is about to be answered by a loaded model."""

    kind: Kind
    body: dict[str, Any]
    load: Load
    options: dict[str, Any]
    now: Callable[[], str]
    elapsed_s: Callable[[], float]
    load_s: float


def check_abilities(kind: Kind, model: Model, body: dict[str, Any]) -> None:
    """Refuse, in Ollama's words, what this model or this server cannot do."""
    name = body["model"]
    if body.get("raw") and any(body.get(key) for key in ("template", "system", "context")):
        raise Refusal(400, "raw mode does not support template, system, or context")
    if body.get("think"):
        raise Refusal(400, f'"{name}" does not support thinking')
    if model.embeds:
        raise Refusal(400, f'"{name}" does not support {kind.verb}')
    images = body.get("images") or any(message["images"] for message in messages_of(body))
    for wanted, ability in ((body.get("tools"), "tools"), (body.get("suffix"), "insert"), (images, "vision")):
        if wanted:
            raise Refusal(400, f"{model.full_name} does not support {ability}")
    for key in ("template", "logprobs"):
        if body.get(key):
            raise Refusal(400, f'"{name}" does not support {key}')


async def answer(runner: Runner, question: Question) -> AsyncGenerator[dict[str, Any]]:
    """The chunks of the answer; the last one has `done` set."""
    kind, body = question.kind, question.body
    prompt = await _prompt(runner, question)
    wanted = {theirs: question.options[ours] for ours, theirs in SAMPLING_OPTIONS.items() if ours in question.options}
    # As Ollama bounds it: with context shift an answer could go on for ever.
    longest = 10 * question.load.num_ctx
    wanted["n_predict"] = min(wanted["n_predict"], longest) if wanted.get("n_predict", -1) >= 0 else longest
    fields = {"response_fields": ["content", "stop", "stop_type", "timings"]}
    text = ""
    async for event in runner.completion(
        {"prompt": await _fitted(runner, question, prompt)} | wanted | grammar_of(body) | fields
    ):
        text += event["content"]
        chunk = kind.chunk(body["model"], question.now(), event["content"])
        if event["stop"]:
            if kind is GENERATE and not body.get("raw"):
                chunk["context"] = await _tokens(runner, prompt + text)
            yield _finished(chunk, event, question)
        elif event["content"]:
            yield chunk


async def joined(kind: Kind, chunks: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """The one object of an answer that is not streamed."""
    text, last = "", {}
    async for last in chunks:
        text += last["message"]["content"] if kind is CHAT else last["response"]
    return last | ({"message": {"role": "assistant", "content": text}} if kind is CHAT else {"response": text})


async def embeddings(
    runner: Runner, load: Load, texts: list[str], body: dict[str, Any]
) -> tuple[list[list[float]], int]:
    """One vector of length 1 for each text, and the number of tokens read."""
    vectors, count = [], 0
    for text in texts:
        tokens = await _tokens(runner, text, special=True)
        if len(tokens) > load.num_ctx:
            if not body.get("truncate", True):
                raise Refusal(400, "the input length exceeds the context length")
            # The last token is the one that ends an input for this model.
            tokens = [*tokens[: load.num_ctx - 1], tokens[-1]]
        answered = await runner.post("/v1/embeddings", {"input": tokens})
        vector = answered["data"][0]["embedding"]
        vector = vector[: body.get("dimensions") or len(vector)]
        norm = sum(value * value for value in vector) ** 0.5
        vectors.append([value / max(norm, 1e-12) for value in vector])
        count += answered["usage"]["prompt_tokens"]
    return vectors, count


async def _prompt(runner: Runner, question: Question) -> str:
    """The text that the model reads, from the model's own chat template."""
    body, system = question.body, question.load.model.system
    if body.get("raw"):
        return str(body["prompt"])
    if question.kind is GENERATE:
        messages = [{"role": "user", "content": body["prompt"]}]
        system = body.get("system") or system
    else:
        messages = [{"role": message["role"], "content": message["content"]} for message in messages_of(body)]
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    prompt = await _render(runner, messages)
    if body.get("context"):
        said = await runner.post("/detokenize", {"tokens": body["context"]})
        return str(said["content"]) + prompt
    # Drop the oldest turns until the rest fits; system messages and the last turn stay.
    while body.get("truncate", True) and len(await _tokens(runner, prompt)) > question.load.num_ctx:
        oldest = next((i for i, message in enumerate(messages[:-1]) if message["role"] != "system"), None)
        if oldest is None:
            break
        del messages[oldest]
        prompt = await _render(runner, messages)
    return prompt


async def _fitted(runner: Runner, question: Question, prompt: str) -> str | list[int]:
    """The prompt, cut in its middle as Ollama cuts it if it is still too long for the context."""
    num_ctx = question.load.num_ctx
    tokens = await _tokens(runner, prompt)
    if len(tokens) < num_ctx:
        return prompt
    if not question.body.get("truncate", True) or not question.body.get("shift", True):
        raise Refusal(400, TOO_LONG)
    keep = max(0, min(question.options.get("num_keep", 4), num_ctx - 1))
    # Leave room for about half of a context of answer.
    limit = num_ctx - max((num_ctx - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (limit - keep) :]


async def _render(runner: Runner, messages: list[dict[str, str]]) -> str:
    return str((await runner.post("/apply-template", {"messages": messages}))["prompt"])


async def _tokens(runner: Runner, text: str, *, special: bool = False) -> list[int]:
    body = {"content": text, "add_special": special, "parse_special": True}
    tokens: list[int] = (await runner.post("/tokenize", body))["tokens"]
    return tokens


def _finished(chunk: dict[str, Any], event: dict[str, Any], question: Question) -> dict[str, Any]:
    """The last chunk: why it ended, and llama.cpp's own counts and times in Ollama's fields; zeros are left out."""
    timings = event["timings"]
    metrics = {
        "total_duration": int(question.elapsed_s() * 1e9),
        "load_duration": int(question.load_s * 1e9),
        "prompt_eval_count": timings["cache_n"] + timings["prompt_n"],
        "prompt_eval_duration": int(timings["prompt_ms"] * 1e6),
        "eval_count": timings["predicted_n"],
        "eval_duration": int(timings["predicted_ms"] * 1e6),
    }
    reason = "length" if event["stop_type"] == "limit" else "stop"
    context = {"context": chunk.pop("context")} if "context" in chunk else {}
    counted = {key: value for key, value in metrics.items() if value}
    return chunk | {"done": True, "done_reason": reason} | context | counted
