"""The pure parts of the comparison with other tools: declarations, what dry runs say, the table."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

import report
import tools

CONTENT, FILE_MODE = tools.path_of(50), tools.path_of(99)
SAID = {
    "state-agent": f"+ apt:nano      install 8.4-1\n~ file:{CONTENT}  site.toml:9\n    content\n      -x\n"
    f"~ file:{FILE_MODE}\n    mode     0600 → 0644\n~ service:cron  start\n\n1 to add, 3 to change\n",
    "CFEngine": f" warning: Should update file '{CONTENT}' with content 'a\n'\n warning: Should change permissions of "
    f"'{FILE_MODE}' from 0600 to 0644\n warning: Should install repo type package: nano\n"
    " warning: Would execute script '/bin/systemctl --no-ask-password --global --system -q start cron'\n\n",
    "Puppet": "Notice: Compiled catalog for bench in environment production in 0.27 seconds\n"
    "Notice: /Stage[main]/Main/Package[nano]/ensure: created (noop)\n"
    "Notice: /Stage[main]/Main/Service[cron]/ensure: ensure changed 'stopped' to 'running' (noop)\n"
    f"Notice: /Stage[main]/Main/File[{CONTENT}]/content: content changed '{{sha256}}75' to '{{sha256}}cb' (noop)\n"
    f"Notice: /Stage[main]/Main/File[{FILE_MODE}]/mode: mode changed '0600' to '0644' (noop)\n"
    "Notice: Class[Main]: Would have triggered 'refresh' from 4 events\n",
    "Salt": "local:\n"
    + "".join(
        f"----------\n          ID: {id}\n    Function: x.y\n      Result: {result}\n     Comment: z\n"
        for id, result in (
            ("packages", None), ("cron", None), ("rsyslog", True), (CONTENT, None), (FILE_MODE, None), ("/x", False),
        )
    ),
    "Ansible": f"TASK [packages] ***\nchanged: [localhost]\n\nTASK [files] ***\nok: [localhost] => (item=/srv/x)\n"
    f"changed: [localhost] => (item={CONTENT})\nchanged: [localhost] => (item={FILE_MODE})\n\n"
    "TASK [services] ***\nchanged: [localhost] => (item=cron)\n\nlocalhost : ok=3    changed=3    failed=0\n",
    "pyinfra": f"    packages     1 (@local)   -    \n    cron         1 (@local)   -   \n    rsyslog   -   -\n"
    f"    {CONTENT}   1 (@local)   -  \n    {FILE_MODE}   1 (@local)   -  \n    /srv/x   -  -\n",
}  # fmt: skip


@pytest.mark.parametrize("tool", tools.TOOLS, ids=lambda tool: tool.name)
def test_what_a_dry_run_says(tool: tools.Tool) -> None:
    assert tool.differing(SAID[tool.name]) == {CONTENT, FILE_MODE, tool.told_packages, "cron"}
    assert tool.differing("") == set()


@pytest.mark.parametrize("tool", tools.TOOLS, ids=lambda tool: tool.name)
def test_a_declaration_names_everything(tool: tools.Tool, tmp_path: Path) -> None:
    tool.declare(3, tmp_path)
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    for word in (*map(tools.path_of, range(3)), *tools.PACKAGES, *tools.SERVICES, "option_29 = value 2-29"):
        assert word in text
    assert tools.path_of(3) not in text


def test_declared_content_is_that_of_the_file(tmp_path: Path) -> None:
    tools.StateAgent("state-agent").declare(2, tmp_path)
    site = tomllib.loads((tmp_path / "site.toml").read_text())
    assert site["file"][tools.path_of(1)]["content"] == tools.content_of(1)
    tools.Ansible("Ansible").declare(2, tmp_path)
    files = json.loads((tmp_path / "play.yml").read_text())[0]["tasks"][1]["loop"]
    assert files[1]["content"] == tools.content_of(1)


def test_the_table() -> None:
    rows = [
        {"tool": "state-agent", "files": 1000, "wall": 0.116, "cpu": 0.11, "memory": 27.2},
        {"tool": "CFEngine", "files": 1000, "wall": 1.22, "cpu": 1.2, "memory": 28.0},
        {"tool": "Salt", "files": 1000, "not_measured": "cannot be installed: no\nnetwork"},
    ]
    assert list(report.lines(rows))[2:] == [
        "| 1,000 | state-agent | 0.12 | 0.11 | 27 |  |  |  |",
        "| 1,000 | CFEngine | 1.22 | 1.20 | 28 | 0.095 | 0.092 | 0.971 |",
        "| 1,000 | Salt | not measured: cannot be installed: no |  |  |  |  |  |",
    ]


@pytest.mark.parametrize(("value", "shown"), [(0.0949, "0.09"), (12.34, "12.3"), (512.6, "513")])
def test_seconds(value: float, shown: str) -> None:
    assert report.seconds(value) == shown
