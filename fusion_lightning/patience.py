"""Watchdog: ends a process that was asked to stop and hangs."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable


class Patience:
    """Watchdog thread: ends the process if a signal is not handled in time.

    Python runs a signal's handler between two of its own instructions: never, while the process waits inside a library
    for another process, a file system or a device. So the operating system tells a thread of its own of the signal.

    Args:
        signals: Those that ask the process to stop.
        seconds: How long it may take to heed one; asked when one has come.
        farewell: What is printed when it ends by force; takes the signal's number.
    """

    def __init__(self, signals: Iterable[int], seconds: Callable[[], float], farewell: Callable[[int], str]) -> None:
        self._signals = frozenset(signals)
        self._seconds = seconds
        self._farewell = farewell
        self._heeded = threading.Event()
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self._before = -1

    def begin(self) -> None:
        """Watch; from the main thread only."""
        if self._sockets is not None:
            return
        self._heeded.clear()
        reader, writer = self._sockets = socket.socketpair()
        writer.setblocking(False)
        self._before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()

    def end(self) -> None:
        """Watch no longer: a signal was heeded, or there is nothing more to wait for."""
        self._heeded.set()
        if self._sockets is not None:
            if threading.current_thread() is threading.main_thread():
                signal.set_wakeup_fd(self._before)
            self._sockets[1].close()
            self._sockets = None

    def _watch(self, reader: socket.socket) -> None:
        with reader:
            while received := reader.recv(1):
                if received[0] in self._signals:
                    if not self._heeded.wait(self._seconds()):
                        self._leave(received[0])
                    return

    def _leave(self, signum: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()
        sys.stderr.write(f"error: {self._farewell(signum)}\n")
        sys.stderr.flush()
        os._exit(128 + signum)
