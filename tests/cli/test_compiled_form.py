"""The compiled form: believed only while it is true and this user's own; never needed; holds no secret."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.declaration.compiled import load

if TYPE_CHECKING:
    from sitefolder import SiteFolder

SITE = """
[site]
states = ["s"]
include = ["conf.d/*.toml"]
[secrets.k]
file = "k"
[file."/etc/a"]
content = "{{ secrets.k }} {{ facts.arch }}"
[file."/etc/source"]
source = "source"
"""


@pytest.fixture
def compiled(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> SiteFolder:
    """A site that was compiled once."""
    site.files({
        "site.toml": SITE, "source": "x", "conf.d/1.toml": '[command.one]\nrun = ["true"]\n',
        "shipped/s/state.toml": '[file."/etc/t"]\ntemplate = "t"\n', "shipped/s/t": "{% include 'part' %}",
        "shipped/s/part": "part",
    })  # fmt: skip
    assert not used(site), "there is none yet"
    assert used(site)
    return site


def used(site: SiteFolder) -> bool:
    """Whether the site is loaded from its compiled form; compiles it where not."""
    import agent.declaration.compile as module

    called = []
    original = module.compile_site

    def counted(*arguments: Path) -> object:
        called.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    module.compile_site = counted  # type: ignore[assignment]
    try:
        load(site.path / "site.toml", site.path / "shipped", site.state)
    finally:
        module.compile_site = original
    return not called


def form(site: SiteFolder) -> Path:
    (path,) = (site.state / "compiled").iterdir()
    return path


def test_it_says_the_same_and_is_for_this_user_alone(compiled: SiteFolder) -> None:
    once = load(compiled.path / "site.toml", compiled.path / "shipped", compiled.state)
    form(compiled).unlink()
    again = load(compiled.path / "site.toml", compiled.path / "shipped", compiled.state)
    assert [(each.id, each.source, each.requires, each.implied, each.state) for each in once.entries] == [
        (each.id, each.source, each.requires, each.implied, each.state) for each in again.entries
    ]
    assert [each.resource for each in once.entries] == [each.resource for each in again.entries]
    assert (once.fingerprint, once.states, once.users, once.sources) == (
        again.fingerprint, again.states, again.users, again.sources
    )  # fmt: skip
    assert form(compiled).stat().st_mode & 0o777 == 0o600
    assert form(compiled).parent.stat().st_mode & 0o777 == 0o700
    assert compiled.state.stat().st_mode & 0o777 == 0o700


def test_it_is_not_believed_once_anything_that_it_was_made_from_changed(compiled: SiteFolder) -> None:
    def add(name: str, content: str) -> None:
        with compiled.write(name, (compiled.path / name).read_bytes()).open("a") as file:
            file.write(content)

    changes = [
        lambda: add("site.toml", "# more\n"),
        lambda: add("conf.d/1.toml", "# more\n"),
        lambda: compiled.write("conf.d/2.toml", ""),
        lambda: (compiled.path / "conf.d/2.toml").unlink(),
        lambda: add("shipped/s/state.toml", "# more\n"),
        lambda: add("shipped/s/t", " more"),
        lambda: add("shipped/s/part", " more"),
        lambda: compiled.files({"states/s/state.toml": '[file."/etc/t"]\ntemplate = "t"\n', "states/s/t": "x"}),
        lambda: (compiled.path / "states/s/state.toml").unlink(),
    ]
    for number, change in enumerate(changes):
        assert used(compiled), number
        change()
        assert not used(compiled), number
    (compiled.path / "source").unlink()
    with pytest.raises(Exception, match="1 error in the declarations"):
        used(compiled)


def test_it_is_not_believed_once_facts_or_the_program_changed(
    compiled: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import agent
    from agent.facts import FACTS

    with monkeypatch.context() as patch:
        patch.setitem(FACTS, "arch", ("", lambda: "vax"))
        assert not used(compiled)
        assert used(compiled)
        patch.setitem(FACTS, "cpus", ("", lambda: 77))
        assert used(compiled), "a fact that was not used"
    assert not used(compiled)
    with monkeypatch.context() as patch:
        patch.setattr(agent, "__version__", "0")
        assert not used(compiled)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version", "another")
        assert not used(compiled)


def test_it_is_not_believed_where_it_is_damaged_or_of_somebody_else(compiled: SiteFolder) -> None:
    path = form(compiled)
    whole = path.read_bytes()
    damaged = (b"", b"x", whole[:40], whole[:-1], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], b"\0" * len(whole))
    for content in damaged:
        path.write_bytes(content)
        assert not used(compiled)
        assert used(compiled), "it was made anew"
    for mode in (0o640, 0o604, 0o620, 0o602):
        path.chmod(mode)
        assert not used(compiled), oct(mode)
    other = compiled.host / "other"
    os.rename(path, other)
    path.symlink_to(other)
    assert not used(compiled)
    assert not path.is_symlink()
    for make in (path.mkdir, lambda: os.mkfifo(path)):
        path.unlink()
        make()
        assert not used(compiled)
        if path.is_dir():
            assert not used(compiled)
            path.rmdir()
            assert not used(compiled)
    if os.geteuid() == 0:
        assert used(compiled)
        os.chown(path, 65534, -1)
        assert not used(compiled)


def test_that_of_another_site_or_another_version_is_not_believed(compiled: SiteFolder) -> None:
    import hashlib
    import marshal

    content = form(compiled).read_bytes()
    other = compiled.path / "other"
    other.mkdir()
    (other / "site.toml").write_text("")
    path = compiled.state / "compiled" / hashlib.blake2b(str(other / "site.toml").encode(), digest_size=8).hexdigest()
    for payload in (None, marshal.dumps(1), marshal.dumps((1, 2)), marshal.dumps((1, 2, 3, 4)), b"\xff"):
        digest = hashlib.blake2b(payload or b"", digest_size=32).digest()
        path.write_bytes(content if payload is None else digest + payload)
        path.chmod(0o600)
        assert not load(other / "site.toml", None, compiled.state).entries


def test_it_holds_no_secret_and_the_new_value_is_used(compiled: SiteFolder) -> None:
    for value in ("c4n4ry-1", "c4n4ry-2"):
        compiled.write("k", value)
        assert used(compiled)
        desired = load(compiled.path / "site.toml", compiled.path / "shipped", compiled.state)
        resource = next(each.resource for each in desired.entries if each.id == "file:/etc/a")
        assert resource.content.reveal().startswith(value + " ")  # type: ignore[attr-defined]
        assert value.encode() not in form(compiled).read_bytes()


def test_it_is_never_needed(site: SiteFolder) -> None:
    site.write("site.toml", '[values]\nday = 2020-01-01\n[command.x]\nrun = ["{{ day }}"]\n')
    assert site.fields("command:x")["run"] == ["2020-01-01"]
    site.write("site.toml", '[command.x]\nrun = ["true"]\n')
    shutil.rmtree(site.state / "compiled")
    (site.state / "compiled").write_text("a file where the folder should be")
    assert site.shown().ids == ["command:x"]
    before = {path: path.stat().st_mtime_ns for path in site.path.rglob("*")}
    assert site.run("show", "--state-dir", "/proc/nowhere").code == 0
    assert {path: path.stat().st_mtime_ns for path in site.path.rglob("*")} == before


def test_many_at_once(site: SiteFolder) -> None:
    site.write("site.toml", '[file."/etc/{{ item }}"]\nfor_each = "{{ range(300) }}"\ncontent = "x"\n')
    environ = {**os.environ, "AGENT_STATE_DIR": str(site.state), "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-m", "agent", "show", "--json", "--site", str(site.path)]
    running = [subprocess.Popen(words, env=environ, stdout=-1, stderr=-1, text=True) for _ in range(6)]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert len(json.loads(out)["resources"]) == 300
    assert len(list((site.state / "compiled").iterdir())) == 1, "no temporary file is left"
