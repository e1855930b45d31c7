"""Accelerators that Headrace knows: what a chip holds, moves and computes, and how a pod asks for it.

Bandwidth, memory and dense (not sparse) FLOP/s are the vendors' data-sheet peaks; what a real kernel reaches of them is
`headrace.catalog.measured`. Prices are indicative on-demand US list prices of late 2025: only their ratios matter, and
only to the order in which unlike accelerators are added and removed.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

GB = 10**9
TB_PER_S = 10**12
TFLOPS = 10**12


class UnknownAccelerator(LookupError):  # noqa: N818 - reads as what happened
    """`spec.accelerator` names no catalogue entry. The message lists the known ones and the nearest."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One chip. `flops` maps a dtype ("bf16", "fp8") to dense FLOP/s; a dtype that is absent runs at the bf16 rate."""

    name: str
    resource_name: str | None  # the extended resource a container asks for; None: plain CPU
    memory_bytes: int
    bandwidth_bytes_per_s: float
    flops: Mapping[str, float]
    price_per_hour: float  # USD
    node_selector: Mapping[str, str] = field(default_factory=dict)
    link_bytes_per_s: float = 25e9  # one chip's share of the network that carries KV between nodes (200 Gbit/s)
    notes: str = ""

    def flops_for(self, dtype: str) -> float:
        """Dense FLOP/s for a weight dtype. nvidia-h100: bf16 989e12, fp8 1979e12, unknown dtypes as bf16."""
        return self.flops.get(dtype, self.flops["bf16"])


def _nvidia(product: str) -> dict[str, str]:
    return {"nvidia.com/gpu.product": product}  # the label that NVIDIA's GPU feature discovery sets


_ENTRIES = (
    # NVIDIA H100 Tensor Core GPU data sheet, SXM5: 80 GB HBM3, 3.35 TB/s, 989/1,979 TFLOPS dense bf16/fp8.
    Accelerator(
        name="nvidia-h100",
        resource_name="nvidia.com/gpu",
        memory_bytes=80 * GB,
        bandwidth_bytes_per_s=3.35 * TB_PER_S,
        flops={"bf16": 989 * TFLOPS, "fp8": 1979 * TFLOPS},
        price_per_hour=3.0,
        node_selector=_nvidia("NVIDIA-H100-80GB-HBM3"),
        link_bytes_per_s=50e9,  # one 400 Gbit/s NIC a GPU in the reference systems
        notes="SXM5; the PCIe card has 2.0 TB/s and is not this entry",
    ),
    # NVIDIA H200 data sheet, SXM: 141 GB HBM3e, 4.8 TB/s, the H100's arithmetic.
    Accelerator(
        name="nvidia-h200",
        resource_name="nvidia.com/gpu",
        memory_bytes=141 * GB,
        bandwidth_bytes_per_s=4.8 * TB_PER_S,
        flops={"bf16": 989 * TFLOPS, "fp8": 1979 * TFLOPS},
        price_per_hour=3.8,
        node_selector=_nvidia("NVIDIA-H200"),
        link_bytes_per_s=50e9,
    ),
    # NVIDIA A100 data sheet, SXM4 80 GB: 2.039 TB/s, 312 TFLOPS dense bf16, no fp8.
    Accelerator(
        name="nvidia-a100",
        resource_name="nvidia.com/gpu",
        memory_bytes=80 * GB,
        bandwidth_bytes_per_s=2.039 * TB_PER_S,
        flops={"bf16": 312 * TFLOPS},
        price_per_hour=1.8,
        node_selector=_nvidia("NVIDIA-A100-SXM4-80GB"),
    ),
    # NVIDIA HGX B200 data sheet, per GPU: 180 GB HBM3e, 7.7 TB/s, 2.25/4.5/9 PFLOPS dense bf16/fp8/fp4.
    Accelerator(
        name="nvidia-b200",
        resource_name="nvidia.com/gpu",
        memory_bytes=180 * GB,
        bandwidth_bytes_per_s=7.7 * TB_PER_S,
        flops={"bf16": 2250 * TFLOPS, "fp8": 4500 * TFLOPS, "fp4": 9000 * TFLOPS},
        price_per_hour=5.5,
        node_selector=_nvidia("NVIDIA-B200"),
        link_bytes_per_s=50e9,
    ),
    # NVIDIA L40S data sheet: 48 GB GDDR6, 864 GB/s, 362/733 TFLOPS dense bf16/fp8.
    Accelerator(
        name="nvidia-l40s",
        resource_name="nvidia.com/gpu",
        memory_bytes=48 * GB,
        bandwidth_bytes_per_s=0.864 * TB_PER_S,
        flops={"bf16": 362 * TFLOPS, "fp8": 733 * TFLOPS},
        price_per_hour=1.2,
        node_selector=_nvidia("NVIDIA-L40S"),
        link_bytes_per_s=12.5e9,  # PCIe servers of this class usually carry 100 Gbit/s
    ),
    # NVIDIA A10 data sheet: 24 GB GDDR6, 600 GB/s, 125 TFLOPS dense bf16.
    Accelerator(
        name="nvidia-a10",
        resource_name="nvidia.com/gpu",
        memory_bytes=24 * GB,
        bandwidth_bytes_per_s=0.6 * TB_PER_S,
        flops={"bf16": 125 * TFLOPS},
        price_per_hour=0.75,
        node_selector=_nvidia("NVIDIA-A10"),
        link_bytes_per_s=12.5e9,
    ),
    # AMD Instinct MI300X data sheet: 192 GB HBM3, 5.3 TB/s, 1,307/2,615 TFLOPS dense bf16/fp8.
    Accelerator(
        name="amd-mi300x",
        resource_name="amd.com/gpu",
        memory_bytes=192 * GB,
        bandwidth_bytes_per_s=5.3 * TB_PER_S,
        flops={"bf16": 1307 * TFLOPS, "fp8": 2615 * TFLOPS},
        price_per_hour=2.5,
        node_selector={"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"},  # label of AMD's node labeller
        link_bytes_per_s=50e9,
    ),
    # Google Cloud TPU v5e documentation: 16 GB HBM2, 819 GB/s, 197 TFLOPS bf16, 394 TOPS int8 per chip.
    Accelerator(
        name="tpu-v5e",
        resource_name="google.com/tpu",
        memory_bytes=16 * GB,
        bandwidth_bytes_per_s=0.819 * TB_PER_S,
        flops={"bf16": 197 * TFLOPS, "int8": 394 * TFLOPS},
        price_per_hour=1.2,
        node_selector={"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice"},
        link_bytes_per_s=6.25e9,  # 50 Gbit/s of host network a chip
    ),
    # A few server cores: two channels of DDR5 and AVX-512. An order of magnitude, for development machines; the
    # calibration from the engine's own sums replaces it within seconds of load.
    Accelerator(
        name="cpu",
        resource_name=None,
        memory_bytes=8 * GB,
        bandwidth_bytes_per_s=0.04 * TB_PER_S,
        flops={"bf16": 0.2 * TFLOPS},
        price_per_hour=0.1,
        link_bytes_per_s=1.25e9,
        notes="no extended resource: the pod asks for cpu and memory",
    ),
)

ACCELERATORS: Mapping[str, Accelerator] = {entry.name: entry for entry in _ENTRIES}


def lookup(name: str) -> Accelerator:
    """The catalogue entry `name`. Raises UnknownAccelerator with the known names and the nearest match."""
    found = ACCELERATORS.get(name)
    if found is not None:
        return found
    near = difflib.get_close_matches(name.lower(), ACCELERATORS, n=1, cutoff=0.3)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownAccelerator(f"accelerator {name!r} is not in the catalogue.{hint} Known: {', '.join(ACCELERATORS)}.")
