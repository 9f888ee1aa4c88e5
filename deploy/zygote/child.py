"""The first moments of a forked child, and its last: nothing of the parent stays but its memory."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
import traceback
from typing import NoReturn

from deploy.processes import set_death_signal
from deploy.zygote.wire import Fork


def become(request: Fork, parent: int) -> NoReturn:
    """Turns a fresh fork of `parent` into the process asked for, and ends with it. Never returns or raises."""
    code = 1
    try:
        # SIGKILL and not SIGTERM: a child that is deaf or slow to drain must not outlive the node. Nothing
        # accepted is lost by it.
        set_death_signal(signal.SIGKILL, parent)
        os.setsid()
        _reset_signals()
        _own_output(request.log)
        os.environ.update(request.environment)
        atexit._clear()  # the parent's are not ours to run
        _reseed()
        gc.enable()
        code = _call(request.entry, request.spec)
    except BaseException:  # a fork must never run on in the parent's code
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


def _call(entry: str, spec: bytes) -> int:
    module, _, name = entry.partition(":")
    function = getattr(importlib.import_module(module), name)
    try:
        result = function(spec)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return result if isinstance(result, int) else 0


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _own_output(path: str) -> None:
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the socket to the node above all
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    output = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def _reseed() -> None:
    """Python seeds its own `random` after a fork; numpy does not."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
