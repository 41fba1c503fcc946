"""What int8 is worth on a CPU: found by OpenVINO's own kernels, and said."""

import numpy as np
import pytest

from vit_perception.engines.openvino.engine import OpenvinoEngine
from vit_perception.engines.openvino.int8_on_cpu import (
    comparison,
    interleaved_medians_ms,
    kernels_saturate,
    linear_layer_speed,
)

pytest.importorskip("openvino", reason="openvino is not installed")
needs_int8 = pytest.mark.skipif(
    "int8" not in OpenvinoEngine().status().precisions, reason="openvino has no int8 here"
)


@needs_int8
def test_kernels_saturate_only_without_vnni():
    """With the instructions nothing may saturate; without them it depends on the kernel that
    OpenVINO takes.
    """
    torch_cpu = pytest.importorskip("torch").cpu
    capabilities = getattr(torch_cpu, "get_capabilities", dict)()
    if not capabilities.get("avx512_vnni"):
        pytest.skip("this CPU has no AVX-512 VNNI: kernels may saturate or not")
    assert kernels_saturate() is False


@needs_int8
def test_the_speed_is_measured():
    int8_ms, float_ms = linear_layer_speed(rounds=2)
    assert 0 < int8_ms < np.inf and 0 < float_ms < np.inf


def test_slower_int8_is_a_warning_that_names_both_times():
    text, slower = comparison(194, 110, "float32", "one run of the encoder")
    assert slower and text.startswith(
        "int8 is slower than float32 here: one run of the encoder takes 194 ms in int8 "
        "and "
        "110 ms in float32"
    )
    text, slower = comparison(20, 50, "bfloat16", "one run of the encoder")
    assert not slower and text == (
        "one run of the encoder takes 20 ms in int8 and 50 ms in bfloat16 on this CPU: int8 is "
        "2.50 times "
        "as fast"
    )


def test_runs_take_turns_and_the_first_round_does_not_count():
    calls = []
    times_ms = interleaved_medians_ms(
        [lambda: calls.append("a"), lambda: calls.append("b")], rounds=3
    )
    assert calls == ["a", "b"] * 4 and len(times_ms) == 2 and all(t >= 0 for t in times_ms)


@needs_int8
def test_doctor_says_what_int8_is_worth():
    from vit_perception.cli.doctor import int8_advice

    assert "a chain of four ViT-S MLPs takes" in int8_advice("float32")
