"""A folder without preprocessor_config.json: the error has the file to write, which is marked."""

import json
import re
import shutil

import pytest

from test.datasets.embed_runs import settings_of
from vit_perception.checkpoints.by_hand import MARK, file_hint
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.pipeline.pipeline import Pipeline


def test_the_file_in_the_error_makes_the_checkpoint_load_and_is_marked(tiny_checkpoint, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no file preprocessor_config\.json") as caught:
        load_checkpoint(str(folder))
    path, content = re.search(r"save as (\S+): (\{.*\})", str(caught.value)).groups()
    assert path == str(folder / "preprocessor_config.json")
    fields = json.loads(content)
    assert fields["size"] == {"height": 56, "width": 56}
    assert fields["image_mean"] == [0.485, 0.456, 0.406]
    (folder / "preprocessor_config.json").write_text(content)
    card = load_checkpoint(str(folder)).card
    assert card.rule.network_size_px == (56, 56) and card.std == (0.229, 0.224, 0.225)
    pipeline = Pipeline.open(settings_of(folder))
    try:
        assert pipeline.layout().model == card.name == f"bare{MARK}"
    finally:
        pipeline.close()
    # The file of the authors has no such mark, and the names of others do not change.
    assert load_checkpoint(str(tiny_checkpoint)).card.name == tiny_checkpoint.name


@pytest.mark.parametrize(
    "model_type, mean", [("vit", 0.5), ("clip", 0.48145466), ("dinov3_vit", 0.485)]
)
def test_each_family_has_its_authors_mean(tmp_path, model_type, mean):
    content = re.search(r"\{.*\}", file_hint(tmp_path, model_type, (224, 336)))[0]
    assert json.loads(content)["image_mean"][0] == mean
    assert file_hint(tmp_path, "radio", (224, 224)) == ""
