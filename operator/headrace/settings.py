"""Settings of the operator process, from the environment (`HEADRACE_<FIELD>`): each with unit, default and why."""

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headrace.autoscaler.limits import LEAST_WINDOW_S

PREFIX = "HEADRACE_"
LISTS = {"namespaces", "metrics_namespaces"}  # comma-separated in the environment


class SettingsError(ValueError):
    """The environment holds something the operator can't start with. The message names the variable and the mend."""


class Settings(BaseModel):
    """Immutable once read. Durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    # Where
    namespaces: tuple[str, ...] = ()
    """Namespaces to serve, comma-separated in the environment; empty: all. Named ones need only namespaced RBAC."""
    operator_namespace: str = "headrace-system"
    """Where the Lease lives. Pods set it from their own namespace (downward API)."""
    identity: str = Field(default_factory=lambda: f"{socket.gethostname()}_{secrets.token_hex(4)}")
    """Name of this process in the Lease: host (in a pod, the pod) and a suffix, as two processes may share a host."""
    prometheus_url: str | None = None
    """Base URL of Prometheus. None: signals come from the engines alone."""
    metrics_namespaces: tuple[str, ...] = ("monitoring",)
    """Namespaces whose pods may read engines' metrics, comma-separated: where common Prometheus charts install."""

    # Images
    engine_image: str = "headrace/engine:dev"
    """Default of spec.engine.image."""
    gateway_image: str = "headrace/gateway:dev"
    """Default of spec.gateway.image."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """Engine images have tens of gigabytes: pulling one again at every start would cost minutes."""

    startup_deadline_s: int = Field(1800, ge=60)
    """An engine not up by then is restarted. 64 GB of weights at 1 Gbit/s take 9 minutes, loading them some more."""

    # Autoscaling
    autoscale_interval_s: float = Field(5.0, gt=0)
    """One tick. Bursts of inference traffic last tens of seconds; reading an engine more often costs it steps."""
    scale_down_window_s: float | None = Field(None, ge=0)
    """The lower need must have held this long before a replica goes; none: ten minutes, or two start-ups if longer."""
    restart_hold_s: float = Field(300.0, ge=0)
    """After the operator's own start nothing scales down: there is no history yet to say that it is safe."""
    max_starting: int = Field(0, ge=0)
    """Engines that may start at one time in the whole cluster; 0: no bound. Set it where starts share few cores."""
    drain_deadline_s: float = Field(600.0, gt=0)
    """A draining engine that is not idle by then is ended, and the loss recorded. Longer than nearly all streams."""

    @property
    def floor_s(self) -> float:
        """How long somebody else's write to replicas is kept as a floor: one window."""
        return LEAST_WINDOW_S if self.scale_down_window_s is None else self.scale_down_window_s

    decision_log_dir: str = ""
    """Folder of the decision log that `headrace replay` reads; empty: none is written."""
    decision_log_bytes: int = Field(128 * 2**20, ge=2**20)
    """Size of that log in all: five hours of one service with four busy engines, or an hour of five such services."""

    # Lease: client-go's values, known to suit API servers that are slow for seconds at a time
    lease_name: str = "headrace-operator"
    """Name of the Lease."""
    lease_duration_s: float = Field(15.0, gt=0)
    """A follower takes over when the Lease was not renewed for so long, by the follower's own clock."""
    lease_renew_deadline_s: float = Field(10.0, gt=0)
    """The leader stops writing when its last renewal is older than this. The rest of the lease is for ending."""
    lease_retry_s: float = Field(2.0, gt=0)
    """Between two tries to renew or to acquire."""

    # Loops
    resync_s: float = Field(300.0, gt=0)
    """Every service is reconciled, and stores replaced from a LIST, this often: the net under lost watch events."""
    workers: int = Field(8, ge=1)
    """Services reconciled at one time. A pass waits for the API server most of its time."""
    backoff_base_s: float = Field(0.5, gt=0)
    """Delay after a key's first failure; doubles with each further one."""
    backoff_max_s: float = Field(120.0, gt=0)
    """The longest delay between two tries of one key: a mended cluster is picked up within two minutes."""
    queue_rate: float = Field(20.0, gt=0)
    """Passes started per second at most (bursts of one second's worth): keeps a storm of events off the API server."""
    watch_stale_s: float = Field(60.0, gt=0)
    """/healthz fails when the watch on our own Lease was silent for so long. Renewals come every lease_retry_s."""
    shutdown_s: float = Field(20.0, gt=0)
    """Time for running passes to end on SIGTERM, below the 30 s that the kubelet allows."""

    # API server
    request_timeout_s: float = Field(10.0, gt=0)
    """One request. A healthy API server answers in milliseconds; a write must not outlive the lease."""
    request_deadline_s: float = Field(30.0, gt=0)
    """One call including its retries; then the work queue's back-off takes over."""
    max_requests: int = Field(24, ge=1)
    """Requests in flight at one time: within what API priority and fairness gives one client."""

    # Serving and logging
    listen_host: str = "0.0.0.0"  # noqa: S104  the kubelet and Prometheus come from outside the pod
    """Address of /metrics, /healthz and /readyz."""
    listen_port: int = Field(8081, ge=0, le=65535)
    """Port of the same; 0 takes a free one (tests)."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Records below it are dropped."""

    @model_validator(mode="after")
    def _lease_times_leave_room(self) -> Self:
        """A leader must be sure to have stopped before a follower may start."""
        if not self.lease_retry_s < self.lease_renew_deadline_s < self.lease_duration_s:
            raise ValueError("lease_retry_s < lease_renew_deadline_s < lease_duration_s must hold")
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read HEADRACE_* variables; unknown ones are ignored, empty ones count as unset.

        Raises SettingsError naming each variable that is wrong and what was expected.
        """
        environ = os.environ if environ is None else environ
        raw: dict[str, object] = {}
        for name in cls.model_fields:
            text = environ.get(PREFIX + name.upper(), "")
            if text:
                raw[name] = tuple(filter(None, text.replace(" ", "").split(","))) if name in LISTS else text
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        variable = PREFIX + str(item["loc"][0]).upper() if item["loc"] else "HEADRACE_LEASE_*"
        lines.append(f"{variable}={item['input']!r}: {item['msg']}" if item["loc"] else f"{variable}: {item['msg']}")
    return "; ".join(lines)
