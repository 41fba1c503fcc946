"""What is said of a processor's instructions, and of what the engines make of them."""

from vit_perception.engines.available import available_backends
from vit_perception.engines.cpu_features import cpu_lines
from vit_perception.engines.engine import BackendStatus


def status(name, *precisions, found=True):
    return BackendStatus(name=name, found=found, version="1", device="it", precisions=precisions)


def test_instructions_and_what_each_engine_takes():
    flags = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "fpu"}
    backends = [
        status("tensorrt", "float16"),
        status("openvino", "bfloat16", "float32", "int8"),
        status("onnxruntime", "float32", found=False),
        status("torch on the CPU", "bfloat16", "float32"),
    ]
    assert cpu_lines("EPYC", flags, backends) == (
        "EPYC; wide vectors: avx512f, avx2; bfloat16 products: avx512_bf16; float16 products: no; "
        "8-bit products: avx512_vnni",
        "the engines take: openvino bfloat16, torch on the CPU bfloat16",
    )


def test_an_arm_processor():
    first, made = cpu_lines("aarch64", {"asimd", "asimddp", "asimdhp", "i8mm", "bf16"}, [])
    assert first == (
        "aarch64; wide vectors: asimd; bfloat16 products: bf16; float16 products: asimdhp; "
        "8-bit products: i8mm, asimddp"
    )
    assert made == "no engine runs on it"


def test_flags_that_nobody_knows():
    assert cpu_lines("it", set(), [])[0] == "it; its instructions are not known"


def test_the_engines_of_this_machine_are_among_them():
    _, made = cpu_lines("it", {"avx2"}, available_backends())
    assert "torch on the CPU " in made
