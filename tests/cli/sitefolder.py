"""The command from outside: a site in a throw-away folder, and `agent` run on it as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout, which has to be one JSON document."""
        return json.loads(self.out)

    @property
    def problems(self) -> list[dict[str, Any]]:
        """The problems of a site that `--json` lists."""
        found: list[dict[str, Any]] = self.json["problems"]
        return found

    @property
    def text(self) -> str:
        """All that it wrote."""
        return self.out + self.err

    def resource(self, id: str) -> dict[str, Any]:
        """One row of the resources that `--json` lists."""
        rows = [row for row in self.json["resources"] if row["id"] == id]
        assert len(rows) == 1, f"{len(rows)} rows for {id} in {[row['id'] for row in self.json['resources']]}"
        return dict(rows[0])

    @property
    def ids(self) -> list[str]:
        """The ids of the resources that `--json` lists, in its order."""
        return [row["id"] for row in self.json["resources"]]


@dataclass
class SiteFolder:
    """A site's folder (`path`), a folder for what it declares (`host`), and one for what the agent keeps (`state`)."""

    path: Path
    host: Path
    state: Path
    environ: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file of the site; `HOST` in a text stands for the folder of what it declares."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = content.replace("HOST", str(self.host)).encode()
        path.write_bytes(content)
        return path

    def files(self, files: Mapping[str, str | bytes]) -> SiteFolder:
        """Write several files."""
        for name, content in files.items():
            self.write(name, content)
        return self

    def run(self, *words: str, site: str | None = "site.toml", cwd: Path | None = None, stdin: str = "") -> Result:
        """Run `agent` with these words; `site` is what follows --site, relative to the site's folder."""
        where = [] if site is None else ["--site", str(self.path / site)]
        environ = {
            **{key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "CREDENTIALS_DIRECTORY")},
            "PYTHONPATH": str(ROOT),
            "AGENT_STATE_DIR": str(self.state),
            **self.environ,
        }
        ended = subprocess.run(
            [sys.executable, "-m", "agent", *words, *where],
            input=stdin, capture_output=True, encoding="utf-8", errors="replace", env=environ,
            cwd=cwd or self.path, timeout=120, check=False,
        )  # fmt: skip
        assert "Traceback" not in ended.stderr, ended.stderr
        assert "internal error" not in ended.stderr, ended.stderr
        return Result(ended.returncode, ended.stdout, ended.stderr)

    def wrong(self, *words: str, **options: Any) -> list[dict[str, Any]]:
        """Validate a site that is wrong (exit status 3); gives its problems."""
        result = self.run("validate", "--json", *words, **options)
        assert result.code == 3, f"exit status {result.code}: {result.text}"
        return result.problems

    def valid(self) -> Result:
        """Validate a site that is right."""
        result = self.run("validate", "--json")
        assert result.code == 0, result.text
        return result

    def shown(self, *targets: str) -> Result:
        """`agent show --json` of a site that is right."""
        result = self.run("show", "--json", *targets)
        assert result.code == 0, result.text
        return result

    def fields(self, id: str) -> dict[str, Any]:
        """The fields of one resource, as `agent show` gives them."""
        return dict(self.shown().resource(id)["fields"])
