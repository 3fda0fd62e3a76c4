"""Plain TCP in pods: a server, and what tests do to sockets."""

import itertools
import socket
import struct
import threading

PORTS = itertools.count(29000)


class Plain:
    """A TCP server in a pod: `conversation(socket)` in a thread for each connection."""

    def __init__(self, pod, conversation, port=None):
        self.pod, self.port, self.conversation = pod, port or next(PORTS), conversation
        self.accepted, self.faults = [], []
        self._listener = pod.listen(self.port, backlog=4096)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(60)
            self.accepted.append(connection)
            if self.conversation is not None:
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        try:
            self.conversation(connection)
        except OSError as error:
            self.faults.append(error)

    def close(self):
        """Stops."""
        for made in [self._listener, *self.accepted]:
            try:
                made.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            made.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def exactly(connection, count):
    """`count` bytes; fewer at the end."""
    got = bytearray()
    while len(got) < count and (piece := connection.recv(min(1 << 16, count - len(got)))):
        got += piece
    return bytes(got)


def everything(connection):
    """Until the other side ends."""
    got = bytearray()
    while piece := connection.recv(1 << 16):
        got += piece
    return bytes(got)


def echo(connection):
    """Says back what it hears."""
    while piece := connection.recv(1 << 16):
        connection.sendall(piece)
    connection.close()


def hard_close(connection):
    """RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
