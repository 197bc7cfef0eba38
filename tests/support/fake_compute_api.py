"""Compute Engine on loopback: the REST calls that launchers (and gcloud) make."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.fake_cloud import PARTS, Cloud, Lost, Thing

USUAL = ["PROVISIONING", "STAGING", "RUNNING"]
KINDS = {
    "instances": "instance",
    "instanceGroupManagers": "instance group",
    "instanceTemplates": "template",
    "resourcePolicies": "workload policy",
}


class Refusal(Exception):
    """An HTTP error, with its code, reason and message."""


class _Compute:
    """The calls, by the words of their paths."""

    def __init__(self, cloud: Cloud):
        self.cloud = cloud

    def answer(self, method: str, path: str, query: Any, body: Any) -> Any:
        words = path.partition("/projects/")[2].split("/")
        if words[1:3] == ["global", "images"]:  # gcloud looks at the image and the zone
            return {"name": words[-1], "selfLink": path, "diskSizeGb": "10"}
        if "operations" in words:  # of a zone, a region or of all, as gcloud thinks
            return self._operation(words[words.index("operations") + 1])
        rest = words[3:]  # after the project, zones|regions and the name of that
        if not rest:
            return {"name": words[-1], "status": "UP"}
        kind = KINDS[rest[0]]
        if method == "DELETE":
            return self._delete(kind, rest[1], path)
        if len(rest) == 1:
            if method == "GET":
                return self._list(kind, query)
            return self._insert(kind, body, path)
        if rest[2:] == ["listManagedInstances"]:
            return self._members(rest[1])
        return self._shown(self._find(kind, rest[1]))

    def _find(self, kind: str, name: str) -> Thing:
        thing = self.cloud.things.get((kind, name))
        if thing is None:
            raise Refusal(404, "notFound", f"The resource '{name}' was not found")
        return thing

    def _insert(self, kind: str, body: Any, path: str) -> Any:
        name = body["name"]
        if (kind, name) in self.cloud.things:
            raise Refusal(409, "alreadyExists", f"'{name}' already exists")
        part = kind in PARTS
        if kind == "instance group":
            for needed in PARTS:
                self._find(needed, name)
        thing = self.cloud.make(kind, name, body, ["READY"] if part else USUAL)
        if part:
            thing.life = ["READY"]
            self.cloud.things[kind, name] = thing
        if thing.life == ["quota"]:
            text = "Quota 'TPUS_PER_TPU_FAMILY' exceeded.  Limit: 0.0 in us-east5."
            raise Refusal(403, "quotaExceeded", text)
        if thing.life == ["denied"]:
            del self.cloud.things[kind, name]
            raise Refusal(403, "forbidden", "Required 'compute.instances.create'")
        errors = []
        if thing.life == ["stockout"]:
            text = "The zone does not have enough resources available"
            errors = [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": text}]
        return self._started(name, errors, f"{path}/{name}")

    def _started(self, name: str, errors: list[Any], path: str) -> Any:
        operation = {
            "kind": "compute#operation",
            "name": f"operation-{len(self.cloud.operations)}-{name}",
            "status": "DONE",
            "progress": 100,
            "operationType": "insert",
            "targetLink": f"https://www.googleapis.com{path}",
        }
        operation |= {"error": {"errors": errors}} if errors else {}
        self.cloud.operations[operation["name"]] = operation
        return operation | {"status": "RUNNING", "error": {"errors": []}}

    def _operation(self, name: str) -> Any:
        return self.cloud.operations[name]

    def _delete(self, kind: str, name: str, path: str) -> Any:
        self._find(kind, name)
        if kind != "instance group" and ("instance group", name) in self.cloud.things:
            text = f"'{name}' is already being used by its group"
            raise Refusal(400, "resourceInUseByAnotherResource", text)
        self.cloud.delete(kind, name)
        if kind in PARTS:
            self.cloud.things.pop((kind, name), None)
        return self._started(name, [], path)

    def _list(self, kind: str, query: Any) -> Any:
        if kind in PARTS:
            found = [t for t in self.cloud.things.values() if t.kind == kind]
            return {"items": [self._shown(thing) for thing in found]}
        items = [self._shown(thing) for thing in self.cloud.look(kind)]
        if kind == "instance":
            items += [
                host
                for group in self.cloud.things.values()
                if group.kind == "instance group"
                for host in self._hosts(group)
                if host["status"]
            ]
        return {"items": [item for item in items if _chosen(item, query)]}

    def _shown(self, thing: Thing) -> Any:
        state = thing.state if thing.looks is None else "STOPPING"
        extra = {"status": state} if thing.kind == "instance" else {}
        if thing.kind == "instance group":
            extra = {"status": {"isStable": state == "RUNNING"}}
        return thing.body | extra

    def _hosts(self, group: Thing) -> list[Any]:
        """The hosts of a group; "LOST" is a group that has lost one of them."""
        template = self.cloud.things["template", group.name].body["properties"]
        size = group.body["targetSize"]
        state = group.state if group.looks is None else "STOPPING"
        states = ["RUNNING"] * size if state == "LOST" else [state] * size
        if state == "LOST":
            states[0] = "TERMINATED"
        if state == "STAGING":  # the first look finds no instance yet
            states = [""] * size
        return [
            {
                "name": f"{group.body['baseInstanceName']}-{number:04d}",
                "labels": template["labels"],
                "status": one,
            }
            for number, one in enumerate(states)
        ]

    def _members(self, name: str) -> Any:
        group = self._find("instance group", name)
        members = []
        for host in self._hosts(group):
            action = "NONE"
            if not host["status"] or host["status"] in ("PROVISIONING", "PENDING"):
                action = "CREATING"
            if group.looks is not None:
                action = "DELETING"
            members.append(
                {
                    "instance": f"https://compute/{host['name']}",
                    "instanceStatus": host["status"] or "PENDING",
                    "currentAction": action,
                }
            )
        return {"managedInstances": members}


def _chosen(item: Any, query: Any) -> bool:
    """Whether a thing has the label that a filter asks for."""
    label = re.fullmatch(r'labels\.([\w-]+)="([\w-]+)"', query.get("filter", [""])[0])
    return not label or item.get("labels", {}).get(label[1]) == label[2]


@contextlib.contextmanager
def serve(cloud: Cloud) -> Iterator[str]:
    """Serves the cloud; yields host:port."""
    compute = _Compute(cloud)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: the second of two waits for the launcher's system
        # to acknowledge the first.
        wbufsize = -1

        def _answer(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            query = parse_qs(url.query)
            do = lambda: compute.answer(self.command, url.path, query, body)
            kind = url.path.partition("/projects/")[2].split("/", 3)[-1].split("/")[0]
            try:
                code, reply = 200, cloud.call(f"compute {self.command} {kind}", do)
            except Lost:
                self.close_connection = True
                return  # the connection ends without a word
            except Refusal as error:
                code, reason, text = error.args
                errors = [{"reason": reason, "message": text}]
                reply = {"error": {"code": code, "message": text, "errors": errors}}
            out = json.dumps(reply).encode()
            with contextlib.suppress(ConnectionError):  # the launcher was killed
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *words: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *request: object) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a killed launcher's
                super().handle_error(*request)  # type: ignore[arg-type]

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
