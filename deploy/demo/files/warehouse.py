"""A warehouse that speaks gRPC (grpcio, messages as bytes): tells how many there are, and counts them out as a stream."""

from concurrent import futures

import grpc


def stock(item, context):
    return b"17 of " + item


def pick(item, context):
    for number in range(1, 4):
        yield b"%s number %d" % (item, number)


class Warehouse(grpc.GenericRpcHandler):
    def service(self, call):
        return {"/shop.Warehouse/Stock": grpc.unary_unary_rpc_method_handler(stock), "/shop.Warehouse/Pick": grpc.unary_stream_rpc_method_handler(pick)}.get(call.method)


server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Warehouse(),))
server.add_insecure_port("[::]:50051")
server.start()
server.wait_for_termination()
