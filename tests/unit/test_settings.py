"""Settings from the environment, and what a wrong one says."""

import pytest

from headrace.desired.settings import DesiredSettings
from headrace.loops.reconcile import desired_settings
from headrace.settings import Settings, SettingsError


def test_the_defaults_need_no_environment() -> None:
    settings = Settings.from_env({})
    assert settings.namespaces == ()
    assert (settings.lease_duration_s, settings.lease_renew_deadline_s, settings.lease_retry_s) == (15.0, 10.0, 2.0)


def test_variables_are_read_by_name_and_empty_ones_count_as_unset() -> None:
    environ = {"HEADRACE_NAMESPACES": "a, b", "HEADRACE_LISTEN_PORT": "", "HEADRACE_MAX_STARTING": "1", "PATH": "x"}
    settings = Settings.from_env(environ)
    assert (settings.namespaces, settings.listen_port, settings.max_starting) == (("a", "b"), 8081, 1)


def test_what_shapes_manifests_reaches_them() -> None:
    settings = Settings.from_env({"HEADRACE_METRICS_NAMESPACES": "a,b", "HEADRACE_STARTUP_DEADLINE_S": "90"})
    desired = desired_settings(settings)
    assert (desired.metrics_namespaces, desired.startup_deadline_s) == (("a", "b"), 90)
    assert desired_settings(Settings()) == DesiredSettings(), "both have the same defaults"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"HEADRACE_LISTEN_PORT": "http"}, "HEADRACE_LISTEN_PORT='http'.*integer"),
        ({"HEADRACE_AUTOSCALE_INTERVAL_S": "0"}, "HEADRACE_AUTOSCALE_INTERVAL_S='0'.*greater than 0"),
        ({"HEADRACE_LOG_LEVEL": "loud"}, "HEADRACE_LOG_LEVEL='loud'.*'debug'"),
        ({"HEADRACE_LEASE_RETRY_S": "20"}, "lease_retry_s < lease_renew_deadline_s < lease_duration_s"),
    ],
)
def test_a_wrong_variable_is_named_with_what_was_expected(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_env(environ)


def test_two_processes_on_one_host_have_two_identities() -> None:
    assert Settings().identity != Settings().identity


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
