import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_cluster import dns


def _query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"\x12\x34" + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def _addresses(answer: bytes, question: dns.Question) -> list[str]:
    count = struct.unpack_from("!H", answer, 6)[0]
    body = answer[12 + len(question.section) :]
    assert len(body) == 16 * count
    return [socket.inet_ntoa(body[16 * item + 12 : 16 * item + 16]) for item in range(count)]


def _ask(name: str, records: dns.Records, kind: int = 1, limit: int | None = None) -> tuple[int, list[str]]:
    question = dns.parse(_query(name, kind))
    answer = dns.respond(question, records, limit=limit)
    assert answer[:2] == b"\x12\x34"
    return struct.unpack_from("!H", answer, 2)[0], _addresses(answer, question)


SERVICES: dict[tuple[str, str], Any] = {
    ("default", "chat"): {"spec": {"clusterIP": "10.96.0.7"}},
    ("default", "chat-decode"): {"spec": {"clusterIP": "None"}},
}
SLICES: dict[tuple[str, str], Any] = {
    ("default", "chat-decode-x"): {
        "metadata": {"labels": {"kubernetes.io/service-name": "chat-decode"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.88.0.16"], "conditions": {"ready": True}, "hostname": "first"},
            {"addresses": ["10.88.0.17"], "conditions": {"ready": False}},
            {"addresses": ["10.88.0.18"], "conditions": {}},
        ],
    },
    ("default", "chat-x"): {
        "metadata": {"labels": {"kubernetes.io/service-name": "chat"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.88.0.19"]}],
    },
}
RECORDS = dns.records(SERVICES, SLICES)


def test_a_service_resolves_to_its_address() -> None:
    code, addresses = _ask("chat.default.svc.cluster.local", RECORDS)
    assert (code & 0xF, addresses) == (0, ["10.96.0.7"])


def test_a_headless_service_resolves_to_its_ready_endpoints() -> None:
    assert _ask("chat-decode.default.svc.cluster.local", RECORDS)[1] == ["10.88.0.16", "10.88.0.18"]
    assert _ask("first.chat-decode.default.svc.cluster.local", RECORDS)[1] == ["10.88.0.16"]


def test_names_are_matched_without_regard_to_case() -> None:
    assert _ask("Chat.Default.svc.cluster.LOCAL", RECORDS)[1] == ["10.96.0.7"]


def test_an_ipv6_question_about_a_known_name_has_an_empty_answer_rather_than_no_such_name() -> None:
    code, addresses = _ask("chat.default.svc.cluster.local", RECORDS, kind=28)
    assert (code & 0xF, addresses) == (0, [])


def test_an_unknown_name_does_not_exist() -> None:
    assert _ask("example.org", RECORDS)[0] & 0xF == 3


def test_an_answer_too_long_for_udp_asks_the_client_to_come_over_tcp() -> None:
    many = {"many.default.svc.cluster.local": tuple(f"10.88.1.{number}" for number in range(40))}
    code, addresses = _ask("many.default.svc.cluster.local", many, limit=512)
    assert code & 0x0200
    assert addresses == []
    assert len(_ask("many.default.svc.cluster.local", many)[1]) == 40


@given(st.binary(max_size=64))
def test_any_bytes_are_a_question_or_a_value_error(message: bytes) -> None:
    try:
        question = dns.parse(message)
    except ValueError:
        return
    assert dns.respond(question, RECORDS, limit=512)[:2] == message[:2]


def test_a_response_is_not_taken_for_a_question() -> None:
    query = bytearray(_query("chat.default.svc.cluster.local"))
    query[2] |= 0x80
    with pytest.raises(ValueError, match="one question"):
        dns.parse(bytes(query))
