"""Reads the header of a GGUF file: what a model says about itself. Never reads or changes a tensor."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from foreman.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

STRING, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
#: `general.file_type`, as llama.cpp numbers the quantizations.
FILE_TYPES = (
    *(
        "F32",
        "F16",
        "Q4_0",
        "Q4_1",
        "unknown",
        "unknown",
        "unknown",
        "Q8_0",
        "Q5_0",
        "Q5_1",
        "Q2_K",
        "Q3_K_S",
        "Q3_K_M",
    ),
    *("Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The metadata of a file and the number of its parameters."""

    metadata: dict[str, Any]
    parameter_count: int

    def of_architecture(self, key: str) -> int:
        """A number that is filed under the architecture's name, such as `llama.context_length`; 0 if it is absent."""
        return int(self.metadata.get(f"{self.metadata.get('general.architecture')}.{key}", 0))

    @property
    def quantization(self) -> str:
        """Ollama's name of the quantization."""
        number = self.metadata.get("general.file_type", len(FILE_TYPES))
        return FILE_TYPES[number] if number < len(FILE_TYPES) else "unknown"


class _Cursor:
    """A position in the bytes of a header."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> Any:
        """The next number."""
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        """The next string."""
        length = self.take("<Q")
        self.at += length
        return self.data[self.at - length : self.at].decode(errors="replace")

    def value(self, kind: int) -> Any:
        """The next value of a kind; an array is passed over: vocabularies are large and not needed."""
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.take(SCALARS[kind])
        kind, count = self.take("<I"), self.take("<Q")
        if kind in SCALARS:
            self.at += count * struct.calcsize(SCALARS[kind])
        else:
            for _ in range(count):
                self.value(kind)
        return []


def read_header(path: Path) -> Header:
    """The header of the file; `ConfigError` if it is not a GGUF file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(_Cursor(data))
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise ConfigError(f"{path} is not a GGUF file that can be read: {error}") from error


def _parse(cursor: _Cursor) -> Header:
    if cursor.take("<I") != int.from_bytes(b"GGUF", "little"):
        raise ValueError("its first bytes are not GGUF")
    cursor.take("<I")  # the version; 2 and 3 read alike
    tensors, entries = cursor.take("<Q"), cursor.take("<Q")
    metadata = {}
    for _ in range(entries):
        key = cursor.text()
        metadata[key] = cursor.value(cursor.take("<I"))
    parameters = 0
    for _ in range(tensors):
        cursor.text()
        parameters += prod(cursor.take("<Q") for _ in range(cursor.take("<I")))
        cursor.take("<I")  # its type
        cursor.take("<Q")  # its place in the file
    return Header(metadata=metadata, parameter_count=parameters)
