"""Who hears of a run: a real server that takes JSON, fails or hangs, and a real shell."""

import json
import signal
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.finished_job import finish, write_job
from typer.testing import CliRunner

import flows.notify
from artifacts import ArtifactStore
from cli import app
from flows.notify import Notices, document
from flows.outcomes import InvalidRequest, RunSummary
from flows.request import RunRequest
from flows.run import Run
from stages.failures import Failure
from stages.jobs.reader import load_job

SUMMARY = RunSummary("run-1", "cats", "cats/job.toml", "now", done=("a",), unfinished=("c",))


@contextmanager
def webhook(*answers: int, seconds: float = 0.0):
    """Serve on loopback; the last answer is that to all later requests.

    Yields:
        Its address, and what it was sent.
    """
    taken, left = [], list(answers or [200])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(seconds)
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook?token=hidden", taken
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(flows.notify, "RETRY_SECONDS", (0.01, 0.01))


def told(url):
    """Tell of an end; return the lines that the user sees, and the seconds it took."""
    lines, clock = [], time.monotonic()
    notices = Notices(url, None, lines.append)
    notices.first_failure(SUMMARY)
    notices.end(SUMMARY, 3)
    return lines, time.monotonic() - clock


def test_a_webhook_is_told_of_the_first_failure_and_of_the_end():
    with webhook() as (url, taken):
        assert told(url)[0] == []
    assert [(each["event"], each.get("exit_code")) for each in taken] == [
        ("failure", None),
        ("end", 3),
    ]


def test_a_webhook_that_fails_is_tried_again_and_then_named_without_its_secrets():
    with webhook(500, 503, 200, 500) as (url, taken):
        lines, _ = told(url)
    assert [each["event"] for each in taken] == ["failure"] * 3 + ["end"] * 3
    (line,) = lines
    assert line.endswith("was not told of the end (it answers 500)")
    assert "token" not in line
    assert "hook" not in line


def test_a_webhook_that_hangs_or_is_not_there_holds_nobody_for_long(monkeypatch):
    lines, _ = told("http://127.0.0.1:9/hook")
    assert ["ConnectError" in line for line in lines] == [True, True]
    monkeypatch.setattr(flows.notify, "LAST_SECONDS", 0.5)
    with webhook(seconds=2.0) as (url, _):
        lines, seconds = told(url)
    assert seconds < 2.0
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    with webhook(seconds=2.0) as (url, _):
        monkeypatch.setattr(flows.notify, "LAST_SECONDS", 20.0)
        here = threading.get_ident()
        threading.Timer(0.2, signal.pthread_kill, [here, signal.SIGINT]).start()
        lines += told(url)[0]
    signal.signal(signal.SIGINT, before)
    assert ["(no answer)" in line for line in lines] == [True] * 4


@pytest.mark.parametrize("url", ["", "hooks.example", "ftp://a/b", "http://", "http://a:x/s3cret"])
def test_what_is_no_address_of_a_webhook_is_refused_before_the_run(url, tmp_path):
    with pytest.raises(InvalidRequest, match="--notify takes the address of a webhook") as refusal:
        Notices(url, None, print)
    assert "s3cret" not in str(refusal.value)
    ended = CliRunner().invoke(app, ["run", str(tmp_path / "none.toml"), "--notify", url])
    assert ended.exit_code == 2
    assert "--notify takes" in ended.output


def test_a_document_has_causes_and_no_secrets():
    failures = [
        Failure(name, "train_lora", "OSError", f"s3://key:word@bucket/{name}?sig=secret is away")
        for name in map(str, range(20))
    ]
    summary = RunSummary(
        "run-1",
        *("cats", "cats/job.toml", "now"),
        failed=tuple(failures),
        stopped="StoreUnavailable: https://user:pass@word@place/x?a=secret: gone",
        report="s3://key:word@bucket/out/index.html",
    )
    found = document(summary, "end")
    (cause,) = found["causes"]
    assert (cause["edits"], len(cause["ids"])) == (20, 10)
    assert cause["message"] == "s3://bucket/0 is away"
    assert found["report"] == "s3://bucket/out/index.html"
    assert not {"word", "secret"} & {*json.dumps(found).replace(":", " ").replace("=", " ").split()}
    assert "word" not in json.dumps(found)
    assert "secret" not in json.dumps(found)


def test_a_run_tells_of_its_first_failure_at_once_and_only_of_that(tmp_path):
    run, heard = Run.open(write_job(tmp_path / "job", edits=3), tmp_path / "s", RunRequest()), []
    run.on_first_failure = heard.append
    for name in ("edit-1", "edit-2"):
        run.fail(Failure(name, "train_lora", "NotFinite", "step 3"))
    (summary,) = heard
    assert [failure.id for failure in summary.failed] == ["edit-1"]


def test_a_command_reads_how_the_run_ended_and_changes_no_exit_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_job(tmp_path / "job", edits=1)
    (edit,) = load_job(path).edits
    finish(edit, ArtifactStore.open(".adaptivedrag"))
    with webhook() as (url, taken):
        options = ("--notify", url, "--on-finish", "cat > 'the end.json'; exit 4")
        ended = CliRunner().invoke(app, ["run", str(path), *options])
    assert ended.exit_code == 0, ended.output
    assert ended.output.splitlines()[-1] == "--on-finish ended with 4"
    read = json.loads((tmp_path / "the end.json").read_text())
    assert taken == [read]
    assert (read["done"], read["exit_code"]) == (1, 0)
    assert read["report"] == (tmp_path / "results" / "job" / "index.html").as_uri()


def test_an_error_that_ends_a_run_at_once_is_an_end_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_job(tmp_path / "job", edits=1)
    options = ("--device", "abacus", "--on-finish", "cat > end.json; kill $$")
    ended = CliRunner().invoke(app, ["run", str(path), *options])
    assert ended.exit_code == 2
    assert "--on-finish was ended by signal 15" in ended.output
    read = json.loads((tmp_path / "end.json").read_text())
    assert (read["exit_code"], read["unfinished"]) == (2, 1)
    assert "--device abacus cannot be used" in read["stopped"]
