"""Jobs of a sweep as processes on this machine, forked from one that has imported everything already.

A fresh process spends some seconds on importing torch, which is 2 % of a run of two minutes. So a starter imports what
runs need, computes nothing, and forks for every job; from there on the job is `python -m gsm_lab run ...`.

A starter whose sweep was killed ends, and its jobs go on to their ends. If the starter itself is killed, its jobs go on
too; then only how they end is not known.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from gsm_lab.errors import RunError
from gsm_lab.study.sweep_executors import Exit, environment_of

PRELOADED = ("gsm_lab.study.pipeline", "gsm_lab.study.evaluate", "rich.console")
"""Modules that every run needs."""
LOST = Exit(None, "the process that started it was killed, and later it ended itself")


class LocalExecutor:
    """Forks a process a job."""

    name = "local"

    def __init__(self, threads: int, modules: Sequence[str] = PRELOADED) -> None:
        self._threads = threads
        self._modules = modules
        self._starter: _Starter | None = None

    def submit(self, arguments: Sequence[str], log: Path) -> _LocalHandle:
        """Begin a command at once.

        Raises:
            RunError: two starters in a row ended before they had begun it.
        """
        for _ in range(2):
            if self._starter is None:
                self._starter = _Starter(self._threads, self._modules)
            answer = self._starter.ask({"start": list(arguments), "log": str(log.resolve())})
            if answer is not None:
                return _LocalHandle(self._starter, answer["process"])
            self.close()  # it was killed, and nothing is lost with it: the next one begins the job
        raise RunError(
            f"the process that starts runs ended twice before it began `gsm-lab {' '.join(arguments)}`: see above what "
            f"it said, and look for want of memory."
        )

    def close(self) -> None:
        if self._starter is not None:
            self._starter.close()
            self._starter = None


class _LocalHandle:
    def __init__(self, starter: _Starter, process: int) -> None:
        self._starter = starter
        self._process = process
        self._exit: Exit | None = None

    def ended(self) -> Exit | None:
        if self._exit is None:
            answer = self._starter.ask({"poll": self._process})
            if answer is None:
                self._exit = None if _lives(self._process) else LOST
            elif answer["code"] is not None:
                self._exit = Exit(answer["code"])
        return self._exit

    def cancel(self) -> None:
        if self.ended() is None:  # so its number still belongs to it
            with suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGTERM)


def _lives(process: int) -> bool:
    """Whether there is a process of that number that has not ended."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):  # it is gone, or its number is somebody else's by now
        return False
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:  # a system without such files, or it has just ended: the next look will tell
        return True


class _Starter:
    """The process that forks, and our end of the pipes to it."""

    def __init__(self, threads: int, modules: Sequence[str]) -> None:
        program = f"from gsm_lab.study.sweep_local import serve; serve({list(modules)!r})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment_of(threads),
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Its answer; None if it is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):  # a broken pipe, or one that was closed
            return None
        answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return answer

    def close(self) -> None:
        """Let it end; its jobs go on."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        self._process.wait()


def serve(modules: Sequence[str]) -> None:
    """In the starter: answer requests until nobody asks any more. In the processes that it forks: be a job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep and the jobs
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    for module in modules:
        import_module(module)
    with open(requests, "rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return  # of a sweep that was killed while it wrote
            request = json.loads(line)
            answer: dict[str, int | None]
            if "start" in request:
                process = os.fork()
                if not process:
                    lines.close()
                    os.close(answers)
                    break
                answer = {"process": process}
            else:
                ended, status = os.waitpid(request["poll"], os.WNOHANG)
                answer = {"code": os.waitstatus_to_exitcode(status) if ended else None}
            try:
                os.write(answers, json.dumps(answer).encode() + b"\n")
            except BrokenPipeError:
                return
        else:
            return
    _run(request["start"], request["log"])


def _run(arguments: Sequence[str], log: str) -> NoReturn:
    """In a forked process: what `python -m gsm_lab *arguments` does.

    At the end the interpreter is not taken down piece by piece, as processes that are forked never are: with torch in
    it, that takes a second of a processor.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.argv = ["gsm-lab", *arguments]
    code = 1
    try:
        runpy.run_module("gsm_lab", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as exiting:
        code = exiting.code if isinstance(exiting.code, int) else int(exiting.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
