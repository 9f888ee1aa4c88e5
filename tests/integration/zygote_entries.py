"""What the children of `test_zygote` run. Imported by name in the warm parent."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path


def returns(spec: bytes) -> int:
    return int(spec)


def raises(spec: bytes) -> int:
    raise RuntimeError("a handler's fault " + spec.decode())


def tells(spec: bytes) -> None:
    """Writes what it is made of to the file `spec`."""
    descriptors = sorted(Path("/proc/self/fd").iterdir())
    kinds = [str(path.readlink()) for path in descriptors if path.name in "012"]
    facts = {
        "random": random.random(),
        "descriptors": [int(path.name) for path in descriptors if path.is_symlink()],
        "kinds": kinds,
        "session": os.getsid(0) == os.getpid(),
        "sigterm": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "mask": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "greeting": os.environ.get("GREETING", ""),
    }
    print("told")
    Path(spec.decode()).write_text(repr(facts))


def sleeps(spec: bytes) -> None:
    Path(spec.decode()).touch()
    time.sleep(600)


def drains(spec: bytes) -> int:
    """On asyncio, as an agent: ends with 0 on SIGTERM."""

    async def main() -> int:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        Path(spec.decode()).touch()
        await ended.wait()
        return 0

    return asyncio.run(main())


def deaf(spec: bytes) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(spec.decode()).touch()
    time.sleep(600)


def has_children(spec: bytes) -> None:
    """Starts a process in its group and one in a session of its own, writes their pids, and waits."""
    argv = [sys.executable, "-c", "import time, signal; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
    near = subprocess.Popen(argv)
    far = subprocess.Popen(argv, start_new_session=True)
    part = Path(spec.decode() + ".part")
    part.write_text(f"{near.pid} {far.pid}")
    part.rename(spec.decode())
    time.sleep(600)


def starts_a_thread() -> None:
    import threading

    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def node(spec_folder: str) -> None:
    """A node that is going to be killed: a warm parent with a polite, a deaf and a fertile child."""

    async def main() -> None:
        from deploy.zygote import Zygote

        folder = Path(spec_folder)
        zygote = await Zygote.start(
            preload=["tests.integration.zygote_entries"],
            on_exit=lambda _: None,
            log_file=folder / "zygote.log",
            mark=folder.name,
        )
        pids = [zygote.pid]
        for name in ("drains", "deaf", "has_children"):
            entry = f"tests.integration.zygote_entries:{name}"
            spec = str(folder / name).encode()
            pids.append(await zygote.fork(entry, spec, name=name, log_file=folder / "child.log"))
        (folder / "pids.part").write_text(" ".join(map(str, pids)))
        (folder / "pids.part").rename(folder / "pids")
        await asyncio.sleep(600)

    asyncio.run(main())


if __name__ == "__main__":
    node(sys.argv[1])
