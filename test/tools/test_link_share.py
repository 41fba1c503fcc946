"""An editable install as ROS sees it."""

import os

from test.conftest import ROOT
from tools.link_share import main


def found_by_launch(folder) -> set[str]:
    """The files that `ros2 launch` finds below a share folder: it does not look into links."""
    return {name for _, _, names in os.walk(folder) for name in names}


def test_ros2_launch_finds_the_launch_files(tmp_path):
    """Regression: launch/ was a link, and `ros2 launch vit_perception ...` found no file."""
    share = tmp_path / "share/vit_perception"
    share.mkdir(parents=True)
    (share / "launch").symlink_to(ROOT / "launch")  # as an earlier set-up left it
    wanted = {file.name for file in (ROOT / "launch").glob("*.launch.py")}
    main(tmp_path)
    assert wanted <= found_by_launch(share)
    (share / "launch/old.launch.py").symlink_to(ROOT / "no_longer_there")
    main(tmp_path)
    assert set(os.listdir(share / "launch")) == wanted
    assert all((ROOT / "launch" / name).exists() for name in wanted)
    assert (share / "package.xml").read_text() == (ROOT / "package.xml").read_text()
    assert (tmp_path / "lib/vit_perception/encoder_node").is_symlink()
