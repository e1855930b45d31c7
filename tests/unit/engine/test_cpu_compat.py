"""The stub of the GPU kernels: there on a CPU alone, and honest about what it has not."""

import importlib
import importlib.util
import sys
import types

import pytest

from headrace_engine import cpu_compat


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cpu_compat.DEVICE_VARIABLE, "cpu")
    monkeypatch.setitem(sys.modules, "sgl_kernel", types.ModuleType("sgl_kernel"))  # so that it is put back afterwards
    del sys.modules["sgl_kernel"]


@pytest.mark.usefixtures("no_kernels")
def test_on_a_cpu_the_kernels_can_be_imported() -> None:
    cpu_compat.install()
    assert importlib.import_module("sgl_kernel") is sys.modules["sgl_kernel"]
    assert importlib.util.find_spec("sgl_kernel") is not None  # libraries look for it before they import it


@pytest.mark.usefixtures("no_kernels")
def test_a_cpu_kernel_answers_and_raises_when_called() -> None:
    cpu_compat.install()
    kernel = importlib.import_module("sgl_kernel").weight_packed_linear_cpu
    with pytest.raises(RuntimeError, match=r"sgl_kernel\.weight_packed_linear_cpu needs the kernels of SGLang's CPU"):
        kernel(1, two=2)


@pytest.mark.usefixtures("no_kernels")
def test_any_other_name_is_missing_as_from_a_module_without_it() -> None:
    cpu_compat.install()
    with pytest.raises(AttributeError, match="sgl_kernel has no scalar_types on a CPU"):
        _ = importlib.import_module("sgl_kernel").scalar_types
    with pytest.raises(ImportError):
        importlib.import_module("sgl_kernel.flash_attn")


@pytest.mark.usefixtures("no_kernels")
def test_what_is_there_already_is_left_alone() -> None:
    real = types.ModuleType("sgl_kernel")
    sys.modules["sgl_kernel"] = real
    cpu_compat.install()
    assert sys.modules["sgl_kernel"] is real


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("device", ["cuda", None])
def test_elsewhere_nothing_is_installed(monkeypatch: pytest.MonkeyPatch, device: str | None) -> None:
    if device is None:
        monkeypatch.delenv(cpu_compat.DEVICE_VARIABLE)
    else:
        monkeypatch.setenv(cpu_compat.DEVICE_VARIABLE, device)
    cpu_compat.install()
    assert "sgl_kernel" not in sys.modules
