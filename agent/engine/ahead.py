"""What is done while programs and servers are waited for: other such work, and importing large libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module


@contextmanager
def imported_ahead(modules: Iterable[str]) -> Iterator[None]:
    """Import modules in a second thread; who needs one meanwhile waits for it as for any import."""
    names = [name for name in modules if name not in sys.modules]
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
        with suppress(ImportError, OSError):  # told where it is needed
            import_module(name)


def side_by_side(jobs: Sequence[Callable[[], None]]) -> None:
    """Call all these, each in a thread of its own, and wait for their end; none of them may raise anything."""
    if len(jobs) < 2:
        for job in jobs:
            job()
        return
    import threading

    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
