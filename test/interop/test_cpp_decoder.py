"""examples/cpp against the message headers, run on what our encoder wrote: the numbers must be the
same.
"""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from test.conftest import ROOT
from test.wire.test_basis import BASIS, WITH_BASIS
from test.wire.test_basis import TOKENS as BASIS_TOKENS
from test.wire.test_tensors import LAYOUT
from test.wire.test_topics import APART, POSE, result
from vit_perception.datasets.output_messages import cdr_of
from vit_perception.wire.basis import decode_tokens, pack_sequence
from vit_perception.wire.tensors import (
    ENCODINGS,
    decode_tensor,
    encode_bytes,
    encode_mask,
    encode_tensor,
    mask_of,
)
from vit_perception.wire.topics import IMAGE_TYPE, Outgoing, image_fields, topics_of

PREFIX = Path(os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)[0])
COMPILER = shutil.which("g++") or shutil.which("c++")
if COMPILER is None:
    pytest.skip("no C++ compiler (g++) on the path", allow_module_level=True)
if not (PREFIX / "include/sensor_msgs/sensor_msgs/msg/image.hpp").is_file():
    pytest.skip(
        f"no C++ headers of sensor_msgs below AMENT_PREFIX_PATH ({PREFIX})", allow_module_level=True
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """examples/cpp/decode_tokens.cpp, built as a package would build it, warnings being errors."""
    built = tmp_path_factory.mktemp("cpp") / "decode_tokens"
    # One folder a package below include/, and fastcdr's own.
    includes = [
        f"-isystem{path}" for path in sorted((PREFIX / "include").iterdir()) if path.is_dir()
    ]
    command = [
        COMPILER,
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        str(ROOT / "examples/cpp/decode_tokens.cpp"),
        f"-I{ROOT / 'examples/cpp'}",
        *includes,
        f"-isystem{PREFIX / 'include'}",
        "-o",
        str(built),
        f"-L{PREFIX / 'lib'}",
        f"-Wl,-rpath,{PREFIX / 'lib'}",
        f"-Wl,-rpath-link,{PREFIX / 'lib'}",
        "-lsensor_msgs__rosidl_typesupport_fastrtps_cpp",
        "-lfastcdr",
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return built


HEADER = {"stamp": {"sec": 12, "nanosec": 345}, "frame_id": "camera"}


def image_cdr(fields, **changes) -> bytes:
    """A sensor_msgs/Image in CDR, as `embed` writes it."""
    return cdr_of(IMAGE_TYPE, image_fields(HEADER, fields) | changes)


def run(program: Path, folder: Path, cdr: bytes, *more: str) -> SimpleNamespace:
    (folder / "message.cdr").write_bytes(cdr)
    result = subprocess.run(
        [str(program), str(folder / "message.cdr"), *more], capture_output=True, text=True
    )
    return SimpleNamespace(
        code=result.returncode,
        error=result.stderr,
        lines=[line.split() for line in result.stdout.splitlines()],
    )


TOKENS = np.random.default_rng(0).normal(0, 3, (9, 384)).astype(np.float32)
TOKENS[[2, 8]] = 0
TOKENS[3, :4] = 65504, -6e-8, 5.96e-8, 1e-5  # float16's largest, and three that are subnormal there


@pytest.mark.parametrize("dtype", ENCODINGS)
def test_tokens_read_in_cpp_equal_those_that_were_encoded(program, tmp_path, dtype):
    fields = encode_tensor(TOKENS, dtype)
    read = run(program, tmp_path, image_cdr(fields))
    assert read.code == 0, read.error
    assert read.lines[0] == ["12", "345", "camera", "9", "384"]
    sent = decode_tensor(SimpleNamespace(**fields._asdict())).astype(np.float64)
    assert [line[0] for line in read.lines[1:]] == [
        "0" if row in (2, 8) else "1" for row in range(9)
    ]
    # The sum one by one, in the order of the channels: equal to the last bit.
    assert [float(line[1]) for line in read.lines[1:]] == [
        float(np.cumsum(row)[-1]) for row in sent
    ]
    assert [float(line[2]) for line in read.lines[1:]] == sent[:, -1].tolist()


def test_the_mask_reads_as_numbers(program, tmp_path):
    read = run(program, tmp_path, image_cdr(encode_mask(np.array([True, False, True]))))
    assert read.lines[0][3:] == ["1", "3"] and float(read.lines[1][1]) == 510


def test_what_does_not_fit_is_refused_by_name(program, tmp_path):
    fields = encode_tensor(TOKENS)
    for changes, said in (
        ({"encoding": "rgb8"}, "encoding is 'rgb8'; accepted: 32FC1"),
        ({"step": 3}, "step 3 does not fit"),
        ({"encoding": "8UC1", "step": 387}, "step 387 does not fit"),
        ({"height": 10}, "10 x 384"),
        ({"is_bigendian": 1}, "accepted: little-endian"),
    ):
        read = run(program, tmp_path, image_cdr(fields, **changes))
        assert read.code == 1 and said in read.error, (changes, read.error)


@pytest.mark.parametrize("scale", [-1.0, np.nan, np.inf])
def test_a_scale_that_is_none_is_refused(program, tmp_path, scale):
    fields = encode_tensor(TOKENS, "int8")
    rows = np.frombuffer(fields.data, np.uint8).reshape(len(TOKENS), fields.step)
    rows[4, -4:] = np.frombuffer(np.float32(scale).tobytes(), np.uint8)
    read = run(program, tmp_path, image_cdr(fields))
    assert read.code == 1 and "the scale of row 4 is" in read.error, read.error


@pytest.mark.parametrize("kept", [0, 3, 7, 60, 2000])
def test_a_cut_recording_is_an_error_not_a_crash(program, tmp_path, kept):
    read = run(program, tmp_path, image_cdr(encode_tensor(TOKENS))[:kept])
    assert read.code == 1 and "message.cdr: " in read.error


GROUPS = [f"{group.kind}:{group.stop - group.start}" for group in WITH_BASIS.groups]


def restored(program: Path, folder: Path, packed, basis=None, groups=GROUPS) -> SimpleNamespace:
    """What the program makes of a packed sequence."""
    basis = encode_tensor(BASIS.to_rows()) if basis is None else basis
    (folder / "basis.cdr").write_bytes(image_cdr(basis))
    return run(program, folder, image_cdr(packed), str(folder / "basis.cdr"), *groups)


def test_coefficients_of_a_basis_are_restored_in_cpp(program, tmp_path):
    tokens = BASIS_TOKENS.copy()
    tokens[[2, 5]] = 0
    packed = encode_bytes(pack_sequence(tokens, WITH_BASIS, BASIS))
    read = restored(program, tmp_path, packed)
    ours = decode_tokens(SimpleNamespace(**packed._asdict()), WITH_BASIS, BASIS)
    assert read.lines[0] == ["12", "345", "camera", *map(str, ours.shape)], read.error
    assert [line[0] == "1" for line in read.lines[1:]] == mask_of(ours).tolist()
    # The products are summed in another order than numpy's.
    sums, lasts = np.array([line[1:] for line in read.lines[1:]], float).T
    np.testing.assert_allclose(sums, ours.astype(float).sum(axis=1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(lasts, ours[:, -1], rtol=1e-5, atol=1e-5)


def test_a_basis_and_coefficients_that_do_not_fit_are_refused_in_cpp(program, tmp_path):
    packed = encode_bytes(pack_sequence(BASIS_TOKENS, WITH_BASIS, BASIS))
    alone = run(program, tmp_path, image_cdr(packed))
    assert alone.code == 1 and "coefficients of a basis; accepted: restore()" in alone.error
    bytes_of = np.frombuffer(packed.data, np.uint8)
    cut = encode_bytes(bytes_of[:-1])
    for scale in (-1.0, np.nan, np.inf):
        bad = bytes_of.copy()
        bad[12 + 2 : 12 + 6] = np.frombuffer(np.float32(scale).tobytes(), np.uint8)
        read = restored(program, tmp_path, encode_bytes(bad))
        assert read.code == 1 and "a scale is" in read.error, read.error
    other = encode_tensor(np.vstack([BASIS.to_rows(), np.ones((1, 3), np.float32)]))
    for read, said in (
        (restored(program, tmp_path, cut), "bytes of the groups"),
        (restored(program, tmp_path, packed, groups=GROUPS[:-1]), "bytes of the groups"),
        (restored(program, tmp_path, packed, other), "bytes of the groups"),
        (restored(program, tmp_path, encode_tensor(BASIS_TOKENS)), "accepted: one row of 8UC1"),
        (restored(program, tmp_path, packed, encode_tensor(BASIS.to_rows()[:1])), "a basis has 1"),
        (restored(program, tmp_path, packed, groups=["patch"]), "accepted: KIND:ROWS"),
    ):
        assert read.code == 1 and said in read.error, read.error


def test_a_token_that_is_the_mean_reads_in_cpp_as_in_python(program, tmp_path):
    """Tokens that are exactly the mean have no coefficients: they are the one value that reads as
    missing, here and in Python.
    """
    tokens = BASIS_TOKENS.copy()
    tokens[1] = BASIS.mean
    packed = encode_bytes(pack_sequence(tokens, WITH_BASIS, BASIS))
    ours = decode_tokens(SimpleNamespace(**packed._asdict()), WITH_BASIS, BASIS)
    read = restored(program, tmp_path, packed)
    assert [line[0] == "1" for line in read.lines[1:]] == mask_of(ours).tolist()


WITH_STATE = replace(LAYOUT, apart=(APART,))
SENT = [
    topic for topic in topics_of(WITH_STATE) if topic.row.type == IMAGE_TYPE and topic.row.encode
]


@pytest.mark.parametrize("topic", SENT, ids=[topic.name for topic in SENT])
def test_every_tensor_of_the_table_of_topics_reads_in_cpp(program, tmp_path, topic):
    fields = topic.row.encode(Outgoing(result(POSE), WITH_STATE), topic.source)
    read = run(program, tmp_path, cdr_of(IMAGE_TYPE, fields))
    rows = decode_tensor(SimpleNamespace(**fields))
    assert read.lines[0] == ["0", "5", "optical", *map(str, rows.shape)], read.error
    assert [float(line[1]) for line in read.lines[1:]] == rows.sum(axis=1).tolist()
