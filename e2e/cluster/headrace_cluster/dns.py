"""The cluster's name server: addresses of Services, headless Services and named endpoints, over UDP and TCP.

Records follow the Kubernetes DNS specification for A records (NAME.NAMESPACE.svc.cluster.local). The node has no way
out, so that every other name does not exist.
"""

import argparse
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace_cluster.api import Api

ZONE = "svc.cluster.local"
_TTL_S = 2  # short, so that clients see endpoints come and go
_TYPE_A, _CLASS_IN = 1, 1
_OK, _NO_SUCH_NAME = 0, 3
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0400, 0x0200, 0x0100
# RFC 1035: what a client takes over UDP unless it says otherwise; a longer answer makes it ask again over TCP.
_UDP_BYTES = 512
_SERVICES = "/api/v1/services"
_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"

Objects = Mapping[tuple[str, str], Mapping[str, Any]]
Records = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """The first question of a DNS message."""

    identifier: bytes
    flags: int
    name: str
    kind: int
    section: bytes


def parse(message: bytes) -> Question:
    """Read a query; raises ValueError for anything that isn't one."""
    try:
        flags, count = struct.unpack_from("!HH", message, 2)
        labels, at = [], 12
        while length := message[at]:
            labels.append(message[at + 1 : at + 1 + length].decode("ascii").lower())
            at += 1 + length
        kind, _ = struct.unpack_from("!HH", message, at + 1)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"not a DNS query: {error}") from error
    if count != 1 or flags & _RESPONSE:
        raise ValueError("not a DNS query with one question")
    return Question(message[:2], flags, ".".join(labels), kind, message[12 : at + 5])


def respond(question: Question, records: Records, *, limit: int | None) -> bytes:
    """The answer from `records`; one longer than `limit` bytes says so instead of carrying addresses."""
    addresses = records.get(question.name)
    code = _NO_SUCH_NAME if addresses is None else _OK
    answers = [
        b"\xc0\x0c" + struct.pack("!HHIH", _TYPE_A, _CLASS_IN, _TTL_S, 4) + socket.inet_aton(address)
        for address in (addresses or ())
        if question.kind == _TYPE_A
    ]
    flags = _RESPONSE | _AUTHORITATIVE | (question.flags & _RECURSION_DESIRED) | code
    if limit is not None and 12 + len(question.section) + sum(map(len, answers)) > limit:
        flags, answers = flags | _TRUNCATED, []
    header = question.identifier + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0)
    return header + question.section + b"".join(answers)


def records(services: Objects, slices: Objects) -> Records:
    """The A records of these Services and EndpointSlices, keyed by (namespace, name)."""
    found: dict[str, list[str]] = {}
    headless = set()
    for (namespace, name), service in services.items():
        address = service["spec"].get("clusterIP")
        if address == "None":
            headless.add((namespace, name))
        found[f"{name}.{namespace}.{ZONE}"] = [address] if address and address != "None" else []
    for (namespace, _), endpoint_slice in slices.items():
        owner = endpoint_slice["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
        if (namespace, owner) not in headless or endpoint_slice.get("addressType") != "IPv4":
            continue
        for endpoint in endpoint_slice.get("endpoints") or []:
            if endpoint.get("conditions", {}).get("ready") is False:  # absent means ready, by the API's definition
                continue
            found[f"{owner}.{namespace}.{ZONE}"].extend(endpoint["addresses"])
            if hostname := endpoint.get("hostname"):
                found.setdefault(f"{hostname}.{owner}.{namespace}.{ZONE}", []).extend(endpoint["addresses"])
    return {name: tuple(dict.fromkeys(addresses)) for name, addresses in found.items()}


class Table:
    """The current records, kept up to date by one watch per kind."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._objects: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {_SERVICES: {}, _SLICES: {}}
        self.records: Records = {}

    def start(self) -> None:
        """Follow both kinds in threads of their own."""
        for path in self._objects:
            threading.Thread(target=self._follow, args=(path,), daemon=True).start()

    def _follow(self, path: str) -> None:
        while True:
            try:
                listed = self._api.call("GET", path)
                self._replace(path, {_key(item): item for item in listed["items"]})
                for event in self._api.watch(path, listed["metadata"]["resourceVersion"]):
                    if event["type"] == "ERROR":
                        break
                    self._change(path, event)
            except (OSError, ValueError) as error:
                print(f"{path}: {error}; listing again", flush=True)
                time.sleep(0.5)

    def _replace(self, path: str, objects: dict[tuple[str, str], Mapping[str, Any]]) -> None:
        with self._lock:
            self._objects[path] = objects
            self.records = records(self._objects[_SERVICES], self._objects[_SLICES])

    def _change(self, path: str, event: Mapping[str, Any]) -> None:
        changed = dict(self._objects[path])
        if event["type"] == "DELETED":
            changed.pop(_key(event["object"]), None)
        else:
            changed[_key(event["object"])] = event["object"]
        self._replace(path, changed)


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def serve(listen: str, table: Table) -> None:
    """Answer on port 53 over UDP and TCP until killed."""

    class OverUdp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            message, reply_to = self.request
            try:
                answer = respond(parse(message), table.records, limit=_UDP_BYTES)
            except ValueError:
                return
            reply_to.sendto(answer, self.client_address)

    class OverTcp(socketserver.StreamRequestHandler):
        timeout = 5.0

        def handle(self) -> None:
            length = int.from_bytes(self.rfile.read(2), "big")
            try:
                answer = respond(parse(self.rfile.read(length)), table.records, limit=None)
            except ValueError:
                return
            self.wfile.write(len(answer).to_bytes(2, "big") + answer)

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    tcp = socketserver.ThreadingTCPServer((listen, 53), OverTcp)
    threading.Thread(target=tcp.serve_forever, daemon=True).start()
    with socketserver.UDPServer((listen, 53), OverUdp) as udp:
        udp.serve_forever()


def main() -> None:
    """Entry point of the component."""
    parser = argparse.ArgumentParser()
    for option in ("listen", "api"):
        parser.add_argument(f"--{option}", required=True)
    for option in ("ca", "certificate", "key"):
        parser.add_argument(f"--{option}", required=True, type=Path)
    options = parser.parse_args()
    table = Table(Api(options.api, ca=options.ca, certificate=options.certificate, key=options.key))
    table.start()
    serve(options.listen, table)


if __name__ == "__main__":
    main()
