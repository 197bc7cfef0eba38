"""The Cloud TPU API on loopback: a gRPC server of google.cloud.tpu.v2.Tpu."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.cloud import tpu_v2
from google.longrunning import operations_pb2

from tests.support.fake_cloud import Cloud, Lost, Thing

USUAL = ["CREATING", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
STATE = tpu_v2.QueuedResourceState


class _Tpu(grpc.GenericRpcHandler):
    def __init__(self, cloud: Cloud):
        self.cloud = cloud

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        request = getattr(tpu_v2, f"{name}Request")
        do = getattr(self, name)

        def answer(asked: Any, context: Any) -> Any:
            try:
                return self.cloud.call(f"tpu {name}", lambda: do(asked, context))
            except Lost:
                context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost")

        def write(reply: Any) -> bytes:
            if hasattr(reply, "SerializeToString"):
                return bytes(reply.SerializeToString())
            return bytes(type(reply).serialize(reply))

        return grpc.unary_unary_rpc_method_handler(answer, request.deserialize, write)

    def ListQueuedResources(self, asked: Any, context: Any) -> Any:
        found = self.cloud.look("queued resource")
        shown = [self._shown(thing) for thing in found]
        return tpu_v2.ListQueuedResourcesResponse(queued_resources=shown)

    def _shown(self, thing: Thing) -> Any:
        body = tpu_v2.QueuedResource(thing.body)
        state = thing.state if thing.looks is None else "DELETING"
        body.state = STATE(state=STATE.State[state])
        if state == "FAILED":
            body.state.failed_data = {"error": {"message": "no capacity in the zone"}}
        return body

    def ListNodes(self, asked: Any, context: Any) -> Any:
        nodes = []
        self.cloud.look("node")
        for thing in self.cloud.things.values():
            lost = thing.state in ("SUSPENDED", "NODE_LOST")
            if thing.kind == "queued resource" and (thing.state == "ACTIVE" or lost):
                spec = thing.body.tpu.node_spec[0]
                node = tpu_v2.Node(spec.node)
                node.name = f"{spec.parent}/nodes/{spec.node_id}"
                node.state = "PREEMPTED" if lost else "READY"
                nodes.append(node)
            elif thing.kind == "node":  # one without a queued resource
                nodes.append(thing.body)
        return tpu_v2.ListNodesResponse(nodes=nodes)

    def CreateQueuedResource(self, asked: Any, context: Any) -> Any:
        name = asked.queued_resource_id
        if ("queued resource", name) in self.cloud.things:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{name} already exists")
        body = tpu_v2.QueuedResource(asked.queued_resource)
        body.name = f"{asked.parent}/queuedResources/{name}"
        thing = self.cloud.make("queued resource", name, body, USUAL)
        if thing.life == ["quota"]:
            text = "Quota limit 'TPUV5sLitepodPerProject' has been exceeded"
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        if thing.life == ["denied"]:
            del self.cloud.things["queued resource", name]
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "tpu.nodes.create")
        return operations_pb2.Operation(name=f"operations/{name}")

    def DeleteQueuedResource(self, asked: Any, context: Any) -> Any:
        assert asked.force, "a queued resource with a node is deleted by force alone"
        return self._delete("queued resource", asked.name, context)

    def DeleteNode(self, asked: Any, context: Any) -> Any:
        return self._delete("node", asked.name, context)

    def _delete(self, kind: str, path: str, context: Any) -> Any:
        name = path.rpartition("/")[2]
        if not self.cloud.delete(kind, name):
            context.abort(grpc.StatusCode.NOT_FOUND, f"{path} was not found")
        return operations_pb2.Operation(name=f"operations/delete-{name}")


@contextlib.contextmanager
def serve(cloud: Cloud) -> Iterator[str]:
    """Serves the cloud; yields host:port."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=(_Tpu(cloud),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0)
