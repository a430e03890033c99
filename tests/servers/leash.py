"""Become a server that ends with the process that started it: `leash.py PARENT UID SIGNAL CMD...`

A program of its own, because what stands between fork and exec must not be Python in a process
with threads. Where the system cannot do it (it is Linux that can), the server is only started.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, uid, number = map(int, sys.argv[1:4])
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    if sys.platform == "linux":  # after the change of user, which would undo it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            sys.exit("whoever started this is gone already")
    os.execv(sys.argv[4], sys.argv[4:])
