extension Person {
    /// What the process runs. Connections open with the line `want ADDRESS:PORT`, so that the proxy's stand-in can compare what the kernel tells it.
    static let program = #"""
    import ctypes, errno, ipaddress, json, os, resource, select, socket, struct, sys, threading, time

    CLONE_NEWNET, SO_NETNS_COOKIE, SO_ORIGINAL_DST, MPTCP_INFO, SOL_MPTCP = 0x40000000, 71, 80, 1, 284
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
        procs.write("0")
    parent = socket.socket(fileno=3)
    held, tally = [], {"right": 0, "wrong": 0, "missing": 0}
    holding, open_gate = threading.Event(), threading.Event()
    open_gate.set()


    def enter(namespace):
        with open("/run/netns/" + namespace) as file:
            if libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns " + namespace)


    def text(address):
        return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


    def wanted(address, port):
        ip = ipaddress.ip_address(address)
        return text((str(getattr(ip, "ipv4_mapped", None) or ip), port))


    def read_line(sock):
        line = b""
        while not line.endswith(b"\n"):
            more = sock.recv(4096)
            if not more:
                break
            line += more
        return line.decode().strip()


    def original_destination(sock):
        try:
            if sock.family == socket.AF_INET:
                raw = sock.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
                return text((socket.inet_ntop(socket.AF_INET, raw[4:8]), *struct.unpack_from("!H", raw, 2)))
            raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
            return text((socket.inet_ntop(socket.AF_INET6, raw[8:24]), *struct.unpack_from("!H", raw, 2)))
        except OSError as error:
            return errno.errorcode[error.errno]


    def answer_outbound(sock):
        destination, line = original_destination(sock), read_line(sock)
        outcome = "missing" if destination[0] == "E" else "right" if line == "want " + destination else "wrong"
        tally[outcome] += 1
        sock.sendall(f"proxy for {destination}\n".encode())


    def answer_inbound(sock):
        read_line(sock)
        sock.sendall(f"inbound for {text(sock.getsockname())}\n".encode())


    def answer_app(name):
        return lambda sock: (read_line(sock), sock.sendall(f"app {name}\n".encode()))


    def accept_forever(listeners):
        poller = select.poll()
        for number in listeners:
            poller.register(number, select.POLLIN)
        while True:
            for number, _ in poller.poll():
                open_gate.wait()
                listener, answer = listeners[number]
                try:
                    sock, _ = listener.accept()
                except OSError:
                    continue
                sock.settimeout(3)
                try:
                    answer(sock)
                except OSError:
                    pass   # it wrote and went: what it wanted is counted already
                if holding.is_set():
                    held.append(sock)
                else:
                    sock.close()


    def listener(family, address, port, transparent=False):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if transparent:
            sock.setsockopt(*((socket.IPPROTO_IPV6, 75) if family == socket.AF_INET6 else (socket.IPPROTO_IP, 19)), 1)
        sock.bind((address, port))
        sock.listen(4096)
        return sock


    def watch(pairs):
        threading.Thread(target=accept_forever, args=({sock.fileno(): (sock, answer) for sock, answer in pairs},), daemon=True).start()


    def listen(ask):
        enter(ask["namespace"])
        outbound = [listener(socket.AF_INET, "127.0.0.1", 15001), listener(socket.AF_INET6, "::1", 15001)]
        inbound = [listener(socket.AF_INET, "127.0.0.1", 15006, True), listener(socket.AF_INET6, "::1", 15006, True)]
        watch([(sock, answer_outbound) for sock in outbound] + [(sock, answer_inbound) for sock in inbound])
        return {}, [sock.fileno() for sock in outbound + inbound]


    def serve(ask):
        answer = answer_app(ask["name"])
        watch([(listener(socket.AF_INET, "0.0.0.0", ask["port"]), answer), (listener(socket.AF_INET6, "::", ask["port"]), answer)])
        return {}


    def stream(ask):
        sock = socket.socket(socket.AF_INET6 if ":" in ask["to"] else socket.AF_INET, socket.SOCK_STREAM, ask.get("protocolNumber", 0))
        sock.settimeout(3)
        if "mark" in ask:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, ask["mark"])
            sock.setsockopt(socket.IPPROTO_IP, 19, 1)
        if "bind" in ask:
            sock.bind((ask["bind"], 0))
        return sock


    def connect(ask):
        if "namespace" in ask:
            enter(ask["namespace"])
        sock, answer = stream(ask), {}
        started = time.monotonic()
        try:
            sock.connect((ask["to"], ask["port"]))
            answer["peer"] = text(sock.getpeername())
            sock.sendall(f"want {wanted(ask['to'], ask['port'])}\n".encode())
            answer["reply"] = read_line(sock)
            if "then" in ask:
                libc.connect(sock.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16)
                sock.connect((ask["then"]["to"], ask["then"]["port"]))
                answer["peerThen"] = text(sock.getpeername())
        except OSError as error:
            answer["error"] = errno.errorcode.get(error.errno, "ETIMEDOUT")
        answer["milliseconds"] = (time.monotonic() - started) * 1000
        if ask.get("hold"):
            held.append(sock)
        return answer


    def burst(ask):
        first, errors, succeeded = ipaddress.ip_address(ask["to"]), {}, 0
        for index in range(ask["count"]):
            address, port = str(first + index), 1024 + index % 500
            sock = stream({"to": address})
            try:
                sock.connect((address, port))
                sock.sendall(f"want {wanted(address, port)}\n".encode())
                succeeded += 1
                if ask.get("closeAtOnce"):
                    sock.close()
                else:
                    held.append(sock)
            except OSError as error:
                name = errno.errorcode.get(error.errno, "ETIMEDOUT")
                errors[name] = errors.get(name, 0) + 1
        return {"succeeded": succeeded, "errors": errors}


    def answer_datagrams(sock, name):
        while True:
            _, sender = sock.recvfrom(4096)
            try:
                sock.sendto(f"app {name}".encode(), sender)
            except OSError:
                pass


    def serve_datagrams(ask):
        for family, address in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, ask["port"]))
            threading.Thread(target=answer_datagrams, args=(sock, ask["name"]), daemon=True).start()
        return {}


    def exchange(sock, send):
        answer, started = {}, time.monotonic()
        try:
            send()
            answer["reply"] = sock.recv(4096).decode(errors="replace")
        except OSError as error:
            answer["error"] = errno.errorcode.get(error.errno, "ETIMEDOUT")
        answer["milliseconds"] = (time.monotonic() - started) * 1000
        return answer


    def datagram(ask):
        sock, to = socket.socket(socket.AF_INET6 if ":" in ask["to"] else socket.AF_INET, socket.SOCK_DGRAM), (ask["to"], ask["port"])
        sock.settimeout(1)
        if "bindPort" in ask:
            sock.bind(("", ask["bindPort"]))
        if not ask.get("connected"):
            return exchange(sock, lambda: sock.sendto(b"question", to))
        sock.connect(to)
        answer = exchange(sock, lambda: sock.send(b"question")) | {"peer": text(sock.getpeername()), "local": sock.getsockname()[0]}
        if ask.get("hold"):
            held.append(sock)
        return answer


    def datagram_again(ask):
        return exchange(held[-1], lambda: held[-1].send(b"question"))


    def raw(ask):
        """A UDP datagram, or an echo request, made by hand."""
        protocol = ask["protocolNumber"]
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
        sock.settimeout(1)
        packet = struct.pack("!HHHH", 5555, 9000, 9, 0) + b"x"
        if protocol == socket.IPPROTO_ICMP:
            packet = struct.pack("!BBHHH", 8, 0, 0xF7FD, 1, 1)
        answer = exchange(sock, lambda: sock.sendto(packet, (ask["to"], 0)))
        if "reply" in answer:
            answer["reply"] = "something"
        return answer


    def behave(ask):
        holding.set() if ask.get("hold") else holding.clear()
        open_gate.clear() if ask.get("pause") else open_gate.set()
        return {}


    def reply_to_held(ask):
        answers = [read_line(sock) for sock in held]
        return {"succeeded": sum(line.startswith("proxy for ") for line in answers)}


    def cookie(ask):
        with socket.socket() as sock:
            return {"cookie": struct.unpack("Q", sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0]}


    def release(ask):
        while held:
            held.pop().close()
        return {}


    does = {"hello": lambda ask: {}, "listen": listen, "serve": serve, "connect": connect, "burst": burst, "behave": behave, "cookie": cookie,
            "serve datagrams": serve_datagrams, "datagram": datagram, "datagram again": datagram_again, "raw": raw,
            "replies": reply_to_held, "tally": lambda ask: tally, "release": release}
    enter(sys.argv[2])
    while packet := parent.recv(65536):
        ask = json.loads(packet)
        result = does[ask["does"]](ask)
        answer, descriptors = result if isinstance(result, tuple) else (result, [])
        socket.send_fds(parent, [json.dumps(answer).encode()], descriptors)
    """#
}
