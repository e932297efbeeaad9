"""The mail of an account that goes: deleted only where it certainly lies, and nothing but it."""

from __future__ import annotations

import os
import shutil
import stat

from agent.errors import ResourceError
from agent.host.files import Files
from agent.host.mounts import Mounts
from agent.mail.accounts_site import AccountSite


def mailbox(site: AccountSite, email: str) -> str | None:
    """The folder with an account's mail, None where there is none.

    Raises ResourceError where that cannot be told: the encrypted folder is not mounted, or links are on the way.
    """
    boxes = site.setting("dovecot", "mailboxes")
    if boxes is None:
        raise ResourceError("the site does not say where mailboxes are", hint="no state dovecot with `mailboxes`")
    folder = os.path.normpath(boxes)
    mount = site.setting("mailstore", "path")
    if mount is not None and _below(folder, os.path.normpath(mount)):
        _check_mounted(os.path.normpath(mount))
    path = os.path.join(folder, email)
    state = Files().read_entry(path)
    if state is None:
        return None
    if state["type"] != "directory":
        raise ResourceError(f"{path} is no folder, but a {state['type']}", hint="look at it, and remove it by hand")
    return path


def _below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _check_mounted(path: str) -> None:
    hint = f"agent apply gocryptfs:{path}"
    if Mounts().at(path) is None:
        raise ResourceError(f"{path} is not mounted: the mail cannot be seen, and was not deleted", hint=hint)
    try:
        os.statvfs(path)
    except OSError as error:
        raise ResourceError(f"{path} does not answer: {error.strerror}", hint=hint) from None


def delete(path: str) -> int:
    """Delete a mailbox with all in it, following no link; gives how many files went."""
    if not shutil.rmtree.avoids_symlink_attacks or not stat.S_ISDIR(os.lstat(path).st_mode):
        raise ResourceError(f"{path} cannot be deleted safely")
    count = sum(len(names) for _, _, names in os.walk(path))
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise ResourceError(f"{error.filename or path} cannot be deleted: {error.strerror}") from None
    return count
