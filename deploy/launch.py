"""The last steps before a program starts, taken by the new process itself; then it becomes that program.

Run by path with ``python -I -S`` and one argument, a JSON object:

    argv      the program and its arguments; empty: only try the rights, then exit 0
    parent    pid of the process that spawned us, to notice that it died before we asked for a death signal
    rights    "own" | "namespace" | "nobody"
    uid, gid  whose rights "nobody" takes, and what "namespace" shows instead of root
    signal    the death signal, 0 for none
    record    a file that gets {"pid", "started", **facts}, "" for none
    facts     what to add to the record

Why not in the parent between fork and exec: that code would run in a copy of a process with threads and
an event loop. Why the record is written here: the pid and its start time stay the same over exec, so no
moment exists in which the program runs and nothing on disk knows it.
Only the standard library, and nothing of ours: it must start in a few milliseconds.
"""

import ctypes
import json
import os
import sys
from typing import Any

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1


def started(pid: int | str = "self") -> str:
    """When a process began, as a word that is never the same for two processes with one pid.

    Raises OSError or IndexError if there is none.
    """
    if sys.platform != "linux":
        number = os.getpid() if pid == "self" else pid
        with os.popen(f"ps -o lstart= -p {int(number)}") as answer:  # noqa: S605
            return "-".join(answer.read().split())
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms here
        fields = file.read().rpartition(b")")[2].split()
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # noqa: PTH123
        boot = file.read()[:8]
    return f"{boot.decode()}-{fields[19].decode()}"


def _record(path: str, facts: dict[str, Any]) -> None:
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"pid": os.getpid(), "started": started(), **facts}, file)
    os.replace(path + ".new", path)  # noqa: PTH105


def _enter_namespace(uid: int, gid: int) -> None:
    """Be `uid` in our own eyes while the kernel still takes us for root's user, without root's powers."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    outside_uid, outside_gid = 0, 0
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {outside_uid} 1"),
        ("gid_map", f"{gid} {outside_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
            file.write(text)
    if os.geteuid() != uid:
        raise OSError(0, "the user namespace does not map us")


def main() -> int:
    plan = json.loads(sys.argv[1])
    if plan["record"]:
        _record(plan["record"], plan["facts"])  # before the rights go: its folder is the supervisor's
    if plan["rights"] == "namespace":
        _enter_namespace(plan["uid"], plan["gid"])
    elif plan["rights"] == "nobody":
        os.setgroups([])
        os.setgid(plan["gid"])
        os.setuid(plan["uid"])
    if plan["signal"] and sys.platform == "linux":
        # After the change of rights, which clears it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, plan["signal"], 0, 0, 0)
        if os.getppid() != plan["parent"]:
            return 70
    if not plan["argv"]:
        return 0
    try:
        os.execv(plan["argv"][0], plan["argv"])  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"cannot run {plan['argv'][0]}: {error.strerror}\n")
    return 127


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.stderr.write(f"cannot take the rights asked for: {error}\n")
        sys.exit(126)
