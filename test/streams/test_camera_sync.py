from vit_perception.streams.camera_sync import MAX_PENDING, CameraSync

MS = 1_000_000


def sync_of(*cameras, policy="wait", slop_ms=10):
    return CameraSync(cameras, slop_ms * MS, policy, 500 * MS, now_ns=0)


def balanced(sync, camera):
    account = sync.accounts[camera]
    return account.received == account.published + sum(account.dropped.values()) + sync.pending(
        camera
    )


def test_one_camera_the_newest_wins():
    sync = sync_of("a")
    for k in range(1, 6):
        sync.add("a", k * MS, f"image {k}", now_ns=0)
    assert sync.take(0) == {"a": "image 5"}
    assert sync.take(0) is None
    assert sync.accounts["a"].dropped == {"superseded": 4}
    assert sync.pending("a") == 1
    sync.finish("a")
    assert sync.accounts["a"].published == 1 and sync.pending("a") == 0 and balanced(sync, "a")


def test_a_late_image_never_follows_a_newer_one():
    sync = sync_of("a")
    sync.add("a", 100 * MS, "new", 0)
    assert sync.take(0) == {"a": "new"}
    sync.add("a", 90 * MS, "old", 0)
    sync.add("a", 100 * MS, "same", 0)
    assert sync.take(0) is None
    assert sync.accounts["a"].dropped == {"late": 2} and balanced(sync, "a")


def test_out_of_order_before_it_is_taken_the_newest_stamp_wins():
    sync = sync_of("a")
    sync.add("a", 100 * MS, "new", 0)
    sync.add("a", 90 * MS, "old", 0)
    assert sync.take(0) == {"a": "new"}


def test_a_bag_that_loops_starts_again():
    sync = sync_of("a")
    sync.add("a", 5000 * MS, "end", 0)
    assert sync.add("a", 100 * MS, "start", 0)  # says that time has jumped
    assert sync.take(0) == {"a": "start"}
    assert sync.accounts["a"].dropped == {"time_jump": 1} and balanced(sync, "a")


def test_the_oldest_stamp_in_flight_is_found_after_a_jump_back():
    """Regression: it was the first one taken, and samples of the other were forgotten."""
    sync = sync_of("a")
    for stamp_ms in (5000, 100):
        sync.add("a", stamp_ms * MS, stamp_ms, 0)
        assert sync.take(0) == {"a": stamp_ms}
    assert sync.oldest_ns() == 100 * MS
    sync.finish("a", stamp_ns=100 * MS)
    assert sync.oldest_ns() == 5000 * MS


def test_cameras_are_grouped_within_the_slop():
    sync = sync_of("a", "b")
    sync.add("a", 100 * MS, "a100", 0)
    sync.add("b", 120 * MS, "b120", 0)
    assert sync.take(0) is None  # 20 ms apart
    sync.add("a", 113 * MS, "a113", 0)
    assert sync.take(0) == {"a": "a113", "b": "b120"}
    assert sync.accounts["a"].dropped == {"superseded": 1}
    assert sync.accounts["a"].in_flight == sync.accounts["b"].in_flight == 1


def test_the_newest_complete_group_is_taken_even_when_one_camera_is_ahead():
    sync = sync_of("a", "b")
    for k in range(5):
        sync.add("a", k * 33 * MS, f"a{k}", 0)
    for k in range(3):
        sync.add("b", k * 33 * MS + 5 * MS, f"b{k}", 0)
    assert sync.take(0) == {"a": "a2", "b": "b2"}
    assert sync.pending("a") == 3  # a2 in flight, a3 and a4 still wait for their partners
    sync.add("b", 4 * 33 * MS, "b4", 0)
    assert sync.take(0) == {"a": "a4", "b": "b4"}
    assert balanced(sync, "a") and balanced(sync, "b")


def test_images_without_partners_are_bounded_and_counted():
    sync = sync_of("a", "b")
    for k in range(MAX_PENDING + 7):
        sync.add("a", k * 33 * MS, f"a{k}", 0)
    assert sync.accounts["a"].dropped == {"unmatched": 7} and sync.pending("a") == MAX_PENDING


def test_whole_groups_that_wait_too_long_are_superseded_not_unmatched():
    sync = sync_of("a", "b")
    for k in range(MAX_PENDING + 5):
        for camera in "ab":
            sync.add(camera, k * 33 * MS, f"{camera}{k}", 0)
    for camera in "ab":
        assert sync.accounts[camera].dropped == {"superseded": 5} and balanced(sync, camera)
    assert sync.take(0) == {"a": f"a{MAX_PENDING + 4}", "b": f"b{MAX_PENDING + 4}"}


def test_wait_waits_for_a_silent_camera_and_mask_does_not():
    for policy, expected in (("wait", None), ("mask", {"a": "image"})):
        sync = sync_of("a", "b", policy=policy)
        sync.add("a", 600 * MS, "image", now_ns=600 * MS)
        assert sync.take(now_ns=601 * MS) == expected
    assert sync.is_silent("b", 601 * MS) and not sync.is_silent("a", 601 * MS)


def test_mask_waits_for_a_camera_that_still_sends():
    sync = sync_of("a", "b", policy="mask")
    sync.add("b", 90 * MS, "b90", now_ns=90 * MS)
    sync.add("a", 110 * MS, "a110", now_ns=110 * MS)
    assert sync.take(now_ns=111 * MS) is None


def test_clear_and_refuse_keep_the_books():
    sync = sync_of("a", "b")
    sync.add("a", 1 * MS, "image", 0)
    sync.refuse("a", "stamp")
    sync.clear("deactivated")
    assert sync.accounts["a"].dropped == {"deactivated": 1, "stamp": 1} and balanced(sync, "a")
    assert sync.accounts["b"].dropped == {}


def test_how_far_stamps_are_apart_is_told_of_cameras_that_send():
    sync = CameraSync(("left", "right", "top"), 20_000_000, "wait", 500_000_000, 0)
    sync.add("left", 5_000_000_000, "l", 10)
    sync.add("right", 1005_000_000_000, "r", 10)
    assert (
        sync.apart_ns("right", 20) == {"left": 1000_000_000_000} and sync.apart_ns("top", 20) == {}
    )
    sync.add("right", 1006_000_000_000, "r", 1_000_000_000)
    assert (
        sync.apart_ns("right", 1_000_000_000) == {}
    )  # the left one has fallen silent: its last stamp is merely old
    assert sync.apart_ns("left", 1_000_000_000) == {"right": -1001_000_000_000}
