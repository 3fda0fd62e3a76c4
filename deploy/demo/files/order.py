"""Asks the warehouse over gRPC: one call, one stream, and one call that does not exist."""

import grpc

with grpc.insecure_channel("warehouse:50051") as channel:
    print(channel.unary_unary("/shop.Warehouse/Stock")(b"teapots", timeout=5).decode(), end="; ")
    print(", ".join(message.decode() for message in channel.unary_stream("/shop.Warehouse/Pick")(b"teapot", timeout=5)), end="; ")
    try:
        channel.unary_unary("/shop.Warehouse/Sell")(b"", timeout=5)
    except grpc.RpcError as error:
        print("Sell:", error.code().name)
