"""Becomes another program that cannot outlive its parent. Run as a script, imports little.

    python _guard.py PARENT_PID PROGRAM [ARGUMENT ...]

Asks the kernel to send SIGKILL when the parent's starting thread ends, then execs the program, so
pid and pipes stay the same. Done here and not in a `preexec_fn`, which may deadlock in a process
that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set the parent-death signal and exec."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):  # it died before it could be watched
        sys.exit(1)
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")


if __name__ == "__main__":
    main()
