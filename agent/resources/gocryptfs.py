"""An encrypted folder: a cipher directory of gocryptfs, made when it is first needed, and mounted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from agent.errors import NotPermitted, ResourceError
from agent.facts import Facts
from agent.fields import AbsolutePath, Doc
from agent.host import Host, gocryptfs
from agent.host.immutable import is_immutable, set_immutable
from agent.host.keyfile import KeyFile
from agent.host.mounts import Mount, answers, bare, held_beneath, real
from agent.host.run import find_program
from agent.resource import Change, Resource, State, Undoable
from agent.secret import SecretText
from agent.sources import MountAt, Source

_OPTION = re.compile(r"--?[a-z0-9][a-z0-9_-]*(=.+)?")
_REMOUNT = ("mount", "cipher", "allow_other", "options")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gocryptfs(Resource, Undoable):
    """A folder whose files lie encrypted in another one (`cipher`), mounted by gocryptfs.

    The cipher directory is made when it is first needed, never over anything that is not empty, and never deleted; one
    that was there before and is not any more, as its disk may be off, is an error, and no new one is made.
    Its master key, which opens it without the passphrase, is left once in a file that only root can read, to be taken
    away from this host. The mount point is made if need be, and is immutable beneath the mount (chattr(1)): while
    nothing is mounted, nobody can write into it in clear. A mount whose daemon died is put right; one that is in
    use is never unmounted by force. A new passphrase in the declaration does not change that of the cipher
    directory (`gocryptfs -passwd` does).
    """

    kind: ClassVar[str] = "gocryptfs"
    pending: ClassVar[str] = "is mounted first"
    example: ClassVar[str] = (
        "[secrets.mailstore]\ngenerate = 32\n\n"
        '[gocryptfs."/srv/mail"]\ncipher = "/srv/mail.encrypted"\npassphrase = "{{ secrets.mailstore }}"\n\n'
        '[directory."/srv/mail"]\nmode = "0755"\n'
    )

    name: Annotated[AbsolutePath, Doc("The mount point")]
    ensure: Annotated[
        Literal["mounted", "unmounted", "absent"],
        Doc(
            "Whether it is mounted. `unmounted` keeps the bare mount point immutable, `absent` makes it an ordinary "
            "folder again; the cipher directory stays either way"
        ),
    ] = "mounted"
    cipher: Annotated[AbsolutePath | None, Doc("The folder with the encrypted files; needed to mount it")] = None
    passphrase: Annotated[str | SecretText | None, Doc("A secret, `{{ secrets.NAME }}`; needed to mount it")] = None
    allow_other: Annotated[bool, Doc("Whether others than root can use it, as far as modes and owners let them")] = True
    options: Annotated[
        list[str],
        Doc(
            "More options of gocryptfs(1), such as `-noprealloc` or `-ko=noexec`, a word each. Those that a cipher "
            "directory is made with (`-plaintextnames`, `-scryptn=17`…) count only then; `-xchacha` is set of itself "
            "where the processor has no AES instructions"
        ),
    ] = field(default_factory=list)

    def problems(self) -> Iterable[str]:
        """What is wrong across its fields."""
        if isinstance(self.passphrase, str):
            yield 'passphrase must be a secret: declare [secrets.NAME] and write "{{ secrets.NAME }}"'
        for key in ("cipher", "passphrase"):
            if self.ensure == "mounted" and getattr(self, key) is None:
                yield f"{key} is needed to mount it"
        if self.cipher and (
            f"{self.cipher}/".startswith(f"{self.name}/") or f"{self.name}/".startswith(f"{self.cipher}/")
        ):
            yield "the mount point and the cipher directory cannot be the same, nor lie within one another"
        for option in self.options:
            if not _OPTION.fullmatch(option):
                yield f'options: "{option}" is no option; write each as one word, such as "-ko=noexec"'
            elif gocryptfs.option_name(option) in gocryptfs.OWN:
                yield f'options: "{option}" cannot be set here'

    def claims(self) -> Iterable[tuple[str, str]]:
        if self.ensure == "mounted":
            yield f"the cipher directory {self.cipher}", f"is mounted at {self.name}"

    def _options(self, *, for_init: bool) -> list[str]:
        named = {"-" + option.lstrip("-") for option in self.options}
        return sorted(each for each in named if (gocryptfs.option_name(each) in gocryptfs.FOR_INIT) is for_init)

    @property
    def _place(self) -> str:
        return real(self.name)

    def _key_file(self, host: Host) -> KeyFile:
        return KeyFile(host.state_dir, self.name)

    def desired(self, host: Host) -> State | None:  # noqa: ARG002
        if self.ensure == "absent":
            return None
        if self.ensure == "unmounted":
            return {"mount": "unmounted", "guarded": True}
        return self._as_declared("mounted")

    def _as_declared(self, mount: str) -> dict[str, Any]:
        options = self._options(for_init=False)
        return {
            "mount": mount, "cipher": self.cipher, "allow_other": self.allow_other, "options": options, "guarded": True,
        }  # fmt: skip

    def read(self, host: Host) -> State | None:
        if not host.is_root:
            raise NotPermitted(f"{self.name} can only be read or mounted by root", hint="run it with sudo")
        host.files.check_parents(self.name, self.links)
        if self.cipher is not None:
            host.files.check_parents(self.cipher, self.links)
        mount = host.mounts.at(self._place)
        state = self._read_unmounted(host) if mount is None else self._read_mounted(mount)
        self._key_file(host).remind(host.note)
        if state is not None:
            state["guarded"] = self._guard(host, mounted=mount is not None)
            if self.ensure == "absent" and state["mount"] == "unmounted" and not self._is_immutable():
                return None
        return state

    def _read_mounted(self, mount: Mount) -> dict[str, Any]:
        if mount.type != gocryptfs.TYPE:
            raise ResourceError(
                f"{self.name} is a mount of {mount.source} ({mount.type}), not of gocryptfs",
                hint="unmount that, or name another mount point; it is left alone",
            )
        alive = answers(self._place)
        state = self._as_declared("mounted" if alive else "dead")
        if self.cipher is None or mount.source != gocryptfs.source_of(os.path.realpath(self.cipher)):
            state["cipher"] = mount.source
        state["allow_other"] = "allow_other" in mount.options
        if alive and (options := gocryptfs.options_in_use(self._place)) is not None:
            state["options"] = [each for each in options if gocryptfs.option_name(each) not in gocryptfs.FOR_INIT]
        return state

    def _read_unmounted(self, host: Host) -> dict[str, Any] | None:
        if self.ensure != "mounted":
            return {"mount": "unmounted"}
        assert self.cipher is not None
        made = gocryptfs.is_made(self.cipher)
        held = held_beneath(self._place)
        if held:
            raise ResourceError(
                f"the mount point {self.name} is not empty",
                detail=f"it holds {gocryptfs.listed(held)}, in clear; nothing was touched",
                hint="move that away; once it is mounted, it can be moved in",
            )
        for path in (self.name, self.cipher) if not self.requires else ():
            host.files.require_parent(path)
        if not made and (host.last_set(self.id) or {}).get("cipher") == self.cipher:
            raise gocryptfs.lost(self.cipher)
        find_program("gocryptfs")
        return self._as_declared("unmounted") if made else None

    # The bare mount point

    def _is_immutable(self) -> bool | None:
        with bare(self._place) as fd:
            return False if fd is None else is_immutable(fd)

    def _guard(self, host: Host, *, mounted: bool) -> bool:
        """Whether nobody can write into the bare mount point, as far as that can be had here."""
        guarded = self._is_immutable()
        if mounted and (held := held_beneath(self._place)):
            host.note(f"{self.name}: beneath the mount, in clear, lie {gocryptfs.listed(held)}")
        if guarded is None:
            host.note(f"{self.name}: the bare mount point cannot be made immutable here (chattr +i)")
        return guarded is not False or not (mounted or os.path.lexists(self.name))

    def _set_guard(self, wanted: bool) -> None:
        with bare(self._place) as fd:
            if fd is not None:
                set_immutable(fd, self.name, wanted)

    # Changes

    def apply(self, host: Host, change: Change) -> None:
        if self.ensure != "mounted":
            self._take_down(host)
            self._set_guard(self.ensure == "unmounted")
        elif change.actual is None or change.touches(*_REMOUNT):
            assert self.cipher is not None
            self._mount(host, self.cipher, self._options(for_init=False), self.allow_other)
        else:
            self._set_guard(True)

    def _mount(self, host: Host, cipher: str, options: Sequence[str], allow_other: bool) -> None:
        passphrase = self._secret()
        if not gocryptfs.is_made(cipher):
            self._make(host, cipher, passphrase)
        elif host.mounts.at(self._place) is not None:
            gocryptfs.master_key(cipher, passphrase)  # a wrong passphrase is told before the old mount goes
        self._take_down(host)
        if not os.path.lexists(self.name):
            host.files.make_directory(self.name, "0755", links=self.links)
        self._set_guard(True)
        gocryptfs.mount(cipher, self._place, passphrase, ["-allow_other"] * allow_other + list(options))
        host.forget()

    def _secret(self) -> str:
        if not isinstance(self.passphrase, SecretText):
            raise ResourceError(f"{self.name} cannot be mounted: its passphrase is not declared")
        text = self.passphrase.reveal()
        if not text or "\n" in text or "\0" in text:
            raise ResourceError(
                f"{self.name}: the passphrase is {'more than one line' if text else 'empty'}",
                hint="look at the file, or the credential, that the secret comes from",
            )
        return text

    def _make(self, host: Host, cipher: str, passphrase: str) -> None:
        if not os.path.lexists(cipher):
            host.files.make_directory(cipher, "0700", links=self.links)
        slow = not Facts().cpu_has_aes
        find_program("gocryptfs-xray")
        with self._key_file(host).reserved() as write:
            gocryptfs.make(cipher, passphrase, [*["-xchacha"] * slow, *self._options(for_init=True)])
            write(cipher, gocryptfs.master_key(cipher, passphrase))

    def _take_down(self, host: Host) -> None:
        mount = host.mounts.at(self._place)
        if mount is not None:
            host.mounts.unmount(self._place, lazily=not answers(self._place))

    def cannot_undo(self, host: Host, before: State | None) -> str:  # noqa: ARG002
        return "the cipher directory and all it holds stay" if before is None else ""

    def undo(self, host: Host, before: State | None) -> None:
        """Mount it as it was, or unmount it; the cipher directory stays."""
        if before is not None and before["mount"] == "mounted":
            if not gocryptfs.is_made(before["cipher"]):
                raise gocryptfs.lost(before["cipher"])
            self._mount(host, before["cipher"], before["options"], before["allow_other"])
            return
        self._take_down(host)
        self._set_guard(bool(before and before["guarded"]))

    def summary(self, host: Host, change: Change) -> str:
        actual = (change.actual or {}).get("mount")
        if self.ensure != "mounted":
            return "unmount" if actual != "unmounted" else ""
        if actual == "dead":
            return "unmount what its dead daemon left, and mount it again"
        if actual is not None:
            return "mount" if actual == "unmounted" else "mount again" if change.touches(*_REMOUNT) else ""
        return f"make {self.cipher}; take its master key away from {self._key_file(host).path} afterwards"

    def hides(self, change: Change | None) -> str:
        """The mount point, where something else is to be seen there afterwards."""
        return self.name if change is None or change.actual is None or change.touches("mount", "cipher") else ""

    def watched(self) -> Iterable[Source]:
        return [MountAt(self.name)]

    def paths(self) -> Iterable[str]:
        """The mount point, and the cipher directory with all it holds."""
        return (self.name,) if self.cipher is None else (self.name, self.cipher + "/")
