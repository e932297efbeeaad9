"""GnuPG homes, by the real gpg."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.declaration.schema import validated
from agent.errors import Missing, ResourceError
from agent.host import Host
from agent.host.openpgp import gnupg
from agent.host.openpgp import home as home_module
from agent.host.openpgp.blocks import key_blocks
from agent.resource import Change, Resource, differences
from agent.resources.keyring import Keyring
from agent.secret import SecretText

Converge = Callable[[Resource], Change | None]
NOW = 1_800_000_000.0
DAY = 86400.0


class Maker:
    """Somebody else's GnuPG home, in which keys are made at any time one likes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)

    def gpg(self, *words: str, at: float = NOW - 100 * DAY, stdin: bytes = b"") -> bytes:
        when = ["--faked-system-time", f"{int(at)}!"]
        quiet = ["--homedir", str(self.home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        done = subprocess.run(["gpg", *quiet, *when, *words], input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, uid: str, expires: str = "never", *, encrypts: bool = True, at: float = NOW - 100 * DAY) -> str:
        self.gpg("--quick-generate-key", uid, "ed25519", "cert,sign", expires, at=at)
        fingerprint = self.fingerprint(uid)
        if encrypts:
            self.gpg("--quick-add-key", fingerprint, "cv25519", "encr", expires, at=at)
        return fingerprint

    def fingerprint(self, uid: str) -> str:
        lines = self.gpg("--with-colons", "--list-keys", f"={uid}").decode().splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr:"))

    def public(self, fingerprint: str) -> bytes:
        return self.gpg("--armor", "--export", fingerprint)

    def private(self, fingerprint: str) -> bytes:
        return self.gpg("--armor", "--export-secret-keys", fingerprint)

    def revoked(self, fingerprint: str) -> bytes:
        certificate = (self.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_bytes().replace(b":-----", b"-----")
        self.gpg("--import", stdin=certificate)
        return self.public(fingerprint)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    home = tmp_path_factory.mktemp("maker") / "home"
    made = Maker(home)
    yield made
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


@pytest.fixture(scope="module")
def ann(maker: Maker) -> str:
    return maker.key("Ann <ann@example.org>")


@pytest.fixture(scope="module")
def bob(maker: Maker) -> str:
    return maker.key("Bob <bob@example.org>")


@pytest.fixture(scope="module")
def old(maker: Maker) -> bytes:
    """A key that expires ten days after now."""
    return maker.public(maker.key("Old <old@example.org>", "110d"))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "gnupg")
    yield path
    if os.path.isdir(path):
        subprocess.run(["gpgconf", "--homedir", path, "--kill", "all"], check=False)


@pytest.fixture
def host(host: Host) -> Host:
    host.clock = lambda: NOW
    return host


@pytest.fixture
def converge(converge: Converge, host: Host) -> Converge:
    """The same, by a host that remembers nothing of what the test did in between."""

    def bring(resource: Resource) -> Change | None:
        host.forget()
        return converge(resource)

    return bring


def armor(content: bytes, **fields: Any) -> dict[str, Any]:
    return {"armor": content.decode(), **fields}


def listed(home: str) -> dict[str, str]:
    """Fingerprints and letters of owner trust."""
    words = ["gpg", "--homedir", home, "--batch", "--no-autostart", "--with-colons", "--list-keys"]
    found, trust = {}, ""
    for line in subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines():
        fields = line.split(":")
        if fields[0] == "pub":
            trust = fields[8]
        elif fields[0] == "fpr" and trust:
            found[fields[9]], trust = trust, ""
    return found


def attributes(change: Change | None) -> dict[str, tuple[Any, Any]]:
    assert change is not None
    return {each.attribute: (each.actual, each.desired) for each in change.attributes}


def daemons(home: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
        except OSError:
            continue
        if home in words and "gpg-agent" in words:
            found.append(words)
    return found


class TestKeys:
    def test_made_once(self, home: str, maker: Maker, ann: str, bob: str, tmp_path: Path, converge: Converge) -> None:
        (tmp_path / "ann.asc").write_bytes(b"A key:\r\n\r\n" + maker.public(ann).replace(b"\n", b"\r\n"))
        (tmp_path / "bob.pgp").write_bytes(maker.gpg("--export", bob))
        ring = Keyring(name=home, keys=[{"file": str(tmp_path / "ann.asc")}, {"file": str(tmp_path / "bob.pgp")}])
        assert converge(ring) is not None
        assert set(listed(home)) == {ann, bob}
        assert converge(ring) is None
        assert not daemons(home)

    def test_an_empty_one(self, home: str, converge: Converge) -> None:
        assert converge(Keyring(name=home)) is not None
        assert converge(Keyring(name=home)) is None
        assert os.listdir(home) == []

    def test_by_armor_and_fingerprint(self, home: str, maker: Maker, ann: str, bob: str, converge: Converge) -> None:
        spaced = " ".join(ann[i : i + 4].lower() for i in range(0, 40, 4))
        table = {"name": home, "keys": [armor(maker.public(ann), fingerprint=spaced)]}
        fields = validated("keyring", table, set())
        assert isinstance(fields, dict)
        assert converge(Keyring(**fields)) is not None
        assert converge(Keyring(name=home, keys=[{"fingerprint": ann}])) is None
        both = maker.public(ann) + maker.public(bob)
        assert converge(Keyring(name=home, keys=[armor(both, fingerprint=bob), {"fingerprint": ann}])) is not None
        assert set(listed(home)) == {ann, bob}

    def test_trust_exactly_as_declared(self, home: str, maker: Maker, ann: str, converge: Converge) -> None:
        for trust, letters in (
            ("ultimate", "u"), ("full", "f"), ("marginal", "m"), ("never", "n"), ("unknown", "-oq"), ("full", "f"),
        ):  # fmt: skip
            ring = Keyring(name=home, keys=[armor(maker.public(ann), trust=trust)])
            assert converge(ring) is not None
            assert listed(home)[ann] in letters
            assert converge(ring) is None
        assert converge(Keyring(name=home, keys=[armor(maker.public(ann))])) is None

    def test_trust_of_a_key_that_is_missing_is_not_believed(
        self, home: str, maker: Maker, ann: str, bob: str, converge: Converge
    ) -> None:
        ring = Keyring(name=home, keys=[armor(maker.public(ann)), {"fingerprint": bob, "trust": "full"}])
        with pytest.raises(ResourceError, match="a declared key cannot be used") as error:
            converge(ring)
        assert f"{bob}: it is not in the keyring" in error.value.detail
        assert set(listed(home)) == {ann}
        words = ["gpg", "--homedir", home, "--export-ownertrust"]
        assert bob not in subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def test_exclusive(self, home: str, maker: Maker, ann: str, bob: str, converge: Converge) -> None:
        converge(Keyring(name=home, keys=[armor(maker.public(ann)), armor(maker.public(bob))]))
        only = Keyring(name=home, keys=[armor(maker.public(ann))])
        assert converge(only) is None
        assert attributes(converge(replace(only, exclusive=True))) == {"undeclared": ([bob], [])}
        assert set(listed(home)) == {ann}
        assert converge(replace(only, exclusive=True)) is None

    def test_exclusive_removes_nothing_while_a_declaration_is_wrong(
        self, home: str, maker: Maker, ann: str, bob: str, tmp_path: Path, converge: Converge
    ) -> None:
        converge(Keyring(name=home, keys=[armor(maker.public(ann)), armor(maker.public(bob))]))
        ring = Keyring(name=home, exclusive=True, keys=[armor(maker.public(ann)), {"file": f"{tmp_path}/no"}])
        with pytest.raises(ResourceError, match="cannot be used") as error:
            converge(ring)
        assert f"{tmp_path}/no: it cannot be read" in error.value.detail
        assert set(listed(home)) == {ann, bob}

    def test_a_renewed_key_replaces_an_older_copy(self, home: str, maker: Maker, converge: Converge) -> None:
        eve = maker.key("Eve <eve@example.org>", "200d")
        older = maker.public(eve)
        maker.gpg("--quick-set-expire", eve, "400d", at=NOW - 50 * DAY)
        maker.gpg("--quick-set-expire", eve, "400d", "*", at=NOW - 50 * DAY)
        newer = maker.public(eve)
        maker.gpg("--quick-add-uid", eve, "Eve <eve@example.net>", at=NOW - 40 * DAY)
        maker.gpg("--quick-add-key", eve, "cv25519", "encr", "never", at=NOW - 40 * DAY)
        newest = maker.public(eve)
        converge(Keyring(name=home, keys=[armor(older)]))
        change = attributes(converge(Keyring(name=home, keys=[armor(newer)])))
        name = "Eve <eve@example.org>"
        assert change == {
            f"key {eve}": (f"{name}; expires 2027-04-25; 1 subkey; older", f"{name}; expires 2027-12-31; 1 subkey")
        }
        assert converge(Keyring(name=home, keys=[armor(older)])) is None, "an older copy changes nothing"
        assert converge(Keyring(name=home, keys=[armor(newest, email="eve@example.net")])) is not None
        assert converge(Keyring(name=home, keys=[armor(newer)])) is None
        revoked = maker.revoked(eve)
        assert "revoked" in attributes(converge(Keyring(name=home, keys=[armor(revoked)])))[f"key {eve}"][1]
        assert converge(Keyring(name=home, keys=[armor(newest)])) is None

    def test_a_user_id_that_was_revoked(self, home: str, maker: Maker, converge: Converge) -> None:
        dan = maker.key("Dan <dan@example.org>")
        maker.gpg("--quick-add-uid", dan, "Dan <dan@example.net>", at=NOW - 50 * DAY)
        converge(Keyring(name=home, keys=[armor(maker.public(dan), email="dan@example.net")]))
        maker.gpg("--quick-revoke-uid", dan, "Dan <dan@example.net>", at=NOW - 40 * DAY)
        assert converge(Keyring(name=home, keys=[armor(maker.public(dan), email="dan@example.org")])) is not None
        with pytest.raises(ResourceError) as error:
            converge(Keyring(name=home, keys=[armor(maker.public(dan), email="dan@example.net")]))
        assert "it has no valid user id for dan@example.net; it has Dan <dan@example.org>" in error.value.detail


class TestWrongKeys:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"email": "bob@example.org"}, "it has no valid user id for bob@example.org; it has Ann <ann@example.org>"),
            ({"email": "ann@example.or"}, "it has no valid user id for ann@example.or;"),
            ({"fingerprint": "A" * 40}, "its fingerprint is {ann}"),
            ({"secret": True}, "it is a public key, and secret = true wants the private one"),
        ],
    )
    def test_they_are_told_apart(
        self, fields: dict[str, Any], said: str, home: str, maker: Maker, ann: str, bob: str, converge: Converge
    ) -> None:
        ring = Keyring(name=home, keys=[armor(maker.public(ann), **fields), armor(maker.public(bob))])
        with pytest.raises(ResourceError, match="a declared key cannot be used; all else is in place") as error:
            converge(ring)
        assert said.format(ann=ann) in error.value.detail
        assert set(listed(home)) == {bob}

    def test_the_check_tells_them_too(self, home: str, maker: Maker, ann: str, bob: str, host: Host) -> None:
        keys = [armor(maker.public(ann), email="bob@example.org"), armor(maker.public(bob))]
        ring = Keyring(name=home, keys=keys)
        change = differences(ring.read(host), ring.desired(host))
        assert change
        assert ring.summary(host, change).startswith("bob@example.org: it has no valid user id")
        with pytest.raises(ResourceError):
            ring.apply(host, change)
        host.forget()
        with pytest.raises(ResourceError, match="cannot be used"):
            ring.read(host)

    def test_the_check_leaves_none_out(self, home: str, maker: Maker, ann: str, bob: str, host: Host) -> None:
        missing = [{"fingerprint": f"{number:040X}"} for number in range(1, 3)]
        wrong = [armor(maker.public(ann), email=f"{name}@example.org") for name in ("bob", "eve")]
        ring = Keyring(name=home, keys=[*missing, armor(maker.public(bob)), wrong[0]])
        change = differences(ring.read(host), ring.desired(host))
        assert change
        assert ring.summary(host, change).count("nothing but its fingerprint is declared") == 2
        many = replace(ring, keys=[*ring.keys, wrong[1]])
        assert many.summary(host, change).endswith("; 1 more cannot be used")

    def test_an_address_in_other_letters(self, home: str, maker: Maker, ann: str, converge: Converge) -> None:
        assert converge(Keyring(name=home, keys=[armor(maker.public(ann), email="ANN@example.ORG")])) is not None

    def test_one_that_can_only_sign(self, home: str, maker: Maker, converge: Converge) -> None:
        sam = maker.key("Sam <sam@example.org>", encrypts=False)
        with pytest.raises(ResourceError) as error:
            converge(Keyring(name=home, keys=[armor(maker.public(sam), email="sam@example.org")]))
        assert "it can only sign" in error.value.detail
        assert converge(Keyring(name=home, keys=[armor(maker.public(sam))])) is not None

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"hello", "neither armored nor binary"),
            (b"", "neither armored nor binary"),
            (b"\x99\x01", "is cut off"),
            (b"\xc6\xff", "damaged"),
            (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n-----END PGP PUBLIC KEY BLOCK-----\n", "armor is damaged"),
            (b"\xc2\x01\x04", "something else than a key"),
            (b"\xc6\x03\x03\x00\x00", "version of OpenPGP"),
            (b"\xc6\x06\x04\x00\x00\x00\x00\x01", "gpg cannot read it"),
        ],
    )
    def test_no_key_at_all(
        self, content: bytes, said: str, home: str, maker: Maker, bob: str, tmp_path: Path, converge: Converge
    ) -> None:
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(ResourceError) as error:
            converge(Keyring(name=home, keys=[{"file": str(tmp_path / "key")}, armor(maker.public(bob))]))
        assert said in error.value.detail
        assert set(listed(home)) == {bob}

    def test_several_in_one_file(self, home: str, maker: Maker, ann: str, bob: str, converge: Converge) -> None:
        both = maker.public(ann) + maker.public(bob)
        with pytest.raises(ResourceError) as error:
            converge(Keyring(name=home, keys=[armor(both)]))
        assert "number 1: it holds 2 keys; write fingerprint" in error.value.detail


class TestPrivateKeys:
    @pytest.fixture
    def key(self, maker: Maker, ann: str) -> SecretText:
        value = maker.private(ann).decode()
        return SecretText(("", "signing", ""), lambda _name: value)

    def test_never_by_accident(
        self, home: str, ann: str, bob: str, maker: Maker, key: SecretText, tmp_path: Path, converge: Converge
    ) -> None:
        (tmp_path / "ann.asc").write_text(key.reveal())
        for table in ({"file": str(tmp_path / "ann.asc")}, {"armor": key}, {"armor": key, "fingerprint": ann}):
            with pytest.raises(ResourceError) as error:
                converge(Keyring(name=home, keys=[table, armor(maker.public(bob))]))
            assert "it is a private key; declare the public one" in error.value.detail
        assert set(listed(home)) == {bob}
        assert not gnupg.keygrips(home)

    def test_where_it_is_wanted(
        self, home: str, ann: str, maker: Maker, key: SecretText, host: Host, converge: Converge
    ) -> None:
        converge(Keyring(name=home, keys=[armor(maker.public(ann))]))
        ring = Keyring(name=home, keys=[{"armor": key, "secret": True, "fingerprint": ann, "trust": "ultimate"}])
        assert "without its private key" in attributes(converge(ring))[f"key {ann}"][0]
        assert len(gnupg.keygrips(home)) == 2
        assert converge(ring) is None
        assert not daemons(home), "a daemon was left running"
        assert "PRIVATE" not in repr(ring)
        with pytest.raises(ResourceError, match="private keys that are not declared"):
            converge(Keyring(name=home, exclusive=True))
        with pytest.raises(ResourceError, match="holds a private key, so it stays"):
            converge(Keyring(name=home, ensure="absent"))
        with pytest.raises(ResourceError, match="private keys are never removed"):
            ring.undo(host, None)
        assert len(gnupg.keygrips(home)) == 2


class TestExpiry:
    @pytest.mark.parametrize(
        ("days", "said"),
        [
            (-25, ""),
            (-15, "expires on 2027-01-25, in 25 days"),
            (9.5, "expires on 2027-01-25, in 0 days"),
            (10, "expired on 2027-01-25"),
            (1000, "expired on 2027-01-25"),
        ],
    )
    def test_told_in_time(self, days: float, said: str, old: bytes, home: str, host: Host, converge: Converge) -> None:
        host.clock = lambda: NOW + days * DAY
        ring = Keyring(name=home, keys=[armor(old, email="old@example.org")])
        assert converge(ring) is not None
        assert converge(ring) is None
        assert len(host.notes) == bool(said)
        assert all(said in note and "old@example.org" in note for note in host.notes)

    def test_how_long_before(self, old: bytes, home: str, host: Host, converge: Converge) -> None:
        converge(Keyring(name=home, keys=[armor(old)], expiry_warning="9d"))
        assert not host.notes
        converge(Keyring(name=home, keys=[armor(old)], expiry_warning="11d"))
        assert host.notes

    def test_a_renewed_one_is_not_told(self, maker: Maker, home: str, host: Host, converge: Converge) -> None:
        key = maker.key("New <new@example.org>", "110d")
        converge(Keyring(name=home, keys=[armor(maker.public(key))]))
        maker.gpg("--quick-set-expire", key, "2y", at=NOW - DAY)
        host.notes.clear()
        converge(Keyring(name=home, keys=[armor(maker.public(key))]))
        assert len(host.notes) == 1  # its subkey is still the old one
        maker.gpg("--quick-set-expire", key, "2y", "*", at=NOW - DAY)
        host.notes.clear()
        converge(Keyring(name=home, keys=[armor(maker.public(key))]))
        assert not host.notes

    def test_revoked(self, maker: Maker, home: str, host: Host, converge: Converge) -> None:
        key = maker.key("Rev <rev@example.org>")
        content = maker.revoked(key)
        assert converge(Keyring(name=home, keys=[armor(content, email="rev@example.org")])) is not None
        assert host.notes == [f"keyring:{home}: the key {key} (rev@example.org) was revoked by its owner"]


class TestTheHome:
    def test_modes_and_owner(self, home: str, maker: Maker, ann: str, converge: Converge) -> None:
        ring = Keyring(name=home, keys=[armor(maker.public(ann))])
        converge(ring)
        os.chmod(home, 0o755)
        os.chmod(f"{home}/pubring.kbx", 0o664)
        Path(home, "gpg.conf").write_text("")
        change = attributes(converge(ring))
        assert change == {"mode": ("0755", "0700"), "exposed": (["pubring.kbx"], [])}
        assert os.stat(f"{home}/pubring.kbx").st_mode & 0o777 == 0o600

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_another_owner(self, maker: Maker, ann: str, bob: str, converge: Converge, tmp_path: Path) -> None:
        base = Path("/var/tmp", f"sa-keyring-{os.getpid()}")  # the owner cannot come to the folders of pytest
        base.mkdir(mode=0o755)
        base.chmod(0o755)
        try:
            home = str(base / "gnupg")
            ring = Keyring(name=home, owner="nobody", keys=[armor(maker.public(ann), trust="full")])
            assert converge(ring) is not None
            assert {Path(home).owner(), *(path.owner() for path in Path(home).rglob("*"))} == {"nobody"}
            assert converge(ring) is None
            os.chown(f"{home}/pubring.kbx", 0, 0)
            os.chown(f"{home}/trustdb.gpg", 0, 0)
            assert attributes(converge(ring)) == {"exposed": (["pubring.kbx", "trustdb.gpg"], [])}
            assert attributes(converge(replace(ring, owner="root")))["owner"] == ("nobody", "root")
            assert converge(replace(ring, owner="root")) is None
            private = SecretText(("", "s", ""), lambda _name: maker.private(bob).decode())
            both = replace(ring, keys=[*ring.keys, {"armor": private, "secret": True}])
            assert converge(both) is not None
            assert {path.owner() for path in Path(home).rglob("*")} == {"nobody"}
            assert converge(both) is None
            assert not daemons(home)
        finally:
            shutil.rmtree(base)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as somebody else")
    @pytest.mark.parametrize("foreign", [True, False])
    def test_gpg_is_never_root_in_the_home_of_somebody_else(
        self, maker: Maker, ann: str, converge: Converge, host: Host, monkeypatch: pytest.MonkeyPatch, *, foreign: bool
    ) -> None:
        """Who can write to it says there what gpg starts: `keyboxd-program` in common.conf."""
        with tempfile.TemporaryDirectory(dir="/var/tmp") as base:  # the owner cannot come to the folders of pytest
            os.chmod(base, 0o755)
            home = Path(base, "gnupg")
            ring = Keyring(name=str(home), owner="nobody", keys=[armor(maker.public(ann))])
            converge(ring)
            database = home / "public-keys.d" / "pubring.db"
            database.parent.mkdir()
            database.touch(0o644)
            for path in (database.parent, database):
                os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
            if foreign:
                os.chown(home / "pubring.kbx", 0, 0)
            started: list[tuple[str, str | None]] = []
            real = gnupg.run

            def spied(command: Sequence[str], **options: Any) -> Any:
                started.append((command[0], options.get("user")))
                return real(command, **options)

            monkeypatch.setattr(gnupg, "run", spied)
            monkeypatch.setattr(gnupg, "observe", spied)
            host.forget()
            assert ann in host.gnupg.keys(str(home))
            assert "gpg" in {program for program, _ in started}
            assert ann in gnupg.listed(str(home))
            assert {user for _, user in started} == {"nobody"}

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_what_is_renamed_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder of the home becomes a link to where files of the same names are not the owner's."""
        folder, elsewhere = tmp_path / "gnupg" / "keys", tmp_path / "elsewhere"
        for place in (folder, elsewhere):
            place.mkdir(parents=True)
            (place / "shadow").touch(0o644)
        is_exposed = home_module._is_exposed

        def swapped(status: os.stat_result, uid: int) -> bool:
            if stat.S_ISREG(status.st_mode):
                folder.rename(tmp_path / "gnupg" / "before")
                folder.symlink_to(elsewhere)
            return is_exposed(status, uid)

        monkeypatch.setattr(home_module, "_is_exposed", swapped)
        home_module.make_private(str(tmp_path / "gnupg"), "nobody")
        assert folder.is_symlink()
        assert (elsewhere / "shadow").owner() == "root"
        assert (tmp_path / "gnupg" / "before" / "shadow").owner() == "nobody"

    def test_an_owner_that_is_not_there(self, home: str, host: Host) -> None:
        os.mkdir(home)
        with pytest.raises(Missing, match="user sa-nobody does not exist"):
            Keyring(name=home, owner="sa-nobody").read(host)

    def test_no_folder_for_it(self, tmp_path: Path, host: Host) -> None:
        with pytest.raises(Missing):
            Keyring(name=f"{tmp_path}/no/gnupg").read(host)

    def test_a_file_in_its_place(self, home: str, host: Host) -> None:
        Path(home).write_text("")
        with pytest.raises(ResourceError, match="is a file"):
            Keyring(name=home).read(host)

    def test_reading_changes_nothing(self, home: str, maker: Maker, ann: str, host: Host) -> None:
        os.mkdir(home, 0o700)
        ring = Keyring(name=home, keys=[armor(maker.public(ann), trust="full")])
        ring.read(host)
        assert os.listdir(home) == []
        subprocess.run(
            ["gpg", "--homedir", home, "--batch", "--import"], input=maker.public(ann), check=True, capture_output=True
        )
        os.unlink(f"{home}/trustdb.gpg")
        before = {path.name: path.stat().st_mtime_ns for path in Path(home).iterdir()}
        host.forget()
        ring.read(host)
        assert {path.name: path.stat().st_mtime_ns for path in Path(home).iterdir()} == before

    def test_absent(self, home: str, maker: Maker, ann: str, converge: Converge) -> None:
        assert converge(Keyring(name=home, ensure="absent")) is None
        converge(Keyring(name=home, keys=[armor(maker.public(ann))]))
        assert converge(Keyring(name=home, ensure="absent")) is not None
        assert not os.path.exists(home)

    def test_undo(self, home: str, maker: Maker, ann: str, bob: str, host: Host, converge: Converge) -> None:
        ring = Keyring(name=home, keys=[armor(maker.public(ann), trust="full")])
        before = ring.read(host)
        converge(ring)
        ring.undo(host, before)
        assert not os.path.exists(home)
        converge(ring)
        more = replace(ring, keys=[armor(maker.public(ann), trust="never"), armor(maker.public(bob))])
        host.forget()
        before = more.read(host)
        converge(more)
        more.undo(host, before)
        assert listed(home) == {ann: "f"}
        only = replace(ring, keys=[armor(maker.public(bob))], exclusive=True)
        host.forget()
        before = only.read(host)
        converge(only)
        with pytest.raises(ResourceError, match="were not kept"):
            only.undo(host, before)

    def test_it_comes_after_its_user_and_is_never_purged(self, home: str) -> None:
        ring = Keyring(name=home, owner="gpgit")
        assert list(ring.implied_requires()) == ["user:gpgit"]
        assert f"{home}/" in ring.paths()


def test_a_thousand_keys_cost_one_reading(home: str, maker: Maker, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    distinct = 100
    spec = (
        "%no-protection\nKey-Type: eddsa\nKey-Curve: ed25519\nName-Email: many{}@example.org\nExpire-Date: 0\n%commit\n"
    )
    maker.gpg("--generate-key", stdin="".join(spec.format(number) for number in range(distinct)).encode())
    blocks = [block.data for block in key_blocks(maker.gpg("--export", "many"))]
    copies = [blocks[number % distinct] for number in range(1000)]
    started: list[str] = []

    def counted(real: Any, command: Any, **options: Any) -> Any:
        started.append(" ".join(command))
        return real(command, **options)

    for name in ("run", "observe"):
        monkeypatch.setattr(gnupg, name, functools.partial(counted, getattr(gnupg, name)))
    paths = []
    for number, block in enumerate(copies):
        path = Path(home).parent / f"{number}.pgp"
        path.write_bytes(block)
        paths.append({"file": str(path), "trust": "full"})
    ring = Keyring(name=home, keys=paths, exclusive=True)
    change = differences(ring.read(host), ring.desired(host))
    assert change
    assert [command for command in started if "--show-keys" in command] == started
    assert len(started) == 1
    ring.apply(host, change)
    host.forget()
    started.clear()
    assert differences(ring.read(host), ring.desired(host)) is None
    assert len(started) == 1
    assert "--list-keys" in started[0]
    assert set(listed(home).values()) == {"f"}
    assert len(listed(home)) == distinct


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "one of file, armor and fingerprint is needed"),
        ({"file": "a", "armor": "b"}, "only one of file and armor"),
        ({"file": "a", "trst": "full"}, '"trst" is no key of it; did you mean "trust"?'),
        ({"file": "a", "trust": "complete"}, '"complete" is no trust'),
        ({"file": "a", "email": "ann"}, "is not a mail address"),
        ({"file": "a", "secret": "yes"}, "secret must be true or false"),
        ({"file": 1}, "file must be a string"),
        ({"fingerprint": "DEADBEEF"}, "is not a fingerprint: 40"),
        ({"armor": "-----BEGIN PGP PRIVATE KEY BLOCK-----"}, "make it a secret"),
    ],
)
def test_problems_of_a_table(table: dict[str, Any], said: str) -> None:
    (problem,) = validated("keyring", {"name": "/home/x/.gnupg", "keys": [table]}, set())
    assert said in problem.message
    assert problem.path == ("keys", 0)


def test_problems() -> None:
    assert not list(Keyring(name="/g", keys=[{"fingerprint": "A" * 40}]).problems())
    twice = Keyring(name="/g", keys=[{"fingerprint": "A" * 40}, {"fingerprint": "A" * 40}])
    assert list(twice.problems()) == [f"keys: {'A' * 40} is declared twice"]
    assert list(Keyring(name="/g", ensure="absent", exclusive=True).problems())


def test_files_beside_the_declaration(tmp_path: Path, maker: Maker, ann: str) -> None:
    from agent.declaration.compile import compile_site
    from agent.errors import DeclarationError

    (tmp_path / "ann.asc").write_bytes(maker.public(ann))
    site = tmp_path / "site.toml"
    site.write_text('[keyring."/srv/gnupg"]\nkeys = [{ file = "ann.asc", trust = "full" }]\n')
    desired, _, _ = compile_site(site, None)
    (entry,) = desired.entries
    assert isinstance(entry.resource, Keyring)
    assert entry.resource.keys == [{"file": str(tmp_path / "ann.asc"), "trust": "full"}]
    site.write_text('[keyring."/srv/gnupg"]\nkeys = [{ file = "bob.asc", trust = "full" }]\n')
    with pytest.raises(DeclarationError, match=r"there is no file .*bob\.asc"):
        compile_site(site, None)


def test_fingerprints_are_those_of_gpg(maker: Maker, ann: str, bob: str) -> None:
    blocks = key_blocks(maker.public(ann) + maker.public(bob))
    assert [block.fingerprint for block in blocks] == [ann, bob]
