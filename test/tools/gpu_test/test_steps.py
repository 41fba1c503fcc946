"""Each step runs on the CPU with tiny models, with torch and with frames as a GPU's; and each finds
what it is for.
"""

import json

import numpy as np
import pytest
import torch

from test.tools.gpu_test.conftest import Stream
from tools.gpu_test import fault_cases
from tools.gpu_test.inside import copies, differences, look_into
from tools.gpu_test.machine import STAND_IN
from tools.gpu_test.note import LeftOut
from tools.gpu_test.steps import (
    capture,
    connector,
    cycles,
    graph,
    marked,
    memory,
    neighbour,
    outputs,
    speeds,
    threads,
    weights,
)
from vit_perception.engines.parity_gate import parity_batch
from vit_perception.engines.reference import graph_of
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import EncoderOutput


def checked(note, step, *arguments):
    """What was checked, all of it well."""
    note.end(lambda: step(*arguments))
    assert note.result["status"] == "passed", note.result
    return [check["what"] for check in note.result["checks"]]


def test_towers_with_connectors_go_through_on_the_cpu(machine, note):
    found = checked(note, connector.run, machine, note)
    forms = connector.specs_of(32)
    assert len(found) == 2 * len(forms) * len(machine.runtimes[0].precisions())
    for form in forms:
        assert any(f"float32: {form}: tokens are" in what for what in found)


@pytest.mark.parametrize("step", [graph, outputs, threads, memory])
def test_a_step_goes_through_on_the_cpu(step, machine, note):
    assert all(
        what.startswith("torch on the CPU") for what in checked(note, step.run, machine, note)
    )


@pytest.mark.parametrize("step", [graph, outputs, threads])
def test_a_step_goes_through_with_frames_as_a_gpus(step, frames, note):
    assert all(what.startswith("frames ") for what in checked(note, step.run, frames, note))


def test_a_recording_that_fails_is_looked_at(machine, note):
    assert len(checked(note, capture.run, machine, note, "error")) == 7


def test_what_looks_into_tensorrt_fits_its_engine(stand_in, note):
    """The stand-in exports its model first, which takes some seconds."""
    runtime = stand_in.runtimes[0]
    with stand_in.opened(runtime, stand_in.random(), 1, "float32") as opened:
        inside, images = look_into(opened.engine), opened.two[0]
        before = copies(opened.engine.infer(images))
        assert not differences(copies(inside.eager_frame(images)), before) and not inside.is_graph()
        inside.poison()
        assert all(np.isnan(array).all() for array in copies(opened.engine._output).values())
        for stage in inside.stages().values():
            stage()
        assert not differences(copies(opened.engine._output), before)
    assert runtime.label == STAND_IN


def test_the_parts_of_a_frame_are_a_frame(frames):
    with frames.opened(frames.runtimes[0], frames.random(), 2, "float32") as opened:
        inside, (first, second) = look_into(opened.engine), opened.two
        assert inside.is_graph() and isinstance(inside.stream(), Stream)
        before = copies(opened.engine.infer(first))
        inside.poison()
        assert all(
            np.isnan(array).all() for array in copies(opened.engine._replay._output).values()
        )
        assert all(bool(output.isnan().all()) for output in opened.engine._replay._outputs)
        for stage in inside.stages().values():
            stage()
        assert not differences(copies(opened.engine._replay._output), before)
        inside.eager_frame(second)  # leaves the recorded outputs in their place
        assert not differences(copies(opened.engine.infer(first)), before)


def test_a_frame_that_gives_the_last_input_again_is_found(machine, note):
    """An engine that answers with what it had before: alternating inputs catch it, one input would
    not.
    """
    loaded, runtime = machine.random(), machine.runtimes[0]

    class Late(type(runtime.make())):
        last = None

        def _run(self, images):
            output = super()._run(images)
            self.last, given = output, self.last or output
            return given

    machine.__dict__["runtimes"] = (type(runtime)("late", lambda: Late("cpu")),)
    with pytest.raises(Exception, match="does not agree"):  # the gate is the first to see it
        with machine.opened(machine.runtimes[0], loaded, 1, "float32"):
            pass
    note.end(lambda: outputs.run(machine, note))
    assert note.result["status"] == "failed"


def test_differences_are_told_in_numbers():
    expected = {"cls_token": np.zeros((1, 4), np.float32)}
    assert differences({"cls_token": np.zeros((1, 4), np.float32)}, expected) == {}
    assert differences({"cls_token": np.array([[0, 0, 0.5, np.nan]], np.float32)}, expected) == {
        "cls_token": "2 of 4 numbers differ, by 0.5 at most; 1 are NaN"
    }
    assert differences({"cls_token": np.full((1, 4), -0.0, np.float32)}, expected)  # bit for bit
    assert "not ['cls_token']" in differences({}, expected)["outputs"]


def test_blocks_of_another_thread_that_were_overwritten_are_found():
    allocator = threads.Allocator("cpu")
    allocator.take(2)
    assert not allocator.overwritten()
    allocator.blocks[1][7] = 9
    assert allocator.overwritten() == "blocks [1] of 2 were overwritten"
    with pytest.raises(RuntimeError, match="overwritten"):
        allocator.take(1)


def test_growth_of_memory_is_found(machine, note, monkeypatch):
    sizes = iter([{"host": size << 20} for size in (100, 200, 300, 305, 306, 313)])
    monkeypatch.setattr(machine, "memory", lambda: next(sizes))
    note.end(lambda: cycles.run(machine, note))
    assert [(check["ok"], check["seen"]) for check in note.result["checks"]] == [
        (False, "13.0 MB more")
    ]


def test_the_largest_values_are_those_inside_the_model(machine):
    loaded = machine.random()
    whole = graph_of(loaded)
    images = torch.from_numpy(parity_batch(Preprocessor(loaded.card.rule), 1))
    found = weights.largest_values(whole, images)
    model, block = whole.model, whole.model.blocks[0]
    with torch.no_grad():
        tokens = model.embed((images.float() - 127.5) / 127.5)
        query, key = (
            block.attention._split_heads(part(block.norm_attention(tokens)))
            for part in (block.attention.query, block.attention.key)
        )
        logits = query @ key.transpose(2, 3) * block.attention.scale
        last = torch.cat(
            [
                model.intermediate(
                    (images[i : i + 1].float() - 127.5) / 127.5, range(model.config.depth)
                )[-1]
                for i in range(len(images))
            ]
        )
    assert found["attention_logit"] >= float(logits.abs().max()) * (1 - 1e-5) > 0
    assert found["residual"] >= max(float(tokens.abs().max()), float(last.abs().max())) * (1 - 1e-5)
    assert found["mlp"] > 0 and "class_logit" not in found
    assert all("_weights" not in vars(block.attention) for block in model.blocks)  # as it was


def test_real_weights_are_held_against_the_gate(machine, note, tiny_checkpoint):
    machine.checkpoint = str(tiny_checkpoint)
    passed = checked(note, weights.run, machine, note)
    assert (
        "float16 holds every value" in passed
        and sum("passes the gate" in what for what in passed) >= 1
    )
    assert note.result["figures"]["largest values"]["float16"] == 65504


def test_weights_that_cannot_be_had_are_left_out(machine, note):
    machine.checkpoint = "/no/such/folder"
    with pytest.raises(LeftOut, match="/no/such/folder.*--checkpoint names another"):
        weights.run(machine, note)


def test_marked_tests_are_counted_and_each_failure_told(tmp_path, note):
    mark = "@pytest.mark." + "gpu\n"
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        + mark
        + "def test_well():\n    pass\n"
        + mark
        + "def test_ill():\n    assert 1 == 2\n"
        + mark
        + "def test_not_here():\n    pytest.skip('no TensorRT')\ndef test_of_the_cpu():\n    "
        "assert False\n"
    )
    (tmp_path / "test_other.py").write_text("import rclpy_that_is_not_there\n")
    files = marked.files_with_marks(tmp_path)
    assert [path.name for path in files] == ["test_some.py"]
    marked.run_tests(files, tmp_path / "results.xml")
    marked.judge(note, tmp_path / "results.xml")
    assert note.result["figures"]["counts"] == {"passed": 1, "failed": 1, "skipped": 1}
    (failed,) = [check for check in note.result["checks"] if not check["ok"]]
    assert failed["what"].endswith("test_ill") and "assert 1 == 2" in failed["seen"]
    assert any("no TensorRT" in str(text) for text in note.result["figures"].values())


def test_speeds_of_a_frame_have_every_figure(machine, note):
    speeds.frames(machine, note, machine.runtimes[0], machine.random(), "test", 3)
    (row,) = note.result["rows"]
    assert (
        row["batch"] == 3
        and row["p99_ms"] >= row["p50_ms"] > 0
        and row["cpu_ms"] > 0
        and row["min_cosine"] > 0.999
    )


def test_the_graph_and_the_eager_frame_are_timed_and_their_stages(frames, note, monkeypatch):
    class Event:
        count = 0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            Event.count += 1
            self.at = Event.count

        def elapsed_time(self, other):
            return float(other.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    speeds.frames(frames, note, frames.runtimes[0], frames.random(), "test", 1)
    graphs, eager = note.result["rows"]
    assert (graphs["mode"], eager["mode"]) == ("graph", "eager")
    assert (graphs["upload_ms"], graphs["compute_ms"], graphs["download_ms"]) == (1.0, 1.0, 1.0)


def test_a_compiled_frame_gives_the_models_outputs(machine):
    graph_, images = graph_of(machine.random()), np.full((1, 3, 64, 64), 90, np.uint8)
    output = speeds.CompiledFrame(graph_, graph_.output_names, images, "cpu").run(images)
    with torch.no_grad():
        expected = EncoderOutput(
            **{
                name: tensor.numpy()
                for name, tensor in zip(
                    graph_.output_names, graph_(torch.from_numpy(images)), strict=True
                )
            }
        )
    assert not differences(copies(output), copies(expected))


def test_what_finds_no_time_is_a_row_that_says_so(machine, note):
    note._deadline_s = 0.0
    speeds.compiled(machine, note, "S/14")
    assert len(note.result["rows"]) == 4 and all(
        "were left" in row["why_not"] for row in note.result["rows"]
    )
    note.end(lambda: None)
    assert note.result["status"] == "failed"  # it has measured nothing


def test_beside_a_busy_process_both_are_measured(machine, note):
    """The busy process is a real one: it imports torch, which takes seconds."""
    neighbour.run(machine, note, "B/16")
    alone, *beside = note.result["rows"]
    assert alone["mode"] == "alone" and "neighbour" not in alone
    assert [row["mode"].rpartition(", ")[2] for row in beside] == [
        "beside a busy process",
        "max_rate_hz 30",
        "max_rate_hz 10",
        "stream priority",
    ]
    assert all(row["neighbour"]["p99_ms"] > 0 and row["p99_ms"] > 0 for row in beside)


def test_a_bounded_rate_is_kept():
    class Engine:
        def infer(self, images):
            pass

    figures = neighbour.paced(Engine(), np.zeros(1), 0.2, rate_hz=20.0)
    assert 1 <= figures["frames"] <= 5  # 0.2 s at 20 Hz: four, and one that begins at the end


def test_streams_have_priority_only_inside(monkeypatch):
    class Plain:
        def __new__(cls, device=None, priority=0, **existing):
            self = super().__new__(cls)
            self.priority, self.existing = priority, existing
            return self

        def __init__(self, *_, **__):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", Plain)
    with neighbour.highest_priority(True):
        assert (
            torch.cuda.Stream().priority == torch.cuda.Stream("cuda").priority == neighbour.HIGHEST
        )
        assert torch.cuda.Stream(stream_id=7).priority == 0  # one that is there
        assert isinstance(torch.cuda.Stream(), Plain)
    assert torch.cuda.Stream is Plain


@pytest.mark.parametrize("case", ["address", "trap"])
def test_the_kernels_that_break_a_gpu_are_whole(case):
    text = fault_cases.kernel(case).decode()
    assert text.count("{") == text.count("}") == 1 and ".entry broken()" in text
    assert ("st.global" in text) == (case == "address") and ("trap;" in text) == (case == "trap")


def test_the_result_of_a_step_is_json_whatever_it_holds(machine, note):
    graph.run(machine, note)
    assert json.loads(json.dumps(note.result)) == note.result
