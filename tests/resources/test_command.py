"""The kind `command`: guards, once, refresh; real programs."""

from __future__ import annotations

import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import CommandFailed, Missing
from agent.host import Host
from agent.resource import differences
from agent.resources.command import Command

if TYPE_CHECKING:
    from tests.resources.conftest import Converge


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file in which each run leaves a line."""
    log = tmp_path / "log"
    log.touch()
    return log


def command(log: Path, script: str = "true", **fields: Any) -> Command:
    return Command(name="test", run=["sh", "-c", f"echo ran >> {log}; {script}"], **fields)


def runs(log: Path) -> int:
    return log.read_text().count("ran\n")


class TestGuards:
    def test_creates(self, log: Path, tmp_path: Path, converge: Converge) -> None:
        made = tmp_path / "made"
        one = command(log, f"touch {made}", creates=str(made))
        change = converge(one)
        assert change and change.attributes[0].attribute == "creates"
        assert (change.attributes[0].actual, change.attributes[0].desired) == ("missing", str(made))
        assert converge(one) is None
        made.unlink()
        made.symlink_to("nowhere")
        assert converge(one) is None
        assert runs(log) == 1
        assert list(one.paths()) == [str(made)]

    def test_creates_that_is_not_created_stays_a_difference(self, log: Path, host: Host) -> None:
        one = command(log, creates="/nonexistent/path")
        change = differences(one.read(host), one.desired(host))
        assert change
        one.apply(host, change)
        left = differences(one.read(host), one.desired(host))
        assert left and left.attributes[0].actual == "missing"
        assert left.attributes[0].desired == "/nonexistent/path"

    def test_unless(self, log: Path, converge: Converge) -> None:
        one = command(log, unless=["grep", "-q", "ran", str(log)])
        change = converge(one)
        assert change and change.attributes[0].actual == "exit status 1"
        assert converge(one) is None
        assert runs(log) == 1

    def test_unless_that_still_fails_stays_a_difference(self, log: Path, host: Host) -> None:
        one = command(log, unless=["sh", "-c", "exit 7"])
        change = differences(one.read(host), one.desired(host))
        assert change
        one.apply(host, change)
        left = differences(one.read(host), one.desired(host))
        assert left and (left.attributes[0].actual, left.attributes[0].desired) == ("exit status 7", "exit status 0")

    def test_only_if_alone_runs_once_in_each_run(self, log: Path, converge: Converge, host: Host) -> None:
        one = command(log, only_if=["true"])
        assert converge(one) is not None
        assert converge(one) is None
        host.done.clear()
        assert converge(one) is not None
        host.done.clear()
        assert converge(command(log, only_if=["false"])) is None
        assert runs(log) == 2

    @pytest.mark.parametrize(("there", "unless", "only_if"), list(product([True, False], [0, 1], [0, 1])))
    def test_together(self, *, log: Path, tmp_path: Path, host: Host, there: bool, unless: int, only_if: int) -> None:
        one = command(
            log,
            creates=str(tmp_path) if there else str(tmp_path / "no"),
            unless=["sh", "-c", f"exit {unless}"],
            only_if=["sh", "-c", f"exit {only_if}"],
        )
        change = differences(one.read(host), one.desired(host))
        assert (change is not None) == (not there and unless == 1 and only_if == 0)

    def test_a_signal_is_not_success(self, log: Path, host: Host) -> None:
        one = command(log, unless=["sh", "-c", "kill -9 $$"])
        assert differences(one.read(host), one.desired(host))

    def test_reading_never_runs_it(self, log: Path, host: Host) -> None:
        for one in (command(log), command(log, unless=["false"]), command(log, refresh_on=["file:/x"])):
            one.read(host)
            one.desired(host)
        assert runs(log) == 0


class TestOnce:
    def test_it_runs_once_for_each_declaration(self, log: Path, converge: Converge) -> None:
        kept: dict[str, Any] = {}
        host = Host(last_set=kept.get)

        def one_run(one: Command) -> bool:
            host.done.clear()
            change = differences(one.read(host), one.desired(host))
            if change is not None:
                one.apply(host, change)
                assert differences(one.read(host), one.desired(host)) is None
                kept[one.id] = one.desired(host)
            return change is not None

        assert one_run(command(log))
        assert not one_run(command(log))
        assert one_run(command(log, env={"A": "b"}))
        assert one_run(command(log, "true; true"))
        assert not one_run(command(log, "true; true", timeout="1s"))
        assert runs(log) == 3

    def test_what_failed_runs_again(self, log: Path, host: Host) -> None:
        one = command(log, "exit 3")
        for _ in range(2):
            change = differences(one.read(host), one.desired(host))
            assert change and change.actual is None
            with pytest.raises(CommandFailed, match="exit status 3"):
                one.apply(host, change)
        assert runs(log) == 2


class TestRefresh:
    def test_only_then(self, log: Path, host: Host) -> None:
        one = command(log, refresh_on=["file:/x"])
        assert differences(one.read(host), one.desired(host)) is None
        assert (one.listens_to(), one.refresh_action(["file:/x"])) == (["file:/x"], "run")
        one.refresh(host, ["file:/x"])
        one.refresh(host, ["file:/x"])
        assert runs(log) == 2

    def test_guards_are_asked(self, log: Path, tmp_path: Path, host: Host) -> None:
        one = command(log, f"touch {tmp_path}/made", creates=f"{tmp_path}/made", refresh_on=["file:/x"])
        assert differences(one.read(host), one.desired(host)) is None
        one.refresh(host, [])
        one.refresh(host, [])
        assert runs(log) == 1

    def test_a_failure(self, log: Path, host: Host) -> None:
        with pytest.raises(CommandFailed):
            command(log, "exit 1", refresh_on=["file:/x"]).refresh(host, [])


class TestMissing:
    @pytest.mark.parametrize(
        "fields",
        [
            {"run": ["no-such-program"]},
            {"run": ["no-such-program"], "creates": "/nonexistent"},
            {"run": ["no-such-program"], "unless": ["false"]},
            {"run": ["true"], "unless": ["no-such-program"]},
            {"run": ["true"], "only_if": ["no-such-program"]},
            {"run": ["/no/such/program"]},
        ],
    )
    def test_programs_are_known_after_apply(self, host: Host, fields: dict[str, Any]) -> None:
        with pytest.raises(Missing, match=r"not installed|does not exist"):
            Command(name="x", **fields).read(host)

    def test_no_need_for_it(self, host: Host) -> None:
        assert Command(name="x", run=["no-such-program"], creates="/").read(host)

    def test_folder_and_user(self, host: Host) -> None:
        with pytest.raises(Missing, match="/no/such/folder"):
            Command(name="x", run=["true"], unless=["false"], cwd="/no/such/folder").read(host)
        with pytest.raises(Missing, match="no-such-user"):
            Command(name="x", run=["true"], unless=["false"], user="no-such-user").read(host)


class TestSurroundings:
    def test_user_folder_and_environment(self, tmp_path: Path, host: Host) -> None:
        out = tmp_path / "out"
        out.touch()
        out.chmod(0o666)
        for above in (tmp_path, *tmp_path.parents):
            if above != Path("/tmp") and above.is_relative_to("/tmp"):
                above.chmod(0o755)
        script = f'printf "%s " "$(id -un)" "$PWD" "$A" "$LC_ALL" "$HOME" > {out}'
        one = Command(name="x", run=["sh", "-c", script], user="daemon", cwd=str(tmp_path), env={"A": "b c"})
        one.refresh(host, [])
        assert out.read_text() == f"daemon {tmp_path} b c C.UTF-8 /usr/sbin "
        needs = ["user:daemon", f"directory:{tmp_path}", f"link:{tmp_path}", f"gocryptfs:{tmp_path}"]
        assert list(one.implied_requires()) == needs

    def test_a_program_in_its_folder(self, tmp_path: Path, converge: Converge) -> None:
        (tmp_path / "script").write_text("#!/bin/sh\ntouch made\n")
        (tmp_path / "script").chmod(0o755)
        converge(Command(name="x", run=["./script"], cwd=str(tmp_path), creates=str(tmp_path / "made")))

    def test_arguments_are_not_read_by_a_shell(self, tmp_path: Path, converge: Converge) -> None:
        made = str(tmp_path / "$(id) * ;x")
        one = Command(name="x", run=["touch", made], creates=made)
        change = converge(one)
        assert change and one.summary(Host(), change) == f"touch '{made}'"

    def test_no_input(self, host: Host) -> None:
        Command(name="x", run=["cat"], timeout="5s").refresh(host, [])

    def test_the_time_limit_ends_all_it_started(self, tmp_path: Path, host: Host) -> None:
        pids = tmp_path / "pids"
        one = Command(name="x", run=["sh", "-c", f"sleep 60 & echo $! > {pids}; sleep 60"], timeout="300ms")
        with pytest.raises(CommandFailed, match=r"within 0\.3 s"):
            one.refresh(host, [])
        time.sleep(0.1)
        stat = Path("/proc", pids.read_text().strip(), "stat")
        assert not stat.exists() or stat.read_text().split()[2] == "Z"

    def test_failures_show_the_end_of_stderr(self, host: Host) -> None:
        one = Command(name="x", run=["sh", "-c", "seq 100 >&2; exit 9"])
        with pytest.raises(CommandFailed, match=r"sh -c .*seq 100.*exit status 9") as caught:
            one.refresh(host, [])
        assert caught.value.detail.endswith("\n99\n100") and "\n50\n" not in caught.value.detail

    def test_sensitive_shows_nothing(self, host: Host) -> None:
        script = ["sh", "-c", "echo canary-42; echo canary-42 >&2; exit 9"]
        one = Command(name="x", run=script, unless=script, sensitive=True)
        change = differences(one.read(host), one.desired(host))
        assert change and "canary" not in repr(change) and one.summary(host, change) == ""
        with pytest.raises(CommandFailed) as caught:
            one.apply(host, change)
        assert "canary" not in str(caught.value)
        slow = Command(name="x", run=["sh", "-c", "sleep 9; echo canary"], timeout="100ms", sensitive=True)
        with pytest.raises(CommandFailed) as caught:
            slow.refresh(host, [])
        assert "canary" not in str(caught.value)


def test_problems() -> None:
    assert not list(Command(name="x", run=["a"], env={"A": ""}).problems())
    assert not list(Command(name="x", run=["./a"], cwd="/").problems())
    assert list(Command(name="x", run=["./a"]).problems())
    assert list(Command(name="x", run=["a"], unless=["bin/b"]).problems())
    for name in ("", "A=B", "A\0"):
        assert list(Command(name="x", run=["a"], env={name: "x"}).problems())
