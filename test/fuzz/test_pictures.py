"""The short form of the picture fuzzer: a child process with limits that must neither die nor print
anything.
"""

from test.fuzz.picture_fuzz import run_children

PICTURES = 4000


def test_wrong_pictures_end_as_bad_input_or_pixels(tmp_path):
    seen, findings = run_children(seed=1, count=PICTURES, seconds=0, found=tmp_path)
    assert not findings, findings
    assert sum(seen.values()) == PICTURES
    # Enough gets past the gate for the decoders to be tried.
    assert all(seen[f"{kind} decoded"] > 50 for kind in ("png", "jpeg", "bmp", "webp")), seen
    assert seen["jpeg decoder: decode"] > 50 and seen["png gate: decode"] > 50
