"""Gives the methods of the two clients the words and signatures of the operations they drive. For `help()` and docs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def described(method: F, operation: Callable[..., Any], outer: str = "{}") -> F:
    """The method, described as the operation is. It returns what that yields within `outer`: `Iterator[{}]`."""
    signature = inspect.signature(operation)
    inner = str(signature.return_annotation).partition("[")[2].removesuffix("]")
    facts = {
        "__name__": operation.__name__,
        "__qualname__": operation.__name__,
        "__doc__": operation.__doc__,
        "__signature__": signature.replace(return_annotation=outer.format(inner)),
    }
    for name, value in facts.items():
        setattr(method, name, value)
    return method
