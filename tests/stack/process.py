"""One server process, from start to end.

It runs in a process group of its own, so that Ctrl-C at the terminal reaches us and not it; its
output goes to a file; it is ended by its own process ID. Should we be killed ourselves, Linux
ends it (elsewhere it would live on).

Built on `subprocess.Popen`, not on asyncio's: a server outlives the event loop of the test that
started it, and can be ended when no loop is left. `forking` does it faster for Python servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from .forking import ForkedProcess, end_with_parent, fork_server

_POLL_SECONDS = 0.02
_ASK_AGAIN_SECONDS = 1


class ServerError(Exception):
    """A server did not start, or is gone; the message ends with the end of its log."""


class ServerProcess:
    """A command that is started, asked whether it is ready, and ended."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        directory: Path,
        output: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.output = output
        self._command = [os.fspath(part) for part in command]
        self._directory = directory
        self._environment = {**os.environ, **(environment or {})}
        self._may_fork = not (environment or user)
        self._user = user
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None

    @property
    def pid(self) -> int | None:
        """The process ID, None unless running."""
        return self._process.pid if self._process and self.running else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the command; its output is appended to the output file."""
        if self.running:
            raise RuntimeError(f"{self.name} is running already")
        server = fork_server(self._command) if self._may_fork else None
        with self.output.open("ab") as output:
            if server is not None:
                self._process = server.start(
                    self._command[2],
                    self._command[3:],
                    directory=self._directory,
                    environment=self._environment,
                    output=output,
                )
                return
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                preexec_fn=end_with_parent,  # noqa: PLW1509 (one system call, no locks)
            )

    async def wait_ready(
        self, is_ready: Callable[[], Awaitable[bool]], *, timeout: float, logs: Sequence[Path] = ()
    ) -> None:
        """Ask until ready; raises ServerError when the process ends first or time runs out."""
        deadline = time.monotonic() + timeout
        while not await is_ready():
            if not self.running:
                code = self._process.returncode if self._process else None
                raise ServerError(self._report(f"ended with status {code}", logs))
            if time.monotonic() > deadline:
                raise ServerError(self._report(f"was not ready after {timeout:g} s", logs))
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(
        self, *, timeout: float = 15, has_heard: Callable[[], bool] = lambda: True
    ) -> None:
        """Ask the process to end, kill it if it does not, and wait until it is gone.

        Args:
            has_heard: whether it is ending; it is asked again every second until it is.
        """
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(self._stop_signal)
        deadline = time.monotonic() + timeout
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(process.wait, _ASK_AGAIN_SECONDS)
                    return
                if not has_heard():
                    process.send_signal(self._stop_signal)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process at once, without a chance to tidy up, and wait until it is gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    def _report(self, what: str, logs: Sequence[Path]) -> str:
        parts = [f"{self.name} {what}"]
        parts += [f"--- end of {path}\n{tail(path)}" for path in (*logs, self.output)]
        return "\n".join(parts)


def tail(path: Path, *, lines: int = 25) -> str:
    """Return the last lines of a file that may not exist."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no such file)"
