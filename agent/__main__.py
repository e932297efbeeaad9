"""`python -m agent` is the same as the `agent` command."""

import sys

try:
    from agent.cli.entry import main

    main()
except KeyboardInterrupt:  # before the command itself was there to take it
    sys.exit("aborted")
