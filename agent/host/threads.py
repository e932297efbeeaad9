"""Work in a thread of its own: what the kernel keeps for each thread, such as its namespace, ends with that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def in_thread(function: Callable[[], Value]) -> Value:
    """Call a function in a thread of its own; raises what it raises."""
    values: list[Value] = []
    errors: list[Exception] = []

    def body() -> None:
        try:
            values.append(function())
        except Exception as error:  # noqa: BLE001 - raised again in the calling thread
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    for error in errors:
        raise error
    return values[0]
