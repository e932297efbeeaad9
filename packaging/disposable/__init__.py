"""Disposable Debian 13 hosts with systemd as PID 1: what `packaging/host` is made of.

Each host is one tree of processes: keeper → unshare → systemd-nspawn → systemd. Its disk (an overlay over a
cached base), its processes and its network live in namespaces that only this tree holds, so the kernel takes
everything back when the keeper ends, however it ends. Three things have names and are removed by name: the
host's folder, its cgroups and, once no host is left, the network that all hosts share. The machine's own
network and firewall are never touched.
"""
