"""Runs one command and measures it: once.py SECONDS OUTPUT COMMAND…  Imports little, for a child starts with our size.

Prints wall time and CPU time in seconds, the resident memory of its largest process in KiB and its exit status
(-9: it took longer than SECONDS). CPU time and memory are those of the command and all that it waited for.
"""

import os
import signal
import sys
import time

limit, output, *command = sys.argv[1:]
out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
into = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
started = time.perf_counter()
child = os.posix_spawnp(command[0], command, os.environ, file_actions=into, setsid=True)
signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
signal.alarm(int(limit))
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - started
print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
