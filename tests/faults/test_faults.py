"""The fault tests in small, and the report that they fill."""

import random

import crowd
import full_disk
import kills
import object_storage
import power_loss
import pytest
import surroundings
from corruption import (
    damage_digest_cache,
    damage_record_index,
    damage_results,
    delete_records,
)
from lives import Errand, ready, to_the_end
from real_results import make_results
from support.report import Row, Stopwatch, table, written
from support.tiny_job import write_job


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results"), images=2, each=1)


@pytest.fixture(scope="module")
def small_job(tiny_model_directory, tmp_path_factory):
    return write_job(tmp_path_factory.mktemp("job") / "job", tiny_model_directory, each=2)


@pytest.mark.slow
def test_a_job_that_is_killed_again_and_again_ends_with_the_same_bytes_and_no_work_done_twice(
    small_job, tmp_path
):
    row = kills.kill_ours(small_job, tmp_path / "killed", 4, seed=1)
    assert row.held, row


@pytest.mark.slow
def test_a_naive_store_does_the_same_job_as_long_as_nothing_goes_wrong(small_job, tmp_path):
    """So what kills do to it at full size is the store's fault."""
    to_the_end(Errand(small_job, tmp_path / "naive", tmp_path / "naive.log", "naive"))
    assert len(list((tmp_path / "naive" / "sample_image").iterdir())) == 2


@pytest.mark.slow
def test_processes_on_one_job_agree_while_some_are_killed(small_job, tmp_path):
    ready()
    clock, whole = Stopwatch(), Errand(small_job, tmp_path / "whole", tmp_path / "whole.log")
    to_the_end(whole)
    errands = [Errand(small_job, tmp_path / "crowd", tmp_path / "crowd.log")] * 2
    pause = clock.seconds / 4
    row = crowd.run_crowd("the same job", errands, whole, pause, 2, random.Random(2))
    assert row.held, row


@pytest.mark.slow
def test_damage_to_what_real_stages_made_is_damage_results(results, tmp_path):
    for row in (
        damage_results(results, 20, seed=3),
        delete_records(results, 4, seed=3),
        damage_digest_cache(tmp_path / "cache", 6, seed=3),
        damage_record_index(results, tmp_path / "index", 12, seed=3),
    ):
        assert row.held, row


@pytest.mark.slow
def test_a_broken_request_to_object_storage_spoils_nothing(results, s3_port):
    row = object_storage.break_requests(results.of_each_stage[3:4], s3_port)
    assert row.held, row


def test_no_stage_s_payload_is_lost_on_a_full_disk(results, tmp_path):
    row = full_disk.publish_without_room(results.of_each_stage[-2:], tmp_path, every=1 << 16)
    assert row.held, row


def test_a_power_loss_leaves_no_bad_artifact_and_would_without_our_fsyncs(results, tmp_path):
    chosen = results.of_each_stage[-1:]
    for row in (
        power_loss.lose_power(chosen, tmp_path / "ours", 2, seed=4),
        power_loss.lose_power_without_fsync(chosen, tmp_path / "careless", 1, seed=4),
    ):
        assert row.held, row


def test_clocks_that_jump_cost_work_at_most(tmp_path):
    row = surroundings.kept_house_by_a_jumping_clock(tmp_path / "clocks", 4, seed=5)
    assert row.held, row
    row = surroundings.cached_by_a_jumping_clock(tmp_path / "cached", 20, seed=5)
    assert row.held, row


@pytest.mark.slow
def test_a_store_on_a_read_only_mount_can_be_read_and_says_so_when_written(results, tmp_path):
    row = surroundings.only_read(results, tmp_path)
    if row.held is None:
        pytest.skip(row.reached)
    assert row.held, row


def test_stores_of_other_versions_are_refused_by_name(results, tmp_path):
    row = surroundings.of_other_versions(results, tmp_path)
    assert row.held, row


def test_a_module_s_table_replaces_its_own_and_no_other():
    first = Row("a | b", "0 lost", "0 lost", True, 3.4, "as asked.")
    missed = Row("c", "0 lost", "2 lost", False, 0.0)
    untried = Row("d", "0 lost", "no room", None, 0.0)
    page = written("# Page\n", "one", "One", table([first], 7))
    page = written(page, "two", "Two", table([missed, untried], 7))
    assert "| d | 0 lost | **not run**: no room | 0 |" in page
    assert "| a / b | 0 lost | 0 lost | 3 |" in page
    assert "| c | 0 lost | **missed**: 2 lost | 0 |" in page
    assert "- a | b: as asked." in page
    again = written(page, "one", "One", table([missed], 8))
    assert "a / b" not in again
    assert again.index("## One") < again.index("Seed 8") < again.index("## Two")
    assert written(page, "one", "One", table([first], 7)) == page
