"""On what file system a path lies."""

from __future__ import annotations

from collections.abc import Sequence

from agent.host.mounts import Mount


def inside(mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that a path lies on: the last one made of the deepest."""
    holding = [mount for mount in mounts if f"{path}/".startswith(mount.path.rstrip("/") + "/")]
    return max(holding, key=lambda mount: len(mount.path.rstrip("/")), default=None) if holding else None
