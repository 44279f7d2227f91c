"""A network that can be cut: a TCP forwarder that stops forwarding without closing anything.

`cut` holds back what either side sends, also to connections made meanwhile, so neither end can tell
it from a cable that was pulled; `mend` lets it all go on.  After a long cut both kernels give up
and reset the connection, each for itself: that is `drop`.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

__all__ = ["Forwarder", "free_port"]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close that says nothing more


class Forwarder:
    """Listens on 127.0.0.1 and passes each connection on to one port there.

    Parameters
    ----------
    port : int
        Where to.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._closed = False
        self._start(self._accept)

    def cut(self) -> None:
        """Hold back all that is sent from now on, in both directions."""
        self._open.clear()

    def mend(self) -> None:
        """Pass on what was held back, and all that comes."""
        self._open.set()

    def drop(self) -> None:
        """Reset all connections at both ends; new ones can be made, and wait while it is cut."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
            each.close()

    def close(self) -> None:
        """End everything."""
        self._closed = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.drop()
        self.mend()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._closed:
                near, _ = self._server.accept()
                self._open.wait()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for each in near, far:
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._start(self._pump, near, far)
                self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._open.wait()
                sink.sendall(data)
            self._open.wait()
            sink.shutdown(socket.SHUT_WR)

    @staticmethod
    def _start(*call: object) -> None:
        threading.Thread(target=call[0], args=call[1:], daemon=True).start()  # type: ignore[arg-type]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
