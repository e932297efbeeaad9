"""Inside the host of `tests/bench/watch`: others that keep files as declared, each at its shortest interval."""

from __future__ import annotations

import json
import random
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inside import apt, say, sh
from watch_cost import cost
from watch_world import FILES, Files, content, files

WHEELS = Path(__file__).parent / "wheels"
LIMIT = 90.0
Measured = tuple[list[float], dict[str, Any]]


class Peer:
    """One of them, with the units that it runs as; the first is the one whose cost counts."""

    name: str
    units: tuple[str, ...]

    def install(self) -> str:
        """Install it; gives its version."""
        raise NotImplementedError

    def begin(self, watched: Files) -> None:
        """Declare the files, bring them there, and let it stay."""
        raise NotImplementedError

    def damage(self, watched: Files, count: int) -> list[float]:
        raise NotImplementedError

    def measure(self, options: Mapping[str, Any]) -> Measured:
        watched = files(options["files"][0])
        for path in watched.things():
            mend(path)
        self.begin(watched)
        costs = cost(self.units[0], options["peer_idle"])
        taken = self.damage(watched, options["peer_damages"])
        return taken, {**costs, "lost": options["peer_damages"] - len(taken)}

    def stay(self, unit: str, *command: str) -> None:
        """Run it as a service."""
        sh("systemd-run", "--quiet", f"--unit={unit}", "--", *command)

    def stop(self) -> None:
        subprocess.run(["systemctl", "stop", *self.units], check=False, capture_output=True)


class Salt(Peer):
    """A master and a minion on this host, with the beacon and the reactor of Salt's own documentation."""

    name = "Salt"
    units = ("bench-salt-minion.service", "bench-salt-master.service")
    folder, programs = Path("/srv/salt-bench"), "/opt/salt-watch/bin"

    def install(self) -> str:
        sh("python3", "-m", "venv", "/opt/salt-watch")
        pip = (f"{self.programs}/pip", "install", "-q", "--no-index", "--find-links", str(WHEELS))
        sh(*pip, "salt", "pyinotify", "pyasyncore")
        return sh(f"{self.programs}/salt-minion", "--version").strip()

    def begin(self, watched: Files) -> None:
        states = self.folder / "states"
        states.mkdir(parents=True)
        with (states / "watched.sls").open("w") as sls:
            for path in watched.things():
                text = content(path).replace("\n", "\n        ").rstrip(" ")
                sls.write(f"{path}:\n  file.managed:\n    - mode: '0644'\n    - contents: |\n        {text}")
        common = {"root_dir": str(self.folder), "user": "root", "interface": "127.0.0.1"}
        reactor = [{"salt/beacon/bench/inotify/*": [str(self.folder / "mend.sls")]}]
        master = {"auto_accept": True, "file_roots": {"base": [str(states)]}, "reactor": reactor, "worker_threads": 3}
        (self.folder / "mend.sls").write_text(
            "mend:\n  local.state.apply:\n    - tgt: bench\n    - arg:\n      - watched\n"
        )
        mask = ["modify", "attrib", "delete", "moved_to", "create"]
        beacon = [
            {"files": {FILES: {"mask": mask, "recurse": True, "auto_add": True}}},
            {"interval": 1},
            {"disable_during_state_run": True},
        ]
        minion = {"id": "bench", "master": "127.0.0.1", "loop_interval": 1, "beacons": {"inotify": beacon}}
        for name, settings in {"master": master, "minion": minion}.items():
            (self.folder / name).write_text(json.dumps(common | settings))  # JSON is YAML too
        self.stay("bench-salt-master", f"{self.programs}/salt-master", "-c", str(self.folder))
        self.stay("bench-salt-minion", f"{self.programs}/salt-minion", "-c", str(self.folder))
        deadline = time.monotonic() + 180
        while "True" not in self._ask("test.ping"):
            if time.monotonic() > deadline:
                raise RuntimeError("the minion does not answer")
        said = self._ask("state.apply", "watched")
        if not re.search(r"^Failed: +0$", said, re.MULTILINE):
            raise RuntimeError(f"state.apply: {said[-600:]}")

    def _ask(self, *words: str) -> str:
        command = [f"{self.programs}/salt", "-c", str(self.folder), "--no-color", "-t", "60", "bench", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def damage(self, watched: Files, count: int) -> list[float]:
        """One at a time; what it misses while it applies is left out of the times, and counted as lost."""
        chance, found = random.Random(1), list[float]()
        for path in chance.sample(watched.things(), count):
            try:
                found.append(watched.repaired_since(path, chance, LIMIT))
            except TimeoutError as error:
                say(f"Salt: {error}")
                mend(path)
                if not found:
                    raise
            time.sleep(chance.uniform(3, 4))  # until it has applied the rest, and its beacon is on again
        return found


class CFEngine(Peer):
    """cf-execd, which looks at its schedule once a minute, with a schedule that is always due."""

    name = "CFEngine"
    units = ("bench-cf-execd.service",)
    policy = Path("/var/lib/cfengine3/inputs/promises.cf")

    def install(self) -> str:
        apt("install", "cfengine3")
        sh("systemctl", "mask", "--now", "cfengine3", "cf-execd", "cf-serverd", "cf-monitord")
        subprocess.run(["cf-key"], check=False, capture_output=True)
        return sh("cf-agent", "--version").splitlines()[0]

    def begin(self, watched: Files) -> None:
        self.policy.parent.mkdir(parents=True, exist_ok=True)
        with self.policy.open("w") as policy:
            policy.write('body common control { bundlesequence => { "main" }; }\nbody executor control {\n')
            policy.write('schedule => { "any" }; splaytime => "0";\n')
            policy.write(f'exec_command => "/usr/bin/cf-agent -K -f {self.policy}";\n}}\n')
            policy.write('body perms mode(m) { mode => "$(m)"; }\nbundle agent main {\nfiles:\n')
            for path in watched.things():
                policy.write(f'"{path}" create => "true", perms => mode("0644"), content => "{content(path)}";\n')
            policy.write("}\n")
        self.policy.chmod(0o600)
        sh("cf-agent", "-K", "-f", str(self.policy))
        self.stay("bench-cf-execd", "/usr/bin/cf-execd", "--no-fork", "-f", str(self.policy))

    def damage(self, watched: Files, count: int) -> list[float]:
        """At random moments, one in three seconds, for one after the other would take a minute each."""
        chance, found, spread = random.Random(2), list[float](), 3.0 * count
        began = time.perf_counter()
        waiting = sorted((chance.uniform(0, spread), path) for path in chance.sample(watched.things(), count))
        broken: dict[str, float] = {}
        while (waiting or broken) and time.perf_counter() - began < spread + LIMIT:
            now = time.perf_counter()
            while waiting and waiting[0][0] <= now - began:
                path = waiting.pop(0)[1]
                watched.damage(path, chance)
                broken[path] = now
            for path in [path for path in broken if watched.is_whole(path)]:
                found.append(time.perf_counter() - broken.pop(path))
            time.sleep(0.005)
        if not found:
            raise TimeoutError(f"nothing is repaired within {spread + LIMIT:g} s")
        return found


class Puppet(Peer):
    """An agent that begins a second after it has ended, and on this host the server that it works with."""

    name = "Puppet"
    units = ("bench-puppet-agent.service", "puppetserver.service")
    settings, manifest = Path("/etc/puppet/puppet.conf"), Path("/etc/puppet/code/environments/production/manifests")

    def install(self) -> str:
        apt("install", "puppetserver", "puppet-agent")
        return f"puppet {sh('puppet', '--version').strip()} and its server, both Debian's"

    def begin(self, watched: Files) -> None:
        self.settings.write_text(f"[main]\nserver = {sh('hostname', '--fqdn').strip()}\n[server]\nautosign = true\n")
        self.manifest.mkdir(parents=True, exist_ok=True)
        with (self.manifest / "site.pp").open("w") as manifest:
            for path in watched.things():
                text = content(path).replace("\n", "\\n")
                manifest.write(f'file {{ "{path}": ensure => file, mode => "0644", content => "{text}" }}\n')
        sh("systemctl", "start", "puppetserver")
        sh("puppet", "agent", "--onetime", "--no-daemonize", "--no-splay", "--waitforcert", "10")
        self.stay("bench-puppet-agent", "puppet", "agent", "--no-daemonize", "--runinterval", "1", "--no-splay")

    def damage(self, watched: Files, count: int) -> list[float]:
        chance, found = random.Random(3), list[float]()
        for path in chance.sample(watched.things(), count):
            found.append(watched.repaired_since(path, chance, LIMIT))
            time.sleep(chance.uniform(0, 3))  # so that damages fall on any moment of a round
        return found


def mend(path: str) -> None:
    """Make a file what it is declared to be."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content(path))
    Path(path).chmod(0o644)


PEERS = (Salt(), CFEngine(), Puppet())
