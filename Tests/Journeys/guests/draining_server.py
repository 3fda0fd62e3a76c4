"""An HTTP/1.1 server that ends as a well-behaved one does: on SIGTERM it serves on for up to two seconds, saying `Connection: close`, then stops
listening, lets its connections come to rest, and exits.

    draining_server.py PORT NAME
"""

import random
import selectors
import signal
import socket
import sys
import time


def main(port, name):
    """Serves until told to end."""
    ends_at = None
    leaves, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", port))
    listener.listen(1024)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ, None)
    selector.register(leaves, selectors.EVENT_READ, "signal")
    pending = {}

    def close(connection):
        selector.unregister(connection)
        del pending[connection]
        connection.close()

    def serve(connection):
        data = connection.recv(1 << 16)
        if not data:
            return close(connection)
        pending[connection] += data
        while b"\r\n\r\n" in pending[connection]:
            head, _, rest = pending[connection].partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)
            if len(rest) < length:
                return None
            pending[connection] = rest[length:]
            body = name.encode()
            last = b"Connection: close\r\n" if ends_at is not None else b""
            connection.sendall(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (last, len(body), body))
            if last:
                return close(connection)
        return None

    while True:
        rest = None if ends_at is None else max(0, ends_at - time.monotonic())
        for key, _ in selector.select(rest):
            if key.data == "signal":
                leaves.recv(64)
                ends_at = ends_at or time.monotonic() + random.uniform(0, 2)
            elif key.fileobj is listener:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    continue
                pending[connection] = b""
                selector.register(connection, selectors.EVENT_READ, "client")
            else:
                try:
                    serve(key.fileobj)
                except ConnectionError:
                    close(key.fileobj)
        if ends_at is not None and time.monotonic() >= ends_at:
            # Who has an unanswered request is answered, then all is over: a connection at rest is closed under its client.
            for connection in list(pending):
                connection.setblocking(False)
                try:
                    serve(connection)
                except (BlockingIOError, ConnectionError):
                    pass
            return


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
