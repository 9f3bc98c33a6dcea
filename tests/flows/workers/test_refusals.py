"""What a worker does not do: each time one line, the store as it was, and nobody else kept."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import flows.terminal.workers
from artifacts import ArtifactStore
from cli import app
from flows.outcomes import ended
from flows.request import RunRequest
from flows.run import Run
from flows.terminal.workers import places_of
from flows.workers.edit_shard import edit_shard
from flows.workers.shard import Errand


@pytest.fixture
def errand(make_job, store) -> Errand:
    run = Run.open(make_job(images=1, each=2), store.location, RunRequest())
    return Errand.of(run, run.edits)


def refused(errand: Errand, **changes) -> tuple[str, str]:
    """Have a shard done with other parameters; return how its flow run ends."""
    state = edit_shard.fn(**errand.model_copy(update=changes).model_dump(mode="json"))
    assert "\n" not in state.message
    return state.name, state.message


def on_other_footing(errand: Errand, field: str, **there: str) -> Errand:
    footing = errand.shard.footing
    changed = footing.model_copy(update={field: getattr(footing, field) | there})
    shard = errand.shard.model_copy(update={"footing": changed})
    return errand.model_copy(update={"shard": shard})


def test_other_code_libraries_or_models_are_refused_by_name(errand, store):
    (model,) = (name for name in errand.shard.footing.models if name.startswith("model "))
    for field, name in (("libraries", "torch"), ("stages", "sample_image"), ("models", model)):
        ours = getattr(errand.shard.footing, field)[name]
        planned = on_other_footing(errand, field, **{name: "0.1"})
        said = f"{name} is {ours} here, and the plan was made with 0.1"
        assert refused(planned) == ("Refused", said)
        assert ended(store, errand.shard.run_id) is None  # another worker may take it
    newer = on_other_footing(errand, "libraries", torch="0.1", peft="9")
    assert refused(newer)[1].count("the plan was made with") == 2


def test_what_other_code_has_submitted_is_submitted_again(errand):
    newer = on_other_footing(errand, "libraries", torch="0.1")
    assert newer.tag != errand.tag == on_other_footing(errand, "models", other="0.1").tag
    asked = errand.model_dump(mode="json")
    state = edit_shard.fn(**asked | {"shard": asked["shard"] | {"unheard": 1}})
    assert (state.name, state.message[-12:]) == ("Outdated", "submit again")


def test_what_this_machine_does_not_have_is_refused_and_nothing_is_made(errand, store, tmp_path):
    away = tmp_path / "unmounted"
    assert refused(errand, store=str(away))[0] == "Refused"
    assert not away.exists()
    name, said = refused(errand, job=str(away / "job.toml"))
    assert (name, said) == ("Refused", f"the folder {away} of the job cannot be seen here")
    request = errand.request.model_copy(update={"device": "cuda"})
    name, said = refused(errand, request=request)
    assert (name, said[:29]) == ("Refused", "--device cuda cannot be used:")
    job = Path(errand.job)
    (model,) = (name.removeprefix("model ") for name in errand.shard.footing.models)
    job.write_text(job.read_text().replace(model, str(away)))
    name, said = refused(errand)
    assert (name, str(away) in said) == ("Refused", True)
    assert not list(store.backend.sizes("actions"))


def test_a_job_that_has_changed_since_is_for_good_and_says_what_to_do(errand, store):
    job = Path(errand.job)
    edits, text = job.with_name("edits.jsonl"), job.read_text()
    edits.write_text(edits.read_text().replace("[60, 64]", "[61, 64]", 1))
    said = "edit edit-0-0 is not as it was when it was planned: submit again"
    assert refused(errand) == ("Outdated", said)
    end = ended(store, errand.shard.run_id)
    assert (end.exit_code, end.stopped) == (3, said)
    edits.write_text(edits.read_text().partition("\n")[2])
    assert refused(errand)[1] == said
    job.write_text(text.replace("steps = 3", "steps = 2"))
    assert "edit edit-0-" in refused(errand)[1]
    job.write_text("model =")
    name, said = refused(errand)
    assert (name, said[-14:]) == ("Outdated", ": submit again")
    shutil.move(job, job.with_name("moved.toml"))
    assert refused(errand)[0] == "Outdated"
    assert ArtifactStore.open(store.location).runs() == [errand.shard.run_id]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gpus", "0,x"], "--gpus '0,x' cannot be read: write it as 0,1"),
        (["--gpus", "1,1"], "--gpus '1,1' cannot be read: write it as 0,1"),
        (["--gpus", "0", "--processes", "2"], "--gpus and --processes exclude each other"),
        (["--processes", "1"], "No Prefect server is configured"),
    ],
)
def test_a_worker_that_cannot_begin_says_so_in_one_line(options, said):
    told = CliRunner().invoke(app, ["worker", *options])
    assert told.exit_code == 2
    assert said in " ".join(told.output.split())


def test_a_worker_takes_the_gpus_that_its_surroundings_leave_it(monkeypatch):
    monkeypatch.setattr(flows.terminal.workers, "COUNT_GPUS", "print(2)")  # there is none here
    for visible, names in (("4,GPU-5f", ["4", "GPU-5f"]), ("", ["0", "1"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert places_of(None, None) == [{"CUDA_VISIBLE_DEVICES": name} for name in names]
    assert places_of("3", None) == [{"CUDA_VISIBLE_DEVICES": "3"}]
