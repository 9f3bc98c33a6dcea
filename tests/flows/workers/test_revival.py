"""Lost shards come back, by what the store says. Nothing runs here: each state is set by hand."""

import os
from uuid import UUID

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelling, Crashed, Failed, Running

from artifacts import ArtifactStore
from flows.beat import Watch, beating, last_beat
from flows.outcomes import RunSummary, ended, note_at_work, record_run
from flows.progress import Standing
from flows.request import RunRequest
from flows.states import LEFT, REFUSED
from flows.workers import deployment, submission
from flows.workers.deployment import deploy, deployment_of
from flows.workers.revival import MOST_DEATHS, Reviver
from flows.workers.shard import Errand
from flows.workers.submission import outstanding, submit

POOL = "revival"
STANDING = Standing(0, 2, 0, None, None, 0.0)


class Shards:
    """A job of two shards that wait for a worker."""

    def __init__(self, client, job, store, pool=POOL):
        self.client, self.store, self.said = client, store, []
        self.deployment = deployment_of(client, pool)
        self.made = submit(job, store.location, RunRequest(), shards=2, pool=pool)

    def set(self, number: int, state: State) -> None:
        self.client.set_flow_run_state(UUID(self.made.created[number]), state, force=True)

    def errand(self, number: int) -> Errand:
        return Errand.model_validate(self.run(number).parameters)

    def run(self, number: int):
        return self.client.read_flow_run(UUID(self.made.created[number]))

    def state(self, number: int) -> State:
        return self.run(number).state

    def look(self, patience: float = 0.0) -> None:
        """Look once, as somebody does who has seen nothing before."""
        Reviver(self.deployment, self.said.append, patience, patience).look(self.client)

    @property
    def waiting(self) -> list[FlowRun]:
        """The flow runs that wait, in the order in which workers get them."""
        found = self.client.get_scheduled_flow_runs_for_work_pool(POOL)
        ours = (each.flow_run for each in found if self.made.tag in each.flow_run.tags)
        return sorted(ours, key=lambda run: run.expected_start_time)

    @property
    def new(self) -> list[Errand]:
        found = outstanding(self.client, self.deployment, self.made.tag)
        return [
            Errand.model_validate(each.parameters)
            for each in found
            if str(each.id) not in self.made.created
        ]


@pytest.fixture
def shards(users_server, make_job, store):
    deploy(POOL)
    with deployment.users_server() as client:
        yield Shards(client, make_job(images=2, each=2), store)


def test_a_run_without_a_sign_of_life_is_done_again_by_one_other(shards):
    shards.set(0, Running())
    shards.look(patience=1000)
    assert not shards.new
    shards.look()
    (new,) = shards.new
    places = [run.expected_start_time for run in shards.waiting]
    assert places == sorted(run.expected_start_time for run in (shards.run(0), shards.run(1)))
    old = shards.errand(0)
    assert (new.shard.edits, new.job, new.request) == (old.shard.edits, old.job, old.request)
    assert (new.shard.deaths, new.shard.run_id != old.shard.run_id) == (1, True)
    assert shards.state(0).name == "Passed on"
    assert "no sign of life" in shards.said[0]
    shards.set(0, Running())  # as another reviver saw it a moment ago
    shards.look()
    assert len(shards.new) == 1
    assert shards.state(1).type is StateType.SCHEDULED


def test_a_run_is_alive_while_its_beat_changes_whatever_the_clocks_say(shards, store):
    shards.set(0, Running())
    name, now = shards.errand(0).shard.run_id, [0.0]
    reviver = Reviver(shards.deployment, print, 45.0, _watch=Watch(lambda: now[0]))
    with beating(store, name, seconds=0.05):
        for _ in range(3):
            before = last_beat(store, name)
            while last_beat(store, name) == before:
                pass
            reviver.look(shards.client)
            now[0] += 40.0
    for path in store.backend.root.glob(f"runs/{name}/*"):
        os.utime(path, (0, 0))
    assert not shards.new
    reviver.look(shards.client)  # the beat may have changed once more
    now[0] += 46.0
    reviver.look(shards.client)
    assert len(shards.new) == 1


def test_a_run_that_has_left_a_summary_is_over_whatever_prefect_says(shards, store):
    for number, failed in ((0, False), (1, True)):
        shards.set(number, Running())
        name = shards.errand(number).shard.run_id
        stopped = "7 edits failed; at most 6 may" if failed else ""
        record_run(store, RunSummary(name, "job", "path", "now", done=("a",), stopped=stopped))
    assert not submit(shards.made.run.job, store.location, RunRequest(), pool=POOL).at_hand
    shards.look()
    assert [shards.state(0).name, shards.state(1).name] == ["Completed", "Stopped"]
    assert shards.state(1).message == "1 done; 7 edits failed; at most 6 may"


def test_two_submissions_at_once_make_one_flow_run_of_a_shard(shards, store, monkeypatch):
    job = shards.made.run.job

    def submit_blindly():
        """Submit as somebody does who looked before the others had created anything."""
        with monkeypatch.context() as patch:
            patch.setattr(submission, "outstanding", lambda *_: [])
            return submit(job, store.location, RunRequest(), shards=2, pool=POOL)

    again = submit_blindly()
    assert (again.created, again.edits, again.at_hand) == ((), 0, 4)
    assert again.run_ids == shards.made.run_ids == {shards.errand(n).shard.run_id for n in (0, 1)}
    shards.set(0, Cancelling())
    name = shards.errand(1).shard.run_id
    record_run(store, RunSummary(name, "job", "path", "now", stopped="no time is left"))
    third = submit_blindly()  # what is over is no hindrance
    assert (len(third.created), third.at_hand) == (2, 0)
    assert not {*third.created} & {*shards.made.created}
    assert submit_blindly().created == ()


def test_what_was_given_back_or_refused_is_passed_on_at_once_and_what_a_user_cancels_is_not(
    shards, store
):
    shards.set(0, Crashed(name=LEFT))
    name = shards.errand(0).shard.run_id
    record_run(store, RunSummary(name, "job", "path", "now", interrupted=True))
    shards.set(1, Failed(name=REFUSED, message="torch is 2 here"))
    shards.look(patience=1000)
    given_back, refused = sorted(shards.new, key=lambda errand: errand.shard.refusals)
    assert (given_back.shard.deaths, given_back.shard.refusals) == (1, ())
    assert (refused.shard.deaths, refused.shard.refusals) == (0, ("torch is 2 here",))
    for number in (0, 1):
        shards.set(number, Cancelling())
    shards.look()
    assert len(shards.new) == 2


def test_a_shard_that_kills_run_after_run_is_given_up_unless_it_gets_on(shards, store):
    def die(number: int, taken: int) -> None:
        """Have a run die that has died too often before, and has done `taken` things now."""
        errand = shards.errand(number).again(deaths=MOST_DEATHS)
        shards.client.update_flow_run(
            shards.run(number).id, parameters=errand.model_dump(mode="json")
        )
        note_at_work(store, errand.shard.run_id, errand.job, ["a"], "b", STANDING, taken=taken)
        shards.set(number, Running())

    die(0, taken=1)
    shards.look()
    (new,) = shards.new
    assert new.shard.deaths == 0
    die(1, taken=0)
    shards.look()
    assert len(shards.new) == 1
    assert shards.state(1).name == "Given up"
    assert f"given up after {MOST_DEATHS + 1} vain attempts" in shards.said[-1]
    end = ended(store, shards.errand(1).shard.run_id)
    assert (end.exit_code, end.stopped) == (3, shards.said[-1])


def test_a_store_that_cannot_be_seen_is_left_to_others(shards, tmp_path):
    shards.set(0, Running())
    elsewhere = shards.errand(0).model_copy(update={"store": str(tmp_path / "elsewhere")})
    shards.client.update_flow_run(shards.run(0).id, parameters=elsewhere.model_dump(mode="json"))
    shards.set(1, Running())
    shards.look()
    assert [shards.state(0).name, shards.state(1).name] == ["Running", "Passed on"]
    assert not ArtifactStore.open(tmp_path / "elsewhere").runs()
