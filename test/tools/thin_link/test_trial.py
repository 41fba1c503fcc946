"""A whole trial: images over a thin link, from one computer to the other, by real DDS."""

from pathlib import Path

from test.tools.thin_link.test_link import needs_namespaces
from tools.thin_link.link import Link
from tools.thin_link.plan import CHANGES, FORMS, LINKS, SHIPPED, THIN, dds_of, sent_of, trials
from tools.thin_link.trial import Dds, figures, run_trial


@needs_namespaces
def test_images_come_over_the_link_and_it_carries_their_bytes(tmp_path):
    row = run_trial(
        link=Link(10.0),
        sent=sent_of("images", tmp_path),
        dds=dds_of(THIN, tmp_path),
        reliable=False,
        rate_hz=5.0,
        seconds=2.0,
    )
    assert row["found"] and row["sent"] + row["skipped"] == 10
    assert 0 < row["arrived"] <= row["sent"] and row["age_p50_ms"] > 0
    # Two images of the recording; the rest is DDS's own.
    assert row["link_kB_s"] * row["seconds"] >= row["arrived"] * row["frame_kB"]


def test_every_form_is_tried_over_every_link_with_both_profiles_and_both_ends():
    tried = {(t.link, t.form, t.dds, t.reliable) for t in trials()}
    assert len(tried) > len(LINKS) * len(FORMS) * 4
    for link in LINKS:
        for form in FORMS:
            for dds in (SHIPPED, THIN):
                for reliable in (False, True):
                    assert (link, form, dds, reliable) in tried


def test_a_changed_profile_differs_in_what_it_says(tmp_path):
    thin = profile_of(dds_of(THIN, tmp_path))
    udp = thin[thin.index("UDPv4") :]
    assert all(udp.count(f"<{name}>") == 1 for name in ("sendBufferSize", "maxMessageSize"))
    for name in CHANGES:
        changed = dds_of(name, tmp_path)
        assert profile_of(changed) != thin or "ROS_STATIC_PEERS" in changed.environment


def profile_of(dds: Dds) -> str:
    files = [v for k, v in dds.environment.items() if k.endswith("_PROFILES_FILE")]
    return Path(files[0]).read_text()


def test_ages_are_from_stamp_to_arrival():
    frames = [(k * 1_000_000, k * 1_000_000 + 20_000_000) for k in range(50)]
    made = figures([*frames, (0, 500_000_000)], seconds=10.0)
    assert made == {"arrived": 51, "frames_s": 5.1, "age_p50_ms": 20, "age_p99_ms": 260}
    assert figures([], 1.0)["age_p50_ms"] is None
