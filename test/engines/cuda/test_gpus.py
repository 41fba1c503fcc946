"""Which GPU: the setting, what is said of one that is not there, and (where there is one) that it
is the one used.
"""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from vit_perception.cli import doctor
from vit_perception.config.backends import BACKENDS
from vit_perception.config.settings import BadSetting, EngineSettings
from vit_perception.engines import select
from vit_perception.engines.available import make_engine
from vit_perception.engines.cuda import gpus
from vit_perception.engines.cuda.gpus import (
    Gpu,
    accepted_indices,
    gpu_count,
    list_gpus,
    named,
    on_gpu,
)
from vit_perception.engines.engine import EngineError, EngineSpec
from vit_perception.engines.onnxruntime_engine import OnnxruntimeEngine, providers
from vit_perception.engines.select import open_engine
from vit_perception.engines.torch_engine import TorchEngine
from vit_perception.engines.verified import open_verified

ORIN = Gpu("Orin", "8.7", 16, 61, 4096, True)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
no_gpu = pytest.mark.skipif(gpu_count() > 0, reason="this machine has an NVIDIA GPU")


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 (there is no GPU here)"),
        (1, "0 (there is one GPU here)"),
        (4, "0 to 3 (there are 4 GPUs here)"),
    ],
)
def test_what_is_accepted_says_how_many_gpus_there_are(count, text):
    assert accepted_indices(count) == text


@pytest.mark.parametrize(
    "settings",
    [
        EngineSettings(device=40),
        EngineSettings("torch", device=40),
        EngineSettings("tensorrt", device=40),
        EngineSettings("onnxruntime", provider="cuda", device=40),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_and_no_cpu_takes_its_place(loaded, settings):
    with pytest.raises(
        BadSetting,
        match=r"^parameter 'engine.device' is 40; accepted: 0.* \(there (is|are) .* GPUs? ",
    ):
        open_engine(settings, loaded, 1)


@pytest.mark.parametrize(
    "count, index, accepted",
    [(2, 2, r"0 to 1 \(there are 2 GPUs here\)"), (1, 1, r"0 \(there is one GPU here\)")],
)
def test_an_index_beyond_the_gpus_that_there_are_is_refused(
    loaded, monkeypatch, count, index, accepted
):
    monkeypatch.setattr(select, "gpu_count", lambda: count)
    with pytest.raises(BadSetting, match=f"'engine.device' is {index}; accepted: {accepted}"):
        open_engine(EngineSettings(device=index), loaded, 1)


def test_every_candidate_gets_the_index():
    assert {make_engine(row, 3).gpu_index for row in BACKENDS} == {3}
    assert {make_engine(row).gpu_index for row in BACKENDS} == {0}


def test_onnxruntime_is_given_the_index_on_a_gpu_and_nothing_on_the_cpu():
    assert providers("cpu", 0) == [("CPUExecutionProvider", {})]
    assert providers("cuda", 1) == [("CUDAExecutionProvider", {"use_tf32": "0", "device_id": "1"})]
    assert providers("tensorrt", 2) == [
        ("TensorrtExecutionProvider", {"device_id": "2"}),
        ("CUDAExecutionProvider", {"use_tf32": "0", "device_id": "2"}),
    ]


def test_a_gpu_has_its_index_in_its_name_where_it_is_not_the_first():
    assert named(ORIN, 0) == "Orin" and named(ORIN, 2) == "Orin (GPU 2)"
    assert str(ORIN) == "Orin, compute capability 8.7, 16 multiprocessors, 61 GiB"


def test_doctor_lists_every_gpu_with_the_index_that_the_setting_takes():
    assert doctor.gpu_lines(()) == []
    assert doctor.gpu_lines((ORIN, replace(ORIN, name="Thor"))) == [
        f"GPU 0        {ORIN}",
        "GPU 1        Thor, compute capability 8.7, 16 multiprocessors, 61 GiB",
    ]


def test_what_an_engine_depends_on_is_the_kind_of_gpu_not_its_memory():
    assert replace(ORIN, memory_gib=30).traits == ORIN.traits
    for change in (
        {"name": "Thor"},
        {"compute_capability": "8.6"},
        {"multiprocessors": 8},
        {"l2_cache_kib": 2048},
        {"integrated": False},
    ):
        assert replace(ORIN, **change).traits != ORIN.traits


@no_gpu
def test_without_a_gpu_none_is_listed_and_none_is_chosen():
    assert list_gpus() == ()
    with on_gpu(5):  # whoever asks for a GPU hears of it from find_gpu
        assert gpus.find_gpu()[0] is None


@pytest.mark.gpu
@needs_cuda
def test_on_a_gpu_the_index_beyond_the_last_is_refused_by_every_engine():
    count = torch.cuda.device_count()
    with pytest.raises(EngineError, match=rf"GPU {count} is asked for; accepted: 0"):
        on_gpu(count)
    engine = TorchEngine("cuda")
    engine.gpu_index = count
    assert f"GPU {count} is asked for" in engine.status().why_not
    assert (
        list_gpus()[0].name == torch.cuda.get_device_name(0)
        and len(list_gpus()) == count == gpu_count()
    )


@pytest.mark.gpu
@needs_cuda
def test_on_the_last_gpu_every_thread_runs_there_and_the_current_one_stays(source, pictures):
    """With two GPUs it shows more than with one: buffers, recording and replay have to be on the
    chosen one.
    """
    last, current = torch.cuda.device_count() - 1, torch.cuda.current_device()
    engine = TorchEngine("cuda")
    engine.gpu_index = last
    engine, report, _ = open_verified(engine, source, EngineSpec(2, (64, 64), "float16"), pictures)
    assert report.finite and torch.cuda.current_device() == current
    assert (
        engine.device == named(list_gpus()[last], last)
        and next(engine._graph.parameters()).device.index == last
    )
    first, outputs = engine.infer(pictures[:2]).cls_token.copy(), []
    thread = threading.Thread(
        target=lambda: outputs.append(engine.infer(pictures[:2]).cls_token.copy())
    )
    thread.start()
    thread.join(30)
    np.testing.assert_array_equal(outputs[0], first)
    assert torch.cuda.current_device() == current
    engine.close()


@pytest.mark.gpu
@needs_cuda
def test_onnxruntime_on_the_last_gpu_passes_the_gate(source, pictures):
    engine = OnnxruntimeEngine("cuda")
    engine.gpu_index = torch.cuda.device_count() - 1
    if not engine.status().found:
        pytest.skip(engine.status().why_not)
    open_verified(engine, source, EngineSpec(2, (64, 64), "float16"), pictures)[0].close()
