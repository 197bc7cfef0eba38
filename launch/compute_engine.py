"""Back end: Compute Engine, which serves TPU7x, v6e and v5p, and the head of a fleet.

One host is an instance. A slice of several hosts is a managed instance group in bulk
mode (all hosts or none) with a regional template and a workload policy that names the
topology; it is recovered only whole. The service deletes each machine when its run
duration is over, whether or not this program still runs.

  docs.cloud.google.com/compute/docs/tpus/tpu-machines: machine types and disks.
  docs.cloud.google.com/compute/docs/tpus/create-tpu-mig-multi-host-slice: the group.
  docs.cloud.google.com/compute/docs/instance-groups/about-bulk-mode: bulk mode and
    resize requests exclude each other, so the group's target size asks for the hosts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from launch import endpoints
from launch.machines import (
    LABEL,
    MACHINE,
    Refused,
    Seen,
    State,
    Step,
    Want,
    failure,
    reach,
)
from scaling.planning import hardware
from scaling.planning.hardware import Hardware

TYPES = {
    "v5p": "ct5p-hightpu-{}t",
    "v6e": "ct6e-standard-{}t",
    "tpu7x": "tpu7x-standard-{}t",
}
_TPU_IMAGES = "ubuntu-os-accelerator-images"
_V5_V6 = "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e"
_IMAGES = {
    "v5p": (_TPU_IMAGES, _V5_V6),
    "v6e": (_TPU_IMAGES, _V5_V6),
    "tpu7x": (_TPU_IMAGES, "ubuntu-accel-2404-amd64-tpu-tpu7x"),
    "head": ("ubuntu-os-cloud", "ubuntu-2404-lts-amd64"),
}
_DISKS = {"v5p": "pd-balanced", "head": "pd-balanced"}  # the others: hyperdisk
_DISK_GB = 100
HEAD_TYPE = "e2-standard-4"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# How long Compute Engine keeps a Flex-start request, at most.
_LONGEST_WAIT = 7200
_STATES: dict[str, State] = {
    "PENDING": "waiting",
    "PROVISIONING": "waiting",
    "STAGING": "waiting",
    "RUNNING": "running",
    "REPAIRING": "running",
    "PENDING_STOP": "ending",
    "STOPPING": "ending",
    "SUSPENDING": "ending",
    "DEPROVISIONING": "ending",
}


@dataclasses.dataclass
class ComputeEngine:
    """See `launch.machines.Api`.

    Attributes:
      pause: seconds before a lost reply is first asked for again.
    """

    project: str
    zone: str
    pause: float = 2.0
    name: str = "Compute Engine"

    def __post_init__(self) -> None:
        self._clients: dict[str, Any] = {}
        # The operation that makes each machine, until it is known how it ended.
        self._making: dict[str, str] = {}

    @property
    def region(self) -> str:
        return self.zone.rpartition("-")[0]

    # --- Looking ------------------------------------------------------------------

    def find(self, fleet: str) -> list[Seen]:
        tag = _tag(fleet)
        tagged = lambda things: [t for t in things if t.description == tag]
        groups = tagged(self._zonal("InstanceGroupManagersClient"))
        templates = tagged(self._regional("RegionInstanceTemplatesClient"))
        policies = tagged(self._regional("ResourcePoliciesClient"))
        names = {group.name for group in groups}
        seen = [self._group(group) for group in groups]
        for instance in self._zonal("InstancesClient", f'labels.{LABEL}="{fleet}"'):
            machine = instance.labels.get(MACHINE, instance.name)
            state = _STATES.get(instance.status, "ended")
            if machine in names:
                state = "part"  # its group is what is deleted
            why = instance.status_message
            seen.append(
                self._seen(
                    instance.name, machine, "instance", state, instance.status, why
                )
            )
        for kind, things in (("template", templates), ("workload policy", policies)):
            for thing in things:
                seen.append(
                    self._seen(thing.name, thing.name, kind, "part", "", after=True)
                )
        return [*seen, *self._refused(fleet)]

    def _group(self, group: Any) -> Seen:
        """A slice runs when all of its hosts do, and is lost when one of them is."""
        client = self._client("InstanceGroupManagersClient")
        call = lambda: list(
            client.list_managed_instances(
                project=self.project,
                zone=self.zone,
                instance_group_manager=group.name,
                timeout=60.0,
            )
        )
        gone: list[Any] = []
        members = reach(f"list hosts of {group.name}", call, self.pause, known=gone)
        states = [_member(member) for member in members]
        running = states.count("running")
        why = "; ".join(
            error.message
            for member in members
            for error in member.last_attempt.errors.errors
        )
        state: State = "waiting"
        if states and all(s == "ending" for s in states):
            state = "ending"
        elif "ended" in states or "ending" in states:
            state = "ended"
        elif running == group.target_size:
            state = "running"
        said = f"{running} of {group.target_size} hosts run"
        return self._seen(group.name, group.name, "instance group", state, said, why)

    def _refused(self, fleet: str) -> list[Seen]:
        """Machines whose making ended in an error since the last look."""
        found = []
        for machine, operation in list(self._making.items()):
            call = lambda operation=operation: self._client("ZoneOperationsClient").get(
                project=self.project, zone=self.zone, operation=operation, timeout=60.0
            )
            done = self._reach(f"look at {operation}", call, known=None)
            if done is not None and done.status.name != "DONE":
                continue
            del self._making[machine]
            why = _errors(done)
            if why and machine.startswith(f"{fleet}-"):
                error = failure(f"create {machine}: {why}")
                if not isinstance(error, Refused):
                    raise error
                found.append(
                    self._seen(machine, machine, "instance", "refused", "refused", why)
                )
        return found

    def _seen(
        self,
        name: str,
        machine: str,
        kind: str,
        state: State,
        said: str,
        why: str = "",
        after: bool = False,
    ) -> Seen:
        return Seen(name, machine, self.name, kind, state, said.lower(), why, after)

    def _zonal(self, client: str, chosen: str = "") -> list[Any]:
        request = {"project": self.project, "zone": self.zone, "filter": chosen}
        return self._list(client, request)

    def _regional(self, client: str) -> list[Any]:
        return self._list(client, {"project": self.project, "region": self.region})

    def _list(self, client: str, request: Mapping[str, str]) -> list[Any]:
        call = lambda: list(self._client(client).list(request=request, timeout=60.0))
        found: list[Any] = self._reach(f"list by {client}", call)
        return found

    # --- Asking -------------------------------------------------------------------

    def ask(self, want: Want) -> None:
        if want.accelerator is None or want.accelerator.hosts == 1:
            body = self._instance(want)
            self._insert("InstancesClient", want, instance_resource=body)
            return
        self._insert(
            "ResourcePoliciesClient",
            want,
            resource_policy_resource=self._policy(want, want.accelerator),
        )
        self._insert(
            "RegionInstanceTemplatesClient",
            want,
            instance_template_resource=self._template(want),
        )
        self._insert(
            "InstanceGroupManagersClient",
            want,
            instance_group_manager_resource=self._group_body(want, want.accelerator),
        )

    def _insert(self, client: str, want: Want, **body: Any) -> None:
        zonal = client in ("InstancesClient", "InstanceGroupManagersClient")
        where = {"zone": self.zone} if zonal else {"region": self.region}
        call = lambda: self._client(client).insert_unary(
            project=self.project, timeout=60.0, **where, **body
        )
        what = f"create {want.name} by {client}"
        operation = self._reach(what, call, known=None)
        if operation is None:  # made before, or by a try whose reply was lost
            return
        if why := _errors(operation):
            raise failure(f"{what}: {why}")
        if zonal:
            self._making[want.name] = operation.name
        else:
            self._await(what, operation.name)

    def _await(self, what: str, operation: str) -> None:
        """Waits for a part that the next call needs; the service waits up to 2 min."""
        call = lambda: self._client("RegionOperationsClient").wait(
            project=self.project, region=self.region, operation=operation, timeout=130.0
        )
        done = self._reach(what, call)
        if why := _errors(done):
            raise failure(f"{what}: {why}")

    def _instance(self, want: Want) -> Any:
        from google.cloud import compute_v1

        properties = self._properties(want)
        kind = properties.machine_type
        disk = properties.disks[0]
        size = disk.initialize_params.disk_type
        disk.initialize_params.disk_type = f"zones/{self.zone}/diskTypes/{size}"
        body = compute_v1.Instance(
            name=want.name,
            machine_type=f"zones/{self.zone}/machineTypes/{kind}",
            disks=properties.disks,
            labels=properties.labels,
            metadata=properties.metadata,
            network_interfaces=properties.network_interfaces,
            scheduling=properties.scheduling,
            service_accounts=properties.service_accounts,
        )
        if want.model == "flex-start":
            body.params = compute_v1.InstanceParams(
                request_valid_for_duration={"seconds": _wait_seconds(want)}
            )
        return body

    def _properties(self, want: Want) -> Any:
        """What an instance and a template of instances have in common."""
        from google.cloud import compute_v1

        project, family = _IMAGES[_kind(want)]
        scheduling = compute_v1.Scheduling(
            provisioning_model=_model(want),
            instance_termination_action="DELETE",
            max_run_duration={"seconds": _run_seconds(want)},
            on_host_maintenance="TERMINATE" if want.accelerator else "MIGRATE",
            automatic_restart=False,
        )
        return compute_v1.InstanceProperties(
            machine_type=_machine_type(want),
            labels={LABEL: want.fleet, MACHINE: want.name},
            metadata={"items": [{"key": "startup-script", "value": want.script}]},
            disks=[
                {
                    "boot": True,
                    "auto_delete": True,
                    "initialize_params": {
                        "source_image": f"projects/{project}/global/images/family/"
                        f"{family}",
                        "disk_size_gb": _DISK_GB,
                        "disk_type": _disk(want),
                    },
                }
            ],
            network_interfaces=[
                {
                    "network": "global/networks/default",
                    "access_configs": [{"name": "External NAT"}],
                }
            ],
            scheduling=scheduling,
            service_accounts=[{"email": "default", "scopes": [_SCOPE]}],
        )

    def _policy(self, want: Want, slice_: Hardware) -> Any:
        from google.cloud import compute_v1

        policy = compute_v1.ResourcePolicyWorkloadPolicy(
            type_="HIGH_THROUGHPUT", accelerator_topology=_topology(slice_)
        )
        return compute_v1.ResourcePolicy(
            name=want.name, description=_tag(want.fleet), workload_policy=policy
        )

    def _template(self, want: Want) -> Any:
        from google.cloud import compute_v1

        return compute_v1.InstanceTemplate(
            name=want.name,
            description=_tag(want.fleet),
            properties=self._properties(want),
        )

    def _group_body(self, want: Want, slice_: Hardware) -> Any:
        from google.cloud import compute_v1

        region = f"projects/{self.project}/regions/{self.region}"
        return compute_v1.InstanceGroupManager(
            name=want.name,
            description=_tag(want.fleet),
            base_instance_name=want.name,
            instance_template=f"{region}/instanceTemplates/{want.name}",
            target_size=slice_.hosts,
            target_size_policy={"mode": "BULK"},
            instance_lifecycle_policy={"default_action_on_failure": "DO_NOTHING"},
            resource_policies={
                "workload_policy": f"{region}/resourcePolicies/{want.name}"
            },
        )

    # --- Deleting -----------------------------------------------------------------

    def delete(self, thing: Seen) -> None:
        client, field, regional = {
            "instance": ("InstancesClient", "instance", False),
            "instance group": (
                "InstanceGroupManagersClient",
                "instance_group_manager",
                False,
            ),
            "template": ("RegionInstanceTemplatesClient", "instance_template", True),
            "workload policy": ("ResourcePoliciesClient", "resource_policy", True),
        }[thing.kind]
        where = {"region": self.region} if regional else {"zone": self.zone}
        call = lambda: self._client(client).delete_unary(
            project=self.project, timeout=60.0, **where, **{field: thing.name}
        )
        self._reach(f"delete {thing.kind} {thing.name}", call, known=None)

    # --- The same by hand ---------------------------------------------------------

    def steps(self, want: Want) -> list[Step]:
        name = want.name
        at = (f"--zone={self.zone}", f"--project={self.project}")
        service = "compute.googleapis.com v1"
        if want.accelerator is None or want.accelerator.hosts == 1:
            words = ("gcloud", "compute", "instances", "create", name)
            wait: tuple[str, ...] = ()
            if want.model == "flex-start":
                wait = (f"--request-valid-for-duration={_wait_seconds(want)}s",)
            return [
                Step(f"{service} instances.insert", (*words, *_flags(want), *wait, *at))
            ]
        region = f"projects/{self.project}/regions/{self.region}"
        tag = f"--description={_tag(want.fleet)}"
        policy = (
            *("gcloud", "compute", "resource-policies", "create", "workload-policy"),
            *(name, "--type=HIGH_THROUGHPUT", tag),
            f"--accelerator-topology={_topology(want.accelerator)}",
            f"--region={self.region}",
            f"--project={self.project}",
        )
        template = (
            *("gcloud", "compute", "instance-templates", "create", name, tag),
            *_flags(want),
            f"--instance-template-region={self.region}",
            f"--project={self.project}",
        )
        group = (
            *("gcloud", "compute", "instance-groups", "managed", "create", name, tag),
            f"--base-instance-name={name}",
            f"--template={region}/instanceTemplates/{name}",
            f"--size={want.accelerator.hosts}",
            "--target-size-policy-mode=bulk",
            "--default-action-on-vm-failure=do-nothing",
            f"--workload-policy={region}/resourcePolicies/{name}",
            *at,
        )
        return [
            Step(f"{service} resourcePolicies.insert", policy),
            Step(f"{service} regionInstanceTemplates.insert", template),
            Step(f"{service} instanceGroupManagers.insert", group),
        ]

    def shell(self, machine: str, command: str) -> tuple[str, ...]:
        return (
            *("gcloud", "compute", "ssh", machine, f"--command={command}"),
            f"--zone={self.zone}",
            f"--project={self.project}",
        )

    def _client(self, name: str) -> Any:
        if name not in self._clients:
            self._clients[name] = endpoints.compute(name)
        return self._clients[name]

    def _reach(self, what: str, call: Callable[[], Any], **known: None) -> Any:
        return reach(what, call, self.pause, **known)


def _tag(fleet: str) -> str:
    """The description of what can carry no label."""
    return f"{LABEL} fleet {fleet}"


def _kind(want: Want) -> str:
    return want.accelerator.name.partition("-")[0] if want.accelerator else "head"


def _machine_type(want: Want) -> str:
    if want.accelerator is None:
        return HEAD_TYPE
    chips = want.accelerator.chips // want.accelerator.hosts
    return TYPES[_kind(want)].format(chips)


def _disk(want: Want) -> str:
    return _DISKS.get(_kind(want), "hyperdisk-balanced")


def _model(want: Want) -> str:
    return want.model.replace("-", "_").upper()


def _run_seconds(want: Want) -> int:
    return int(3600 * want.hours)


def _wait_seconds(want: Want) -> int:
    return min(_LONGEST_WAIT, max(90, round(3600 * want.wait_hours)))


def _topology(slice_: Hardware) -> str:
    return hardware.topology(slice_).name.partition(":")[2]


def _flags(want: Want) -> tuple[str, ...]:
    project, family = _IMAGES[_kind(want)]
    return (
        f"--machine-type={_machine_type(want)}",
        f"--image-project={project}",
        f"--image-family={family}",
        f"--boot-disk-size={_DISK_GB}GB",
        f"--boot-disk-type={_disk(want)}",
        f"--provisioning-model={_model(want)}",
        "--instance-termination-action=DELETE",
        f"--max-run-duration={_run_seconds(want)}s",
        f"--maintenance-policy={'TERMINATE' if want.accelerator else 'MIGRATE'}",
        "--no-restart-on-failure",
        f"--labels={LABEL}={want.fleet},{MACHINE}={want.name}",
        f"--metadata-from-file=startup-script={want.name}.sh",
        f"--scopes={_SCOPE}",
    )


def _member(member: Any) -> State:
    if member.current_action in ("DELETING", "ABANDONING"):
        return "ending"
    if member.current_action.startswith(("CREATING", "RECREATING", "QUEUING")):
        return "waiting"
    return _STATES.get(member.instance_status, "ended")


def _errors(operation: Any) -> str:
    """What an operation says went wrong, "" where it went well or is forgotten."""
    errors = operation.error.errors if operation is not None else ()
    return "; ".join(f"{error.code}: {error.message}" for error in errors)
