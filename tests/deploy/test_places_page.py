"""docs/places.md: its commands and files are there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from support.commands import check_command

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "places.md").read_text("utf-8")
LINES = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()


@pytest.mark.parametrize(
    "line", [line for line in LINES if " adaptivedrag " in line and "docker" in line]
)
def test_what_a_container_is_called_with_is_a_command(line):
    words = shlex.split(line)
    if "run" in words:
        check_command(words[words.index("adaptivedrag") + 1 :])


def test_every_file_that_is_named_is_there():
    named = re.findall(r"deploy/[\w./*-]+", PAGE)
    assert len(named) > 5
    for name in named:
        assert [*ROOT.glob(name)], name


def test_the_image_has_what_the_page_says():
    text = (ROOT / "Dockerfile").read_text("utf-8")
    for said in re.findall(r"`(/\w+)`", PAGE.partition("| in the image |")[2].partition("\n\n")[0]):
        assert said in text
    units = {path.name for path in (ROOT / "deploy" / "systemd").iterdir()}
    assert {
        f"{name}.service" for name in re.findall(r"(adaptivedrag-(?:server|worker@))\b", PAGE)
    } <= units


def test_what_is_waited_for_is_a_job_of_the_manifests():
    manifests = (ROOT / "deploy" / "kubernetes").glob("*.yaml")
    documents = [each for path in manifests for each in yaml.safe_load_all(path.read_text("utf-8"))]
    names = {document["metadata"]["name"] for document in documents}
    assert {*re.findall(r"job/([\w-]+)", PAGE)} <= names
