"""Rates and latencies as /diagnostics tells them, by hand."""

import pytest

from vit_perception.pipeline.timing.latencies import StageLatencies, rate_hz


def test_a_rate_is_that_of_the_last_five_seconds():
    times_ns = [k * 100_000_000 for k in range(200)]  # 10 a second for 20 s
    assert rate_hz(times_ns, 20_000_000_000) == pytest.approx(10, abs=0.21)
    assert rate_hz(times_ns, 22_400_000_000) == pytest.approx(5, abs=0.41)
    assert rate_hz(times_ns, 30_000_000_000) == rate_hz([], 0) == 0


def test_latencies_are_shown_as_their_median_and_their_99th_percentile():
    latencies = StageLatencies()
    for ms in range(101):
        latencies.add({"infer": float(ms), "publish": 2.0})
    assert latencies.summary() == {
        "latency_ms.infer": "50.00 / 99.00",
        "latency_ms.publish": "2.00 / 2.00",
        "latency_p50_ms.infer": "50.00",
        "latency_p50_ms.publish": "2.00",
        "latency_p99_ms.infer": "99.00",
        "latency_p99_ms.publish": "2.00",
    }
