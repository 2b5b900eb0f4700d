"""Python servers without the seconds of CPU that their imports take.

    with forked_servers():
        ...  # a ServerProcess that is `python -m maubot` or Synapse is forked here

One process per program imports what the program needs, and nothing else, and then forks itself
for each server. Synapse has the same for its own tests (`synapse.app.complement_fork_starter`).
What is run is still the program's own entry point, in a session, a directory and an environment of
its own. And what maubot compiles of a plugin is kept for the next one: Python does so itself for
all that is not in a zip file. Linux only; elsewhere, and with HOMEROOM_TEST_FORK=no, each server
is started anew.
"""

from __future__ import annotations

import _imp
import ctypes
import hashlib
import importlib
import json
import marshal
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipimport
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, BinaryIO

_ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_MAX_REQUEST = 1 << 18

_MAUBOT = (
    *("maubot.client", "maubot.config", "maubot.db", "maubot.handlers", "maubot.instance"),
    *("maubot.lib.future_awaitable", "maubot.lib.state_store", "maubot.loader.zip"),
    *("maubot.management.api", "maubot.management.api.log", "maubot.server"),
    "mautrix.util.program",
    *("jinja2", "sqlalchemy.dialects.postgresql"),  # which plugins use
)
"""All that maubot's `__main__` imports; that one runs maubot, whoever imports it."""
_SYNAPSE = ("synapse.app.homeserver", "synapse.app.generic_worker")


class ForkedProcess:
    """As much of `subprocess.Popen` as a ServerProcess needs."""

    def __init__(self, pid: int, *, status: int) -> None:
        """`status` is a pipe that tells how the process has ended."""
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._reading = threading.Lock()  # `stop` waits in a thread

    def poll(self) -> int | None:
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is not None:
            return self.returncode
        end = select.poll()
        end.register(self._status, select.POLLIN)
        if end.poll(None if timeout is None else timeout * 1000):
            with self._reading:
                if self.returncode is None:
                    # Nothing is said by a parent that was killed; this one was, too, then.
                    said = os.read(self._status, 64)
                    self.returncode = int(said) if said else -signal.SIGKILL
                    os.close(self._status)
        return self.returncode


class ForkServer:
    """The process that servers of a program are forked from; it imports while others work."""

    def __init__(self, program: str, *, cache: str) -> None:
        """`cache` is a directory for what is compiled."""
        self._program = program
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _MAX_REQUEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, program, cache],
                cwd=_ROOT,
                stdin=theirs.fileno(),
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 (one system call, no locks)
            )

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        output: BinaryIO,
    ) -> ForkedProcess:
        """Run `python -m MODULE ARGUMENTS` in a directory."""
        status, tell_status = os.pipe()
        try:
            request = {
                "module": module,
                "arguments": list(arguments),
                "directory": os.fspath(directory),
                "environment": dict(environment),
            }
            text = json.dumps(request).encode()
            assert len(text) < _MAX_REQUEST
            socket.send_fds(self._socket, [text], [output.fileno(), tell_status])
            answer = self._socket.recv(64)
        finally:
            os.close(tell_status)
        if not answer:
            os.close(status)
            raise RuntimeError(f"The process that forks {self._program} has ended")
        return ForkedProcess(int(answer), status=status)

    def close(self) -> None:
        """End it, and with it what it has forked."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


_servers: dict[str, ForkServer] = {}
"""By module: what `forked_servers` has made."""


@contextmanager
def forked_servers() -> Iterator[None]:
    """Fork the servers that are started within, in this process."""
    if sys.platform != "linux" or os.environ.get("HOMEROOM_TEST_FORK") == "no":
        yield
        return
    with tempfile.TemporaryDirectory() as cache:
        synapse = ForkServer("synapse", cache=cache)
        maubot = ForkServer("maubot", cache=cache)
        _servers.update({"maubot": maubot, **dict.fromkeys(_SYNAPSE, synapse)})
        try:
            yield
        finally:
            for server in (synapse, maubot):
                server.close()
            _servers.clear()


def fork_server(command: Sequence[str]) -> ForkServer | None:
    """Find what forks this command: `python -m MODULE ...`."""
    if len(command) > 2 and tuple(command[:2]) == (sys.executable, "-m"):
        return _servers.get(command[2])
    return None


# In the process that forks


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone (Linux only)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _keep_what_is_compiled(cache: Path) -> None:
    """Have maubot's importer of zip files and Python's own compile the same source once."""
    from maubot.lib import zipimport as maubots  # noqa: PLC0415 (none of Synapse's)

    compile_source = maubots._compile_source

    def compiled(path: str, source: bytes) -> CodeType:
        kept = cache / hashlib.sha256(source).hexdigest()
        try:
            code: CodeType = marshal.loads(kept.read_bytes())
        except FileNotFoundError:
            code = compile_source(path, source)
            unfinished = cache / f"{os.getpid()}.unfinished"
            unfinished.write_bytes(marshal.dumps(code))
            unfinished.replace(kept)
        _imp._fix_co_filename(code, path)  # type: ignore[attr-defined] # as importlib does
        return code

    for importer in (maubots, zipimport):
        importer._compile_source = compiled


def _import_maubot(cache: Path) -> Callable[[str], object]:
    for name in _MAUBOT:
        importlib.import_module(name)
    _keep_what_is_compiled(cache)
    return lambda module: runpy.run_module(module, run_name="__main__", alter_sys=True)


def _import_synapse() -> Callable[[str], object]:
    from synapse.app.complement_fork_starter import ProxiedReactor  # noqa: PLC0415
    from twisted.internet.main import installReactor  # noqa: PLC0415

    # Twisted's own reactor has open files, which forks would share.
    reactor = ProxiedReactor()
    installReactor(reactor)
    modules = {name: importlib.import_module(name) for name in _SYNAPSE}

    def run(module: str) -> None:
        from twisted.internet.epollreactor import EPollReactor  # noqa: PLC0415

        reactor._install_real_reactor(EPollReactor())
        modules[module].main()

    return run


def _serve(connection: socket.socket) -> dict[str, Any]:
    """Fork for every request; return the request in the process that is to carry it out."""
    wake, awake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(awake, False)
    signal.set_wakeup_fd(awake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([connection, wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
            for pid in list(children):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    pipe = children.pop(pid)
                    _tell(pipe, os.waitstatus_to_exitcode(status))
        if connection not in readable:
            continue
        text, (*files,), _, _ = socket.recv_fds(connection, _MAX_REQUEST, 2)
        if not text:
            sys.exit()
        output, status_pipe = files
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for file in (wake, awake, status_pipe, *children.values()):
                os.close(file)
            _become_server(output, nothing=connection.detach())
            request: dict[str, Any] = json.loads(text)
            return request
        children[pid] = status_pipe
        os.close(output)
        connection.send(str(pid).encode())


def _tell(pipe: int, code: int) -> None:
    try:
        os.write(pipe, str(code).encode())
    except BrokenPipeError:
        pass  # nobody waits for it
    finally:
        os.close(pipe)


def _become_server(output: int, *, nothing: int) -> None:
    """Take the output for one's own, and have no input."""
    end_with_parent()
    os.setsid()
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), nothing)
    for file in (1, 2):
        os.dup2(output, file)
    os.close(output)


def main(program: str, cache: str) -> None:
    run = _import_maubot(Path(cache)) if program == "maubot" else _import_synapse()
    request = _serve(socket.socket(fileno=0))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    sys.path[0] = request["directory"]
    sys.argv = [request["module"], *request["arguments"]]
    run(request["module"])


if __name__ == "__main__":
    main(*sys.argv[1:])
