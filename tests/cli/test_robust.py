"""Whatever goes wrong with one resource is that resource's error: the others go on, and what is said stays short."""

from __future__ import annotations

import os

from sitefolder import ROOT, SiteFolder

ODD = """
[command.missing]
run = ["there-is-no-such-program"]
[command.folder]
run = ["HOST"]
[command.no-interpreter]
run = ["HOST/no-interpreter"]
[command.killed]
run = ["sh", "-c", "kill -9 $$"]
[command.slow]
run = ["sh", "-c", "sleep 30 & sleep 30"]
timeout = "300ms"
[command.talkative]
run = ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\\\0' x; exit 1"]
[command.nowhere]
run = ["true"]
cwd = "HOST/nowhere"
[command.nobody]
run = ["true"]
user = "nosuchuser"
[file."HOST/fifo"]
content = "x"
[file."/proc/state-agent-test"]
content = "x"
[file."HOST/no-interpreter/below"]
content = "x"
[link."HOST/no-interpreter"]
target = "x"
[file."HOST/owned"]
content = "x"
owner = "nosuchuser"
[block."HOST/fifo2#x"]
content = "x"
[file."HOST/fine"]
content = "x"
"""


def test_odd_things_fail_alone(site: SiteFolder) -> None:
    site.write("site.toml", ODD)
    os.mkfifo(site.host / "fifo")
    os.mkfifo(site.host / "fifo2")
    (site.host / "no-interpreter").write_text("neither script nor program\n")
    (site.host / "no-interpreter").chmod(0o755)
    assert site.run("apply", "--check").code == 1
    result = site.run("apply", "--json")
    assert result.code == 1
    good = [row["id"] for row in result.json["resources"] if row["outcome"] == "added"]
    assert good == [f"file:{site.host}/fine"]
    errors = {row["id"]: row["error"] for row in result.json["resources"] if row["outcome"] == "failed"}
    assert "Exec format error" in errors["command:no-interpreter"]
    assert "did not end within 0.3 s" in errors["command:slow"]
    assert "is not installed" in errors["command:missing"]
    assert "special file" in errors[f"file:{site.host}/fifo"]
    assert all("Traceback" not in error and "internal error" not in error for error in errors.values())
    assert len(errors["command:talkative"]) < 2000
    assert len(result.out) < 50_000
    assert len(site.run("log", "1").out) < 50_000
    assert {"fifo", "fifo2"} <= {path.name for path in site.host.iterdir()}


def test_programs_are_named_so_that_they_can_be_tried(site: SiteFolder) -> None:
    (site.host / "plain").touch()
    site.write(
        "site.toml",
        """
[command.fails]
run = ["sh", "-c", "exit 3"]
creates = "HOST/x"
[command.nowhere]
run = ["HOST/nowhere"]
[command.plain]
run = ["HOST/plain"]
""",
    )
    errors = {row["id"]: row["error"] for row in site.run("apply", "--json").json["resources"]}
    assert errors == {
        "command:fails": "sh -c 'exit 3': exit status 3",
        "command:nowhere": f"the program {site.host}/nowhere does not exist",
        "command:plain": f"the program {site.host}/plain is not an executable file",
    }


def test_a_bug_in_a_kind_is_its_resources_error(site: SiteFolder) -> None:
    """What nobody thought of is made to happen by a broken interpreter start-up file."""
    site.write(
        "broken/sitecustomize.py",
        "import agent.resources.link as link\n\n\ndef broken(*_):\n    raise ZeroDivisionError('of all things')\n\n\n"
        "link.Link.apply = broken\n",
    )
    site.write("site.toml", '[link."HOST/l"]\ntarget = "x"\n[file."HOST/fine"]\ncontent = "x"\n')
    site.environ["PYTHONPATH"] = f"{site.path}/broken:{ROOT}"
    result = site.run("apply", "--json", "--quiet")
    assert result.code == 1
    row = result.resource(f"link:{site.host}/l")
    assert row["outcome"] == "failed"
    assert "internal error: ZeroDivisionError: of all things" in row["error"]
    assert (site.host / "fine").exists()
