"""The benchmark of search, in small: what it makes, finds and says."""

from benchmarks.search_bench import measure
from test.datasets.search.stored import demo_features  # noqa: F401


def test_it_measures_an_index_against_all_vectors(demo_features, tmp_path, monkeypatch):
    # A small table has lists too.
    monkeypatch.setattr("vit_perception.datasets.search.lance_table.LEAST_INDEXED", 1000)
    report = measure(demo_features, tmp_path, frames=1500, queries=12)
    assert report["data"]["vectors"] == 3000 and report["data"]["real_tokens"] == 405 * 2 * 17
    assert report["index"]["lists"] == 1 and report["index"]["disk_bytes"] > 3000 * 64 * 2
    # One list, which all look into: only float16 may exchange frames that are equally near.
    assert len({row["recall"] for row in report["by_probes"]}) == 1
    assert report["by_probes"][0]["recall"] >= 0.95
    assert all(0 < row["cpu_ms_median"] <= row["cpu_ms_p99"] for row in report["by_probes"])
    assert report["complete_search"]["wall_ms_median"] > 0
