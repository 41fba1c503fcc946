"""The figures of a history: counts and sizes, which no machine's speed changes."""

from benchmarks.history_bench import CASES, measured

TOKEN_BYTES = 2 * 17 * 64 * 4  # two cameras, CLS and 16 patches, 64 wide, float32


def test_a_history_benchs_its_frames_memory_and_no_engine_run(tiny_checkpoint):
    rows = measured(str(tiny_checkpoint), frames=12)
    assert list(rows) == list(CASES)
    for name, settings in CASES.items():
        row = rows[name]
        assert row["runs"] == 1, "no image is encoded twice"
        # The stride is one or two periods: each frame between two steps is kept, too.
        per_stride = round(settings.stride_s / 0.1)
        most = (settings.frames - 1) * per_stride + 1 + per_stride // 2
        assert row["kept_frames"] == (most if settings.frames > 1 else 0)
        assert row["kept_bytes"] == row["kept_frames"] * TOKEN_BYTES
