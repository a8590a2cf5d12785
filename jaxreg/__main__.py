"""``jaxreg`` and ``python -m jaxreg``: the command line of :mod:`jaxreg.study` as a process."""

import os
import sys
from contextlib import suppress

_INTERRUPTED = 130


def entry() -> int:
    """Runs the command line for a process, which an interrupt ends at once.

    Returns:
      The exit status; 130 when interrupted never returns.
    """
    try:
        # Imported here, so that an interrupt while modules load is one too.
        from jaxreg.cli.main import main

        status = main()
    except KeyboardInterrupt:
        print("jaxreg: interrupted; nothing was written.", file=sys.stderr)
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        # An ordinary end would wait for compilations in other threads, which may crash meanwhile.
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(entry())
