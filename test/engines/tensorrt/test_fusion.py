"""That TensorRT-RTX really fuses attention: counted in what it builds, not in what it says it has
found.

What is counted: with detailed verbosity the build log lists the kernels of the engine, a line each
("Name: ..., LayerType: ..."). A fused attention is one kernel, `_gemm_mha_v2`, in the place of a
product, a softmax and a product. A softmax that is left on its own is a generated kernel named
after its steps, `MaxrSubExpSumDiv` (largest, subtract, exp, sum, divide). One of those is always
there: that of the CLS token's attention, which is computed again for people.

The lines "Found ... to be part of self-attention pattern" prove nothing: they stand there for every
form below, the ones without any fused kernel, too (checked here).
"""

import re
from dataclasses import replace

import pytest
import torch

from vit_perception.engines.reference import graph_of
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.build import BuildOptions, build_engine
from vit_perception.files.log import SILENT
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

pytestmark = pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"),
    reason="tensorrt-rtx-cu13-libs and -bindings are not installed",
)
BLOCKS = 2
ADA = BuildOptions("tensorrt_rtx", ("8.9",))


@pytest.fixture(scope="module")
def source_with(loaded, tmp_path_factory):
    """Heads -> a model of two blocks, 128 wide: two heads are 64 wide, as in every model that
    robots run.
    """

    def made(heads):
        torch.manual_seed(0)
        model = VisionTransformer(
            replace(VARIANTS["test"], width=128, heads=heads, depth=BLOCKS)
        ).eval()
        return EngineSource(
            graph_of(replace(loaded, model=model)), 1, folder=tmp_path_factory.mktemp("engines")
        )

    return made


@pytest.fixture
def build_log(monkeypatch):
    """ONNX file -> what TensorRT-RTX logs of its build, with the kernels of the engine."""
    api, plain, said = tensorrt_api.load_api("tensorrt_rtx"), tensorrt_api.set_flags, []

    def in_detail(api, config):
        plain(api, config)
        config.profiling_verbosity = api.ProfilingVerbosity.DETAILED

    monkeypatch.setattr(tensorrt_api, "set_flags", in_detail)
    monkeypatch.setattr(
        type(tensorrt_api.logger_of(api)),
        "log",
        lambda self, severity, message: said.append(message),
    )

    def build(onnx_path):
        said.clear()
        build_engine(onnx_path, ADA, SILENT)
        return "\n".join(said)

    return build


def fused_and_alone(log):
    """(fused attention kernels, softmaxes on their own) that the build log lists."""
    kernels = re.findall(r"^Name: (\S+), LayerType: ", log, re.MULTILINE)
    assert len(kernels) > 5 * BLOCKS, "the log lists the kernels in another way now: look again"
    return (
        sum(name.startswith("_gemm_mha") for name in kernels),
        sum("MaxrSubExpSumDiv" in name for name in kernels),
    )


@pytest.mark.parametrize(
    "heads, precision, attention, expected",
    [
        (2, "float16", "half", (BLOCKS, 1)),
        (2, "float16", "float32_softmax", (BLOCKS, 1)),
        (2, "bfloat16", "half", (BLOCKS, 1)),
        (2, "float16", "float32", (0, BLOCKS + 1)),  # what breaks it: casts around the two products
        (16, "float16", "half", (0, BLOCKS + 1)),  # heads 8 wide
    ],
)
def test_attention_is_one_kernel_a_block_or_none(
    source_with, build_log, heads, precision, attention, expected
):
    log = build_log(source_with(heads).onnx_file(precision, attention).path)
    assert fused_and_alone(log) == expected
    assert log.count("part of self-attention pattern") == 3 * BLOCKS
