"""`make faults`: SEED=7 MINUTES=2, or SEEDS="1 2 3". Exit code 1 when an invariant does not hold."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.faults.battery.run import run


def main() -> int:
    seeds = [int(seed) for seed in (os.environ.get("SEEDS") or os.environ.get("SEED") or "7").split()]
    seconds = 60.0 * float(os.environ.get("MINUTES") or "2")
    kinds = (os.environ.get("KINDS") or "").split()
    base = Path(os.environ.get("FOLDER") or tempfile.mkdtemp(prefix="faults-"))
    failed = []
    for seed in seeds:
        folder = base / f"seed-{seed}"
        report = asyncio.run(run(folder, seed, seconds, kinds=kinds))
        print(*report.lines(), sep="\n", flush=True)
        if not report.ok:
            failed.append(seed)
            print(f"  look at {folder}; again with SEED={seed} MINUTES={seconds / 60:g}", flush=True)
    if failed:
        print(f"{len(failed)} of {len(seeds)} seeds failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
