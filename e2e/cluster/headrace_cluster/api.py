"""A minimal client of the Kubernetes API: JSON over HTTPS with a client certificate, watches as lines."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Every call is small and local; a stuck one must not stop a readiness gate for long.
_TIMEOUT_S = 5.0
# The API server ends a watch after this time, and a connection that died unseen is noticed a little later.
_WATCH_S = 60
FIELD_MANAGER = "headrace-cluster"


class Api:
    """The API server at `server`, as the user of the certificate."""

    def __init__(self, server: str, *, ca: Path, certificate: Path, key: Path) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(certificate, key)
        # No proxy: the address is this machine's own, whatever the environment says about proxies.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        self._server = server

    def _request(self, method: str, path: str, body: object | None, content_type: str) -> urllib.request.Request:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": content_type}
        return urllib.request.Request(self._server + path, data=data, headers=headers, method=method)

    def call(
        self, method: str, path: str, body: object | None = None, *, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """One request; raises urllib.error.HTTPError or OSError."""
        with self._opener.open(self._request(method, path, body, content_type), timeout=_TIMEOUT_S) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at `path`, or None while it can't be had (not there yet, server starting)."""
        try:
            return self.call("GET", path)
        except (OSError, ValueError):
            return None

    def ready(self) -> bool:
        """Does the API server call itself ready?"""
        try:
            with self._opener.open(self._request("GET", "/readyz", None, "text/plain"), timeout=_TIMEOUT_S):
                return True
        except OSError:
            return False

    def apply(self, path: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply of `manifest` to the collection at `path`."""
        name = manifest["metadata"]["name"]
        return self.call(
            "PATCH",
            f"{path}/{name}?fieldManager={FIELD_MANAGER}&force=true",
            manifest,
            content_type="application/apply-patch+yaml",  # JSON is YAML
        )

    def watch(self, path: str, version: str) -> Iterator[dict[str, Any]]:
        """Events of the collection at `path` after `version`, until the server ends the watch."""
        request = self._request(
            "GET", f"{path}?watch=true&resourceVersion={version}&timeoutSeconds={_WATCH_S}", None, "application/json"
        )
        with self._opener.open(request, timeout=_WATCH_S + _TIMEOUT_S) as response:
            for line in response:
                yield json.loads(line)


def reason(error: urllib.error.HTTPError) -> str:
    """The API server's own words about a refused request."""
    try:
        return str(json.loads(error.read())["message"])
    except (ValueError, KeyError):
        return str(error)
