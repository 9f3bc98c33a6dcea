"""Events of real runs, and what a worker's metrics make of them."""

import json
import re
import urllib.request
from pathlib import Path

import pytest
from rich.console import Console
from support.tiny_job import DIVERGING

from adaptivedrag.devices import gpu_of
from artifacts import ArtifactStore
from flows.events import FOLDER, Events
from flows.outcomes import InvalidRequest
from flows.request import RunRequest
from flows.run_job import run
from flows.workers.metrics import serve_metrics

DOCS = Path(__file__).parents[2] / "docs" / "monitoring.md"


def events_in(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return answer.read().decode()


@pytest.fixture(scope="module")
def told(make_job, tmp_path_factory):
    """Run a job of which one edit fails, and again, which finds nothing to do.

    Returns:
        The job, and the folder with the file of each run.
    """
    job = make_job(images=1, each=2, **{"edit-0-1": DIVERGING})
    folder = tmp_path_factory.mktemp("events")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(folder))
        for _ in range(2):
            run(job, job.parent / "store", RunRequest(), console=Console(quiet=True))
    return job, folder


def test_a_run_tells_what_it_began_made_failed_at_and_how_it_ended(told):
    job, folder = told
    first, second = map(events_in, sorted(folder.iterdir()))
    kinds = [event["event"] for event in first]
    assert kinds[0] == "run_began"
    assert (first[0]["job"], first[0]["edits"]) == (str(job), 2)
    made = [event for event in first if event["event"] == "artifact_made"]
    shared = next(event for event in made if event["stage"] == "train_lora")
    assert shared["edits"] == ["edit-0-0"]  # the first edits go through one by one
    assert shared["peak_memory"] > 2**20
    assert shared["free_memory"] is None
    store = ArtifactStore.open(job.parent / "store")
    for event in made:
        assert store.lookup(event["stage"], event["key"]).record.circumstances.seconds
    [failed] = [event for event in first if event["event"] == "edit_failed"]
    assert (failed["edit"], failed["stage"]) == ("edit-0-1", "optimize_latent")
    assert failed["kind"] == "NotFinite"
    assert "latents are not finite" in failed["message"]
    [done] = [event for event in first if event["event"] == "edit_done"]
    assert done["edit"] == "edit-0-0"
    assert kinds[-1] == "run_ended"
    end = first[-1]
    assert (end["exit_code"], end["done"], end["failed"], end["unfinished"]) == (1, 1, 1, 0)
    assert [event["event"] for event in second] == ["run_began", "run_ended"]
    assert {event["run"] for event in first} == {sorted(folder.iterdir())[0].stem}


def test_the_page_says_which_fields_events_have(told):
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", DOCS.read_text("utf-8"), re.MULTILINE))
    common = {"schema", "time", "run", "event"}
    for event in events_in(sorted(told[1].iterdir())[0]):
        documented = set(re.findall(r"`(\w+)`", rows[event["event"]]))
        assert event.keys() - common == documented


def test_metrics_count_what_the_processes_of_a_worker_tell(told, tmp_path):
    counts = {"Running": 2, "Scheduled": 5}
    port = serve_metrics("127.0.0.1:0", tmp_path, lambda: counts)
    assert "adaptivedrag_edits_done_total 0.0" in scrape(port)
    for path in told[1].iterdir():
        # A line that is being written is not read yet; one that found no room is passed over.
        data = path.read_bytes() + b'{"event": "edit_d\n{"event": "edit_done'
        (tmp_path / path.name).write_bytes(data)
    for _ in range(2):
        text = scrape(port)
        assert "adaptivedrag_edits_done_total 1.0" in text
        failed = 'adaptivedrag_edits_failed_total{kind="NotFinite",stage="optimize_latent"} 1.0'
        assert failed in text
        assert 'adaptivedrag_stage_seconds_count{stage="train_lora"} 1.0' in text
        assert "adaptivedrag_runs_begun_total 2.0" in text
        assert 'adaptivedrag_runs_ended_total{exit_code="1"} 2.0' in text
        assert 'adaptivedrag_flow_runs{state="Running"} 2.0' in text
        assert "adaptivedrag_server_up 1.0" in text
    documented = set(re.findall(r"`(adaptivedrag_\w+)`", DOCS.read_text("utf-8")))
    told_of = set(re.findall(r"^(adaptivedrag_\w+)", text, re.MULTILINE))
    summary = {"adaptivedrag_stage_seconds_count"}  # written as _count
    assert documented - {"adaptivedrag_free_memory_bytes"} == told_of - summary


def test_each_gpu_has_its_memory(tmp_path, monkeypatch):
    port = serve_metrics(":0", tmp_path, dict)
    made = {"event": "artifact_made", "stage": "train_lora", "seconds": 1, "device": "H100"}
    for place, visible in enumerate(("4", "6,7")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        gpu = gpu_of(f"cuda:{place}")
        event = made | {"gpu": gpu, "peak_memory": 2 + place, "free_memory": 5 + place}
        (tmp_path / f"{place}.jsonl").write_text(json.dumps(event) + "\n")
    text = scrape(port)
    for gpu, peak, free in (("4", 2.0, 5.0), ("7", 3.0, 6.0)):
        assert f'adaptivedrag_peak_memory_bytes{{device="H100",gpu="{gpu}"}} {peak}' in text
        assert f'adaptivedrag_free_memory_bytes{{device="H100",gpu="{gpu}"}} {free}' in text
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert (gpu_of("cuda"), gpu_of("cuda:1"), gpu_of("cpu")) == ("0", "1", None)


def test_a_server_that_is_away_costs_its_own_metrics_alone(tmp_path):
    def queue():
        raise ConnectionError

    text = scrape(serve_metrics(":0", tmp_path, queue))
    assert "adaptivedrag_server_up 0.0" in text
    assert "adaptivedrag_flow_runs{" not in text
    assert "adaptivedrag_edits_done_total 0.0" in text


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1:", "127.0.0.1:99999", "", "256.1.1.1:0"]
)
def test_an_address_that_cannot_be_had_is_one_line(tmp_path, address):
    with pytest.raises(InvalidRequest, match="--metrics") as raised:
        serve_metrics(address, tmp_path, dict)
    assert "\n" not in str(raised.value)


def test_a_port_that_is_taken_is_said(tmp_path):
    port = serve_metrics(":0", tmp_path, dict)
    with pytest.raises(InvalidRequest, match="name another one"):
        serve_metrics(f":{port}", tmp_path, dict)


def test_events_that_find_no_room_cost_a_line_and_not_the_run():
    lines = []
    events = Events(Path("/dev/full"), "run", lines.append)
    for _ in range(2):
        events.began(Path("job.toml"), "cpu", 1)
    [line] = lines
    assert "/dev/full" in line
    assert "the run goes on" in line


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_done(make_job, tmp_path):
    job = make_job()
    with pytest.raises(InvalidRequest, match=r"--events .*nowhere.* cannot be written: No such"):
        run(
            job,
            job.parent / "store",
            RunRequest(),
            console=Console(quiet=True),
            events=tmp_path / "nowhere" / "events.jsonl",
        )
    assert not (job.parent / "store").exists()
