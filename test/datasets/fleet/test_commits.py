"""Sources in any order, killed and begun again: always the files of one process."""

import json
import shutil

import pytest

from test.datasets.embed_runs import FORMATS, contents, pipeline  # noqa: F401
from test.datasets.fleet.fleet_runs import Fleet, hard_bags, sources_of
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.fleet.plan import STAGING, UnreadableSource

ORDERS = ([4, 2, 0, 3, 1], [1, 0, 2, 3, 4])


def options_of(kind):
    return EmbedOptions(kind, shard_frames=8)


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    return hard_bags(tmp_path_factory.mktemp("bags"))


@pytest.fixture(scope="module")
def whole(pipeline, bags, tmp_path_factory):
    """All bags embedded in one process, a folder a format."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in FORMATS:
        embed(pipeline, sources_of(bags), folder / kind, options_of(kind))
    return folder


@pytest.fixture
def fleet(bags, tiny_classifier, tmp_path):
    made = []

    def make(kind="parquet", sources=None, out="out"):
        chosen = sources or sources_of(bags)
        made.append(Fleet(tiny_classifier, chosen, tmp_path / out, options_of(kind)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_bags_have_several_layouts_and_episodes(whole):
    manifest = json.loads((whole / "parquet/manifest.json").read_text())
    assert len(manifest["layouts"]) == 2
    journal = (whole / "parquet/journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["episode"] == 5


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_any_order_gives_the_files_of_one_process(fleet, whole, kind, order):
    run = fleet(kind)
    manifest = run.run(order)
    assert manifest["complete"] and contents(run.job.out) == contents(whole / kind)


def test_a_killed_task_continues_after_its_last_shard(fleet, whole):
    run = fleet()
    embedded = []

    def killed(results):
        embedded.append(results)
        if len(embedded) == 11:
            raise KeyboardInterrupt

    run.worker._advance = killed
    with pytest.raises(KeyboardInterrupt):
        run.embed(0)
    del run.worker._advance
    run.take(run.embed(0))
    assert run.worker.results() > 0
    run.run([1, 2, 3, 4])
    assert contents(run.job.out) == contents(whole / "parquet")


def test_a_kill_before_the_journals_line_loses_no_shard(fleet, whole, tmp_path):
    run = fleet()
    done = run.embed(0).done
    run.commits._linked(done)  # names without lines
    run.close()
    assert list(run.job.out.glob("features*"))
    again = fleet()
    assert not list(run.job.out.glob("features*"))
    outcome = again.embed(0)
    # Nothing was encoded again.
    assert [e.line() for e in outcome.done.entries] == [e.line() for e in done.entries]
    assert again.worker.results() == 0
    again.take(outcome)
    again.run([2, 1, 4, 3])
    assert contents(again.job.out) == contents(whole / "parquet")


def test_one_process_continues_what_a_fleet_began(pipeline, fleet, bags, whole):
    run = fleet()
    for number in (1, 0, 2):
        run.take(run.embed(number))
    run.close()
    assert run.commits.next == 3
    embed(pipeline, sources_of(bags), run.job.out, options_of("parquet"))
    shutil.rmtree(run.job.staging)
    assert contents(run.job.out) == contents(whole / "parquet")


def test_a_fleet_continues_in_the_middle_of_a_source(pipeline, fleet, bags, whole, tmp_path):
    def interrupted(results):
        embedded.append(results)
        if len(embedded) == 24:
            raise KeyboardInterrupt

    embedded = []
    with pytest.raises(KeyboardInterrupt):
        embed(pipeline, sources_of(bags), tmp_path / "out", options_of("parquet"), interrupted)
    run = fleet()
    assert run.commits.before(run.commits.next).first > 0
    run.run([4, 3, 2, 1, 0][: 5 - run.commits.next])
    assert contents(run.job.out) == contents(whole / "parquet")


def test_a_bad_bag_is_in_the_manifest_and_the_others_are_whole(pipeline, fleet, bags, tmp_path):
    bad = UnreadableSource(tmp_path / "bad", "it is cut off")
    sources = [*sources_of(bags[:2]), bad, *sources_of(bags[3:])]
    run = fleet(sources=sources)
    manifest = run.run([3, 1, 2, 0, 4])
    assert manifest["failed"] == [{"source": 2, "why": "it is cut off"}]
    # The others are as if the bad one had no frames.
    good = sources_of([*bags[:2], *bags[3:]])
    expected = embed(pipeline, good, tmp_path / "good", options_of("parquet"))
    assert manifest["frames"] == expected["frames"] and not (run.job.out / STAGING).exists()
    assert [s["frames"] for s in manifest["shards"]] == [s["frames"] for s in expected["shards"]]


def test_a_bag_that_changes_while_it_is_read_is_left_out(fleet, bags, tmp_path):
    copy = tmp_path / "changes"
    shutil.copytree(bags[0], copy)
    run = fleet(sources=sources_of([copy, bags[1]]))
    (file,) = copy.glob("*.mcap")

    def change(results):
        with open(file, "ab") as growing:
            growing.write(b"\0")

    run.worker._advance = change
    outcome = run.embed(0)
    assert outcome.bad_source.startswith("it changed while it was read: ")
    assert not (run.job.staging / "000000").exists()
    del run.worker._advance
    assert run.embed(0).differs  # another worker that finds it so asks the driver


def test_a_folder_that_another_worker_writes_is_left_alone(fleet):
    run = fleet()
    assert run.embed(0).done
    from vit_perception.datasets.embed_journal import Journal
    from vit_perception.datasets.fleet.tasks import task_run

    before = run.commits.before(0)
    folder = run.job.staging / "000000"
    held = Journal(folder, task_run(run.job, run.begin, 0, before))
    assert run.embed(0).busy
    held.close()


def test_a_worker_that_does_not_see_the_output_says_so(fleet):
    run = fleet()
    shutil.rmtree(run.job.staging)
    assert "does not see" in run.embed(0).bad_worker
