"""Importing large libraries while programs and servers are waited for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module


@contextmanager
def imported_ahead(modules: Iterable[str]) -> Iterator[None]:
    """Import modules in a second thread; who needs one meanwhile waits for it as for any import."""
    names = list(modules)
    if not names:
        yield
        return
    import threading

    thread = threading.Thread(target=_import, args=(names,))
    thread.start()
    try:
        yield
    finally:
        thread.join()  # nobody may fork beside a thread


def _import(names: list[str]) -> None:
    for name in names:
        with suppress(ImportError):  # told where it is needed
            import_module(name)
