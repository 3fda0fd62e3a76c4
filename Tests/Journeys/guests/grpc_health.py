"""A gRPC server with nothing but grpc.health.v1.Health, whose answer it is told: `serving`, `not-serving`.

    grpc_health.py PORT
"""

import json
import sys
from concurrent import futures

import grpc

#: HealthCheckResponse: field 1, a status.
ANSWERS = {"serving": b"\x08\x01", "not-serving": b"\x08\x02"}


class Health(grpc.GenericRpcHandler):
    """One method; messages are bytes."""

    answer = ANSWERS["serving"]

    def service(self, details):
        """The handler of a call."""
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.answer)


if __name__ == "__main__":
    health = Health()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[health])
    server.add_insecure_port(f"[::]:{sys.argv[1]}")
    server.start()
    print(json.dumps({"said": "serving"}), flush=True)
    for line in sys.stdin:
        health.answer = ANSWERS[json.loads(line)["do"]]
