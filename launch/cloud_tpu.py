"""Back end: the Cloud TPU API, whose queued resources serve v4 and v5e (and v5p, v6e).

A queued resource requests a slice and holds it; its one node has the same name. The API
gets fixes only: TPU7x and later exist on Compute Engine alone. It has no way to end a
machine after some hours, so the machine does that itself (startup.sh).

  docs.cloud.google.com/tpu/docs/queued-resources: the states of a queued resource.
  docs.cloud.google.com/tpu/docs/runtimes: the software version of each TPU type.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from launch import endpoints
from launch.machines import LABEL, MACHINE, Seen, State, Step, Want, reach

RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
_STATES: dict[str, State] = {
    "ACTIVE": "running",
    "DELETING": "ending",
    "FAILED": "ended",
    "SUSPENDING": "ended",
    "SUSPENDED": "ended",
}
# A node in one of these states does not come back, whatever its queued resource says.
_LOST = ("PREEMPTED", "TERMINATED", "STOPPED", "STOPPING")


@dataclasses.dataclass
class CloudTpu:
    """See `launch.machines.Api`.

    Attributes:
      pause: seconds before a lost reply is first asked for again.
    """

    project: str
    zone: str
    pause: float = 2.0
    name: str = "Cloud TPU"

    def __post_init__(self) -> None:
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            self._made = endpoints.tpu()
        return self._made

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}/locations/{self.zone}"

    def find(self, fleet: str) -> list[Seen]:
        """Queued resources of the fleet, and nodes that have none."""
        requests = reach("list queued resources", self._requests, self.pause)
        nodes = reach("list TPU nodes", self._nodes, self.pause)
        lost = {n.name for n in nodes if n.state.name in _LOST}
        seen = []
        for request in requests:
            for spec in request.tpu.node_spec:
                if spec.node.labels.get(LABEL) == fleet:
                    node = f"{self._parent}/nodes/{spec.node_id}"
                    seen.append(self._request(request, spec, node in lost))
        known = {thing.name for thing in seen}
        for node in nodes:
            name = node.name.rpartition("/")[2]
            if node.labels.get(LABEL) == fleet and name not in known:
                state: State = "ending" if node.state.name == "DELETING" else "ended"
                seen.append(self._seen(name, "node", state, node.state.name))
        return seen

    def _requests(self) -> list[Any]:
        listed = self._client.list_queued_resources(parent=self._parent, timeout=60.0)
        return list(listed)

    def _nodes(self) -> list[Any]:
        return list(self._client.list_nodes(parent=self._parent, timeout=60.0))

    def _request(self, request: Any, spec: Any, lost: bool) -> Seen:
        said = request.state.state.name
        state = _STATES.get(said, "waiting")
        if state == "running" and lost:
            state, said = "ended", "ACTIVE, its node is lost"
        why = request.state.failed_data.error.message
        name = request.name.rpartition("/")[2]
        return self._seen(name, "queued resource", state, said, why)

    def _seen(
        self, name: str, kind: str, state: State, said: str, why: str = ""
    ) -> Seen:
        return Seen(name, name, self.name, kind, state, said.lower(), why)

    def ask(self, want: Want) -> None:
        call = lambda: self._client.create_queued_resource(
            parent=self._parent,
            queued_resource_id=want.name,
            queued_resource=self._body(want),
            timeout=60.0,
        )
        reach(f"create queued resource {want.name}", call, self.pause, known=None)

    def _body(self, want: Want) -> Any:
        from google.cloud import tpu_v2

        assert want.accelerator is not None, "the head is not a TPU"
        kind = want.accelerator.name.partition("-")[0]
        node = tpu_v2.Node(
            accelerator_type=want.accelerator.name,
            runtime_version=RUNTIMES[kind],
            network_config={"enable_external_ips": True},
            labels={LABEL: want.fleet, MACHINE: want.name},
            metadata={"startup-script": want.script},
        )
        spec = {"parent": self._parent, "node_id": want.name, "node": node}
        until = {"seconds": max(60, round(3600 * want.wait_hours))}
        body = tpu_v2.QueuedResource(
            tpu={"node_spec": [spec]}, queueing_policy={"valid_until_duration": until}
        )
        if want.model == "spot":
            body.spot = tpu_v2.QueuedResource.Spot()
        return body

    def delete(self, thing: Seen) -> None:
        if thing.kind == "node":
            path = f"{self._parent}/nodes/{thing.name}"
            call = lambda: self._client.delete_node(name=path, timeout=60.0)
        else:
            path = f"{self._parent}/queuedResources/{thing.name}"
            call = lambda: self._client.delete_queued_resource(
                request={"name": path, "force": True}, timeout=60.0
            )
        reach(f"delete {thing.kind} {thing.name}", call, self.pause, known=None)

    def steps(self, want: Want) -> list[Step]:
        assert want.accelerator is not None, "the head is not a TPU"
        kind = want.accelerator.name.partition("-")[0]
        minutes = max(1, round(60 * want.wait_hours))
        words = (
            *("gcloud", "compute", "tpus", "queued-resources", "create", want.name),
            f"--node-id={want.name}",
            f"--accelerator-type={want.accelerator.name}",
            f"--runtime-version={RUNTIMES[kind]}",
            f"--valid-until-duration={minutes}m",
            f"--labels={LABEL}={want.fleet},{MACHINE}={want.name}",
            f"--metadata-from-file=startup-script={want.name}.sh",
            *(("--spot",) if want.model == "spot" else ()),
            f"--zone={self.zone}",
            f"--project={self.project}",
        )
        return [Step("tpu.googleapis.com v2 CreateQueuedResource", words)]

    def shell(self, machine: str, command: str) -> tuple[str, ...]:
        return (
            *("gcloud", "compute", "tpus", "tpu-vm", "ssh", machine, "--worker=all"),
            f"--command={command}",
            f"--zone={self.zone}",
            f"--project={self.project}",
        )
