"""docs/annotate.md says what is true: its commands exist, and the first one serves a page."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image
from typer.main import get_command

from cli import app

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "annotate.md").read_text("utf-8")
COMMANDS = re.findall(r"adaptivedrag ((?:annotate|report) [^`\n]+)", TEXT)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_has_these_options(line):
    name, *words = shlex.split(line)
    command = get_command(app).commands[name]
    assert command.make_context(name, words).params


def test_the_first_command_serves_its_page_until_it_is_interrupted(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "photos" / "dog.png")
    process = subprocess.Popen(
        [sys.executable, ROOT / "cli.py", *shlex.split(COMMANDS[0])],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout.readline() == f"Edits are saved to {tmp_path}/photos/edits.jsonl\n"
    address = process.stdout.readline().split()[0]
    assert "<h1>Annotate photos</h1>" in httpx.get(address).text
    assert httpx.get(f"{address}job").json()["images"] == [{"name": "dog.png", "stem": "dog"}]
    process.send_signal(signal.SIGINT)
    assert (process.wait(20), process.stdout.read()) == (0, "")
    process.stdout.close()
    assert not (tmp_path / "photos" / "job.toml").exists()
