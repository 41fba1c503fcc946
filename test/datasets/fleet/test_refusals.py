"""Machines and sources that cannot be used: whose fault it is, and what is said."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from test.datasets.embed_runs import settings_of
from test.datasets.fleet.fleet_runs import hard_bags, sources_of
from vit_perception.datasets.embed import EmbedOptions
from vit_perception.datasets.fleet.actors import EmbedWorker, Machine, versions_here
from vit_perception.datasets.fleet.cluster import Worker
from vit_perception.datasets.fleet.plan import Job, survey
from vit_perception.datasets.fleet.retries import MOST_TRIES, Retries
from vit_perception.datasets.fleet.staff import Staff
from vit_perception.datasets.fleet.tasks import Outcome, failed
from vit_perception.files.storage.folder import StorageError
from vit_perception.recordings.kind import BagError


@pytest.fixture
def job(tmp_path):
    sources = sources_of(hard_bags(tmp_path)[:2])
    found = survey(sources, ["a", "b"])
    return Job(
        settings=settings_of(tmp_path / "no_checkpoint"),
        options=EmbedOptions("parquet"),
        sources=tuple(sources),
        identities=tuple(source.identity for source in found),
        out=tmp_path / "out",
        threads=1,
    )


def test_a_worker_without_the_weights_says_which(job):
    assert "no_checkpoint" in EmbedWorker("here").open(job)


@pytest.mark.parametrize("other", [{"vit_perception": "0.0"}, {"torch": "not installed"}])
def test_other_versions_get_no_work(other):
    said = []
    crew = SimpleNamespace(ray=None, host_of=lambda node: "host (1.2.3.4)", refused={})
    staff = Staff(crew, SimpleNamespace(warning=said.append))
    worker = Worker("worker", "node", None)
    assert staff.has_our_versions(worker, Machine("host", 1, "node", versions_here()))
    machine = Machine("host", 1, "node", versions_here() | other)
    assert not staff.has_our_versions(worker, machine) and "node" in crew.refused
    assert said[0].startswith("host (1.2.3.4) gets no work: it has other versions")
    assert "accepted: the same ones on every machine" in said[0]


def test_a_source_is_given_up_after_workers_that_finished_nothing(job):
    retries = Retries(job, strict=False)
    journal = job.staging / "000001/journal.jsonl"
    journal.parent.mkdir(parents=True)
    for number in range(2 * MOST_TRIES):  # a machine that is taken away again and again
        journal.write_text("{}\n" * (number + 1))
        assert not retries.of_lost_worker(1)
    lost = [retries.of_lost_worker(1) for _ in range(MOST_TRIES - 1)]
    assert lost[:-1] == [""] * (MOST_TRIES - 2) and lost[-1].startswith("3 workers")


def test_who_sees_another_source_than_the_driver(job, tmp_path):
    retries = Retries(job, strict=False)
    assert "does not see sources" in retries.of(Outcome(0, differs="there is none")).bad_worker
    assert retries.of(Outcome(0, busy=True)).busy
    shutil.rmtree(tmp_path / "bag_000")
    assert "bag_000" in retries.of(Outcome(0, differs="there is none")).bad_source


def test_the_unexpected_is_tried_again(job):
    retries = Retries(job, strict=False)
    outcome = failed(1, ZeroDivisionError("x"))
    verdicts = [retries.of(outcome).bad_source for _ in range(MOST_TRIES)]
    assert verdicts[:-1] == [""] * (MOST_TRIES - 1) and "ZeroDivisionError" in verdicts[-1]


def test_what_ends_a_task():
    assert failed(0, OSError(28, "No space left on device")).bad_worker.startswith("no room: ")
    assert failed(0, BagError("cut off")).bad_source == "cut off"
    assert failed(0, StorageError("internal error")).doubtful == "internal error"
    assert failed(0, OSError(5, "Input/output error")).doubtful


def test_a_survey_keeps_the_place_of_what_cannot_be_read(job, tmp_path):
    missing = sources_of([tmp_path / "none"])
    found = survey([*missing, *job.sources], ["none", "a", "b"])
    assert found[0].why_not and found[0].identity == {"kind": "unreadable", "name": "none"}
    assert [source.number for source in found] == [0, 1, 2] and found[1].frames
    assert replace(found[1], number=0).identity == job.identities[0]
