"""The file that a master key is left in, once, for a person to take it away."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from agent.errors import ResourceError

_ABOUT = """\
This opens {cipher} without its passphrase, as long as its files exist:

{key}

Keep it where neither this host nor its backups are, then delete this file.
(gocryptfs -masterkey=…; if only gocryptfs.conf or the passphrase was lost: gocryptfs -passwd -masterkey=…)
"""


class KeyFile:
    """The file for the master key of what is mounted at `mount_point`, in the agent's root-only folder."""

    def __init__(self, state_dir: str, mount_point: str) -> None:
        self._mount_point = mount_point
        self.path = os.path.join(state_dir, "masterkeys", quote(mount_point.strip("/"), safe="") + ".txt")

    def remind(self, note: Callable[[str], None]) -> None:
        """Say that it is still there."""
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_size:
                note(
                    f"the master key of {self._mount_point} is in {self.path}: keep it elsewhere, and delete that file"
                )
            else:
                note(f"{self.path} is empty, because a run was cut off: gocryptfs-xray -dumpmasterkey shows the key")

    @contextlib.contextmanager
    def reserved(self) -> Iterator[Callable[[str, str], None]]:
        """Make the file before there is a key, so that no key is made that could not be kept.

        Gives what writes cipher directory and key into it. One that is already there is never written over.
        """
        Path(self.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            if os.path.lexists(self.path) and not os.path.getsize(self.path):
                os.unlink(self.path)
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            hint = "it is of an earlier cipher directory: take it away first"
            raise ResourceError(f"the master key cannot be left in {self.path}: that file exists", hint=hint) from None
        except OSError as error:
            raise ResourceError(f"the master key cannot be left in {self.path}: {error.strerror}") from None

        def write(cipher: str, key: str) -> None:
            file.write(_ABOUT.format(cipher=cipher, key=key))
            file.flush()
            os.fsync(file.fileno())

        with open(fd, "w", encoding="utf-8") as file:
            try:
                yield write
            except BaseException:
                if not os.fstat(file.fileno()).st_size:
                    os.unlink(self.path)
                raise
