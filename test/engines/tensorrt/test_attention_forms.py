"""Which forms of attention TensorRT-RTX compiles to different kernels, read in the kernels that it
generates.
"""

import re
from dataclasses import replace

import pytest
import torch

from vit_perception.engines.engine import EngineSpec
from vit_perception.engines.reference import graph_of
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.build import BuildOptions, build_engine
from vit_perception.engines.tensorrt.engine import ATTENTION_FORMS, TensorrtEngine, attention_forms
from vit_perception.files.log import SILENT
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

needs_rtx = pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"),
    reason="tensorrt-rtx-cu13-libs and -bindings are not installed",
)


@pytest.fixture(scope="module")
def wide_source(loaded, tmp_path_factory):
    """One block with two heads that are 64 wide, as in every model that robots run: narrow ones are
    not fused.
    """
    torch.manual_seed(0)
    model = VisionTransformer(replace(VARIANTS["test"], width=128, heads=2, depth=1)).eval()
    return EngineSource(
        graph_of(replace(loaded, model=model)), 1, folder=tmp_path_factory.mktemp("engines")
    )


def sums_of_fused_attention(source, precision, form):
    """The type that the fused kernels of an engine for an RTX 40 sum in, e.g. {"FP32"}: their
    source is in the file.
    """
    content = build_engine(
        source.onnx_file(precision, form).path, BuildOptions("tensorrt_rtx", ("8.9",)), SILENT
    )
    found = re.findall(rb"initialize\(DATA_TYPE_\w+, DATA_TYPE_\w+, DATA_TYPE_(\w+),", content)
    return {kind.decode() for kind in found}


@needs_rtx
def test_forms_are_left_out_where_the_compiler_makes_no_difference_and_nowhere_else(wide_source):
    """float16 sums in float16 unless it is told otherwise; bfloat16 does not, so that telling it
    changes nothing.
    """
    version = tensorrt_api.load_api("tensorrt_rtx").__version__
    for precision in ("float16", "bfloat16"):
        half, told = (
            sums_of_fused_attention(wide_source, precision, form)
            for form in ("half", "float32_softmax")
        )
        assert half and told == {"FP32"}, "the compiler says it in another way now: look again"
        left_out = "float32_softmax" not in attention_forms("tensorrt_rtx", version, precision)
        assert half == told or not left_out, (version, precision, half, told)
        if version.startswith("1.7."):
            assert left_out == (half == told), (precision, half, told)


@needs_rtx
def test_an_engine_tries_only_the_forms_that_differ():
    engine, spec = TensorrtEngine("tensorrt_rtx"), EngineSpec(1, (64, 64), "float16")
    assert [attempt.attention for attempt in engine.attempts(spec)] == list(ATTENTION_FORMS)
    if tensorrt_api.load_api("tensorrt_rtx").__version__.startswith("1.7."):
        assert [a.attention for a in engine.attempts(replace(spec, precision="bfloat16"))] == [
            "half",
            "float32",
        ]


def test_of_other_versions_and_of_tensorrt_nothing_is_known_and_all_forms_are_tried():
    for flavour, version in (
        ("tensorrt", "1.7.1"),
        ("tensorrt", "10.3.0"),
        ("tensorrt_rtx", "1.8.0"),
        ("tensorrt_rtx", "1"),
    ):
        assert attention_forms(flavour, version, "bfloat16") == ATTENTION_FORMS
    assert attention_forms("tensorrt_rtx", "1.7.1.116", "bfloat16") == ("half", "float32")
    assert attention_forms("tensorrt_rtx", "1.7.1.116", "float16") == ATTENTION_FORMS
    assert attention_forms("tensorrt_rtx", "1.7.1.116", "float32") == ("half",)
