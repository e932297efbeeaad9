"""References to what brings a cluster up. Pure."""

from __future__ import annotations


def server_requirements(cluster: str | None) -> list[str]:
    """The packages and units that a cluster comes from and is run by, where they are declared."""
    units = ["postgresql"]
    packages = ["postgresql"]
    if cluster is not None and not cluster.startswith("/"):
        version, _, name = cluster.partition("/")
        units.append(f"postgresql@{version}-{name}")
        packages.append(f"postgresql-{version}")
    references = [f"apt:{package}" for package in packages]
    return references + [f"service:{unit}{suffix}" for unit in units for suffix in ("", ".service")]
