"""What is asked of `embed` is checked before anything is encoded."""

import sys

import pytest

from vit_perception.datasets.embed import EmbedOptions
from vit_perception.files.errors import InvalidValue


def test_a_format_whose_package_is_missing_is_refused_at_once(monkeypatch):
    """Regression: the first file that was full, minutes later, ended the run."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidValue) as refused:
        EmbedOptions("parquet")
    assert refused.value.argument == "format" and "pip install pyarrow" in refused.value.hint
    assert "accepted without it: safetensors, mcap" in str(refused.value)
    assert EmbedOptions("safetensors").file_format == "safetensors"
