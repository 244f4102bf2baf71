"""all-minilm: the vectors are the ones its authors publish, the rest is Ollama's wire."""

from __future__ import annotations

import math

import ollama
import pytest

#: What sentence-transformers computes for this text.
EXAMPLE, PUBLISHED = "This is an example sentence", [0.0677, 0.0635, 0.0487, 0.0793, 0.0374, 0.0026, 0.0394, -0.0071]


def test_vector_is_the_published_one(client):
    answer = client.embed("all-minilm", EXAMPLE)
    (vector,) = answer.embeddings
    assert vector[:8] == pytest.approx(PUBLISHED, abs=5e-4)
    assert (len(vector), answer.prompt_eval_count) == (384, 7)
    assert list(client.embeddings("all-minilm", EXAMPLE).embedding) == pytest.approx(list(vector))


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_alike_sentences_are_closer_than_others(client):
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby."]
    eating, bread, baby = client.embed("all-minilm", texts).embeddings
    assert dot(eating, bread) > 0.7 > 0.1 > dot(eating, baby)


def test_shortened_vector_has_length_one(client):
    (vector,) = client.embed("all-minilm", EXAMPLE, dimensions=64).embeddings
    assert len(vector) == 64
    assert math.hypot(*vector) == pytest.approx(1)


def test_text_beyond_the_context_is_cut_or_refused(client):
    assert client.embed("all-minilm", "word " * 900).prompt_eval_count == 256
    with pytest.raises(ollama.ResponseError, match="the input length exceeds the context length") as caught:
        client.embed("all-minilm", "word " * 900, truncate=False)
    assert caught.value.status_code == 400


def test_empty_input_only_loads(embedded, client):
    assert client.embed("all-minilm", []).embeddings == []
    assert embedded.loaded() == ["all-minilm:latest"]


@pytest.mark.parametrize(
    ("model", "body", "status", "error"),
    [
        ("all-minilm", {"input": [1]}, 400, "invalid input type"),
        ("nope", {"input": "x"}, 404, 'model "nope" not found, try pulling it first'),
        ("smollm2:135m", {"input": "x"}, 501, "This model does not support embeddings"),
    ],
)
def test_bad_embed_is_refused(embedded, model, body, status, error):
    with embedded.http() as http:
        answer = http.post("/api/embed", json={"model": model} | body)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_chat_with_an_embedding_model_is_refused(client):
    with pytest.raises(ollama.ResponseError, match='"all-minilm" does not support chat'):
        client.chat("all-minilm", [{"role": "user", "content": "Hi"}])
