"""grpcio as a client, without generated code: messages are bytes.

    grpc_client.py HOST:PORT SCENE [JSON]

Plays one scene and says how it went.
"""

import asyncio
import hashlib
import json
import sys
import time
from collections import Counter

import grpc

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


def say(said, **more):
    print(json.dumps({"said": said, **more}), flush=True)


async def told():
    """The next order of the test."""
    return json.loads(await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline))


def plain(metadata):
    """Metadata as JSON: binary values in hexadecimal."""
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in metadata or ()}


async def outcome(call):
    """How a call ended, as its library tells."""
    return {"code": (await call.code()).name, "details": await call.details(), "initial": plain(await call.initial_metadata()), "trailing": plain(await call.trailing_metadata())}


class Orders:
    """The methods of the server."""

    def __init__(self, channel):
        self.channel = channel
        name = "/shop.Orders/{}".format
        self.unary, self.fail, self.hold = (channel.unary_unary(name(m)) for m in ("Unary", "Fail", "Hold"))
        self.nothing = channel.unary_unary(name("Nothing"))
        self.total = channel.stream_unary(name("Total"))
        self.count, self.late, self.endless = (channel.unary_stream(name(m)) for m in ("Count", "Late", "Endless"))
        self.chat = channel.stream_stream(name("Chat"))


async def shapes(orders):
    """One call of each shape."""
    assert await orders.unary(b"hello") == b"hello"
    assert await orders.unary(b"") == b""

    async def messages():
        for number in range(100):
            yield bytes(number * 10)
    assert json.loads(await orders.total(messages())) == {"count": 100, "size": 49_500}
    assert json.loads(await orders.total(iter(()))) == {"count": 0, "size": 0}
    numbers = [int.from_bytes(message[:4], "big") async for message in orders.count(json.dumps({"count": 100, "size": 3000}).encode())]
    assert numbers == list(range(100)), numbers
    assert [m async for m in orders.count(json.dumps({"count": 0}).encode())] == []
    call = orders.chat()
    for number in range(50):
        message = bytes([number]) * (number * 50)
        await call.write(message)
        assert await call.read() == message
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    return {"code": (await call.code()).name}


async def metadata(orders):
    """Text and binary, repeated names and awkward bytes, both ways."""
    sent = (("x-text", "plain, with comma"), ("x-twice", "one"), ("x-twice", "two"), ("x-any-bin", bytes(range(256))), ("x-empty-bin", b""), ("x-long", "l" * 6000))
    call = orders.unary(b"?", metadata=sent)
    await call
    back = [(key, value.hex() if isinstance(value, bytes) else value) for key, value in await call.trailing_metadata()]
    return {"initial": plain(await call.initial_metadata()), "back": back, "sent": [(k, v.hex() if isinstance(v, bytes) else v) for k, v in sent]}


async def errors(orders):
    """Every status, its details in all of Unicode; an error after messages; a method that does not exist."""
    ends = []
    for code in range(1, 17):
        call = orders.fail(json.dumps({"code": code, "details": f"näin kävi 100% №{code}\n"}).encode())
        ends.append(await outcome(call))
    call = orders.late(b"")
    messages = []
    try:
        async for message in call:
            messages.append(message[0])
    except grpc.aio.AioRpcError:
        pass
    return {"ends": ends, "messages": messages, "late": await outcome(call), "nothing": await outcome(orders.nothing(b""))}


async def deadline(orders, seconds):
    """The server is slower than the client's patience."""
    began = time.monotonic()
    end = await outcome(orders.hold(b"", timeout=seconds))
    return {**end, "took": time.monotonic() - began}


async def cancel(orders):
    """The client loses interest in a call under way, and in a stream under way; the channel lives on."""
    call = orders.hold(b"")
    await asyncio.sleep(0)
    say("holding")
    await told()
    call.cancel()
    first = (await call.code()).name
    stream = orders.endless(b"")
    for _ in range(5):
        await stream.read()
    stream.cancel()
    return {"codes": [first, (await stream.code()).name], "after": (await orders.unary(b"alive")).decode()}


async def many(orders, streams, messages, size):
    """That many conversations at once."""
    async def conversation(number):
        call = orders.chat()
        for turn in range(messages):
            message = (number * messages + turn).to_bytes(4, "big") + bytes(size)
            await call.write(message)
            if await call.read() != message:
                return False
        await call.done_writing()
        return await call.read() is grpc.aio.EOF and (await call.code()) == grpc.StatusCode.OK
    return {"good": sum(await asyncio.gather(*(conversation(number) for number in range(streams))))}


async def large(orders, size):
    """One message of that size there and back."""
    message = hashlib.sha256(b"seed").digest() * (size // 32)
    began = time.monotonic()
    back = await orders.unary(message)
    return {"equal": back == message, "size": len(back), "took": time.monotonic() - began}


async def single(orders, **options):
    """One call, however it ends."""
    began = time.monotonic()
    return {**await outcome(orders.unary(b"?", **options)), "took": time.monotonic() - began}


async def echo(orders, text):
    """One message there and back, and the same as metadata."""
    return {"back": (await orders.unary(text.encode(), metadata=(("x-secret", text),))).decode()}


async def told_headers(orders, service, method, headers, calls):
    """Calls of any method with these headers: how they ended, who answered, and what came back of the last one's headers."""
    asked = orders.channel.unary_unary(f"/{service}/{method}")
    codes, servers, back = Counter(), Counter(), []
    for _ in range(calls):
        call = asked(b"?", metadata=tuple(headers.items()))
        codes[(await call.code()).name] += 1
        server = plain(await call.initial_metadata()).get("x-server")
        if server:
            servers[server] += 1
        back = [(key, value) for key, value in await call.trailing_metadata() or ()]
    return {"codes": codes, "servers": servers, "back": back}


async def many_servers(orders, calls):
    """Who answers, call by call on one channel."""
    servers = Counter()
    for _ in range(calls):
        call = orders.unary(b"?")
        servers[plain(await call.initial_metadata()).get("x-server")] += 1
    return {"servers": servers}


async def single_stream(orders):
    """One bidirectional call, however it ends."""
    call = orders.chat()
    try:
        await call.write(b"?")
        await call.read()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass
    return await outcome(call)


async def idle(orders, streams):
    """Conversations that rest until the test says so, then all go on."""
    calls = [orders.chat() for _ in range(streams)]

    async def exchange(call, message):
        try:
            await call.write(message)
            return await call.read() == message
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
    say("open", good=sum(await asyncio.gather(*(exchange(call, b"first") for call in calls))))
    while (order := await told())["do"] == "again":
        say("alive", good=sum(await asyncio.gather(*(exchange(call, b"again") for call in calls))), codes=Counter([(await call.code()).name for call in calls if call.done()]))
    codes = Counter()
    for call in calls:
        await call.done_writing()
        await call.read()
        codes[(await call.code()).name] += 1
    return {"codes": codes}


async def slow(orders, streams, count, size):
    """All streams send much; one is not read until the others are through, then it is read to its end."""
    wish = json.dumps({"count": count, "size": size}).encode()

    async def read(call):
        return sum([1 async for _ in call])
    sleeper = aiter(orders.count(wish))
    assert await anext(sleeper)
    began = time.monotonic()
    others = await asyncio.gather(*(read(orders.count(wish)) for _ in range(streams - 1)))
    say("others", good=sum(number == count for number in others), took=time.monotonic() - began)
    await told()
    return {"sleeper": 1 + await read(sleeper)}


async def broken(orders):
    """A stream whose server dies under it."""
    call = orders.endless(b"")
    for _ in range(5):
        await call.read()
    say("flowing")
    try:
        while True:
            if await call.read() is grpc.aio.EOF:
                break
    except grpc.aio.AioRpcError:
        pass
    return await outcome(call)


async def steady(orders, seconds, callers, patience=5.0):
    """Callers that ask one after the other for so long, or until the test says stop."""
    codes, slowest = Counter(), 0.0
    end = time.monotonic() + seconds
    over = asyncio.ensure_future(told())

    async def caller(number):
        nonlocal slowest
        while time.monotonic() < end and not over.done():
            began = time.monotonic()
            call = orders.unary(number.to_bytes(4, "big"), timeout=patience)
            code = (await call.code()).name
            if code != "OK":
                code += ": " + str(await call.details())
            codes[code] += 1
            if sum(codes.values()) == callers:
                say("calling")
            slowest = max(slowest, time.monotonic() - began)
    await asyncio.gather(*(caller(number) for number in range(callers)))
    over.cancel()
    return {"codes": codes, "slowest": slowest}


async def main():
    target, scene, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    extra = []
    if options.pop("retries", False):
        policy = {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}
        extra = [("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})), ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
    async with grpc.aio.insecure_channel(target, options=OPTIONS + extra) as channel:
        result = await globals()[scene](Orders(channel), **options)
        say("done", **result)


async def finish():
    await main()
    import os
    os._exit(0)  # a thread may still wait for a line of stdin


asyncio.run(finish())
