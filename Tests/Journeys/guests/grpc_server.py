"""grpcio as a server, without generated code: messages are bytes.

    grpc_server.py PORT NAME [option=value …]

Says what its handlers lived through. Told to: stop (graceful, with `grace` seconds).
"""

import asyncio
import json
import sys

import grpc

NAME = sys.argv[2]
CODES = {code.value[0]: code for code in grpc.StatusCode}


def say(said, **more):
    print(json.dumps({"said": said, **more}), flush=True)


def echoed(context):
    """What the client sent as x-…, plus who answers."""
    return tuple((key, value) for key, value in context.invocation_metadata() if key.startswith("x-") and not key.startswith("x-forwarded"))


async def unary(request, context):
    await context.send_initial_metadata((("x-server", NAME),))
    context.set_trailing_metadata(echoed(context))
    return request


async def total(requests, context):
    count = size = 0
    async for message in requests:
        count, size = count + 1, size + len(message)
    return json.dumps({"count": count, "size": size}).encode()


async def count(request, context):
    wish = json.loads(request)
    for number in range(wish["count"]):
        yield number.to_bytes(4, "big") + bytes(wish.get("size", 0))


async def chat(requests, context):
    await context.send_initial_metadata((("x-server", NAME),))
    async for message in requests:
        yield message


async def fail(request, context):
    wish = json.loads(request)
    await context.abort(CODES[wish["code"]], wish["details"], trailing_metadata=(("x-why", "asked for"), ("x-why-bin", bytes(range(256)))))


async def late(request, context):
    """Three messages, then an error."""
    for number in range(3):
        yield bytes([number])
    await context.abort(grpc.StatusCode.DATA_LOSS, "three were all there was")


async def hold(request, context):
    """Never answers; says when the client has given up."""
    say("holding", left=context.time_remaining())
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("cancelled", what="hold")
        raise


async def endless(request, context):
    """Numbers for as long as anybody listens; says when nobody does."""
    try:
        number = 0
        while True:
            yield number.to_bytes(4, "big")
            number += 1
            await asyncio.sleep(0.005)
    except (asyncio.CancelledError, GeneratorExit):
        say("cancelled", what="endless")
        raise


class Methods(grpc.GenericRpcHandler):
    TABLE = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary), "Total": grpc.stream_unary_rpc_method_handler(total),
        "Count": grpc.unary_stream_rpc_method_handler(count), "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Fail": grpc.unary_unary_rpc_method_handler(fail), "Late": grpc.unary_stream_rpc_method_handler(late),
        "Hold": grpc.unary_unary_rpc_method_handler(hold), "Endless": grpc.unary_stream_rpc_method_handler(endless),
    }

    def service(self, details):
        return self.TABLE.get(details.method.removeprefix("/shop.Orders/"))


async def main():
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    options += [(name, int(value)) for name, value in (given.split("=") for given in sys.argv[3:])]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((Methods(),))
    if server.add_insecure_port(f"[::]:{sys.argv[1]}") == 0:
        raise SystemExit("cannot listen")
    await server.start()
    say("serving")
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        assert order["do"] == "stop", order
        say("stopping")
        await server.stop(order["grace"])
        say("stopped")
        return


asyncio.run(main())
