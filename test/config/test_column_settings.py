"""The text of a column: what it means, and what is refused."""

import pytest

from vit_perception.config.column_settings import ColumnSettings, column_settings
from vit_perception.config.offline_settings import settings_of_parameters
from vit_perception.config.settings import BadSetting, CameraSettings, EncoderSettings


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a=/cmd", ("a", "/cmd", "", "hold", 0.0)),
        ("a=/cmd:x.y[0]", ("a", "/cmd", "x.y[0]", "hold", 0.0)),
        ("a=/cmd:x[0:7]@linear", ("a", "/cmd", "x[0:7]", "linear", 1.0)),
        ("a=cmd@linear:0.25", ("a", "cmd", "", "linear", 0.25)),
        ("a=/cmd:x[:]@hold:3", ("a", "/cmd", "x[:]", "hold", 3.0)),
    ],
)
def test_parts_of_a_column(text, expected):
    (column,) = column_settings([text])
    assert column == ColumnSettings(*expected)
    assert column_settings([column.text]) == [column]


@pytest.mark.parametrize(
    "texts, said",
    [
        (["a"], "accepted: NAME=TOPIC"),
        (["1=/cmd"], "accepted: NAME=TOPIC"),
        (["a=/c d"], "accepted: NAME=TOPIC"),
        (["a=/cmd@cubic"], "accepted: NAME=TOPIC"),
        (["a=/cmd:x[1"], "a field of names joined by dots"),
        (["a=/cmd@hold:0"], "above 0 and at most 86400 s"),
        (["a=/cmd@hold:99999"], "above 0 and at most 86400 s"),
        (["a=/cmd", "a=/other"], "a name that no other column"),
        (["wrist=/cmd"], "a name that no other column"),
        (["tokens=/cmd"], "a name that no other column"),
        ([f"a{k}=/cmd" for k in range(65)], "at most 64"),
    ],
)
def test_what_is_no_column_is_refused_as_the_parameter(texts, said):
    with pytest.raises(BadSetting, match="parameter 'columns'") as caught:
        EncoderSettings((CameraSettings("wrist", "/w"),), columns=tuple(texts))
    assert said in str(caught.value)


def test_a_parameter_file_has_them_with_full_topics(tmp_path):
    (tmp_path / "p.yaml").write_text(
        "/robot/vit_encoder:\n  ros__parameters:\n    camera_names: [wrist]\n"
        "    columns: ['action=cmd:position@linear:0.5', 'b=/b']\n"
    )
    settings = settings_of_parameters(tmp_path / "p.yaml")
    assert settings.columns == ("action=/robot/cmd:position@linear:0.5", "b=/b@hold")
