"""The image: what gets into it, who it runs as, and what it calls."""

import json
import re
import tomllib
from pathlib import Path

from support.commands import check_command

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def instructions() -> list[tuple[str, str]]:
    """The lines of the Dockerfile: an instruction, and what follows it."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    words = [line.split(maxsplit=1) for line in lines if line.strip()]
    return [(name, rest) for name, rest in words]


def last(instruction: str) -> str:
    return [rest for name, rest in instructions() if name == instruction][-1]


def test_everything_that_is_installed_gets_into_the_image_and_nothing_else():
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    tools = PROJECT["tool"]["setuptools"]
    packages = {each.removesuffix("*") for each in tools["packages"]["find"]["include"]}
    modules = {f"{name}.py" for name in tools["py-modules"]}
    licenses = {each for each in PROJECT["project"]["license-files"] if "/" not in each}
    build = {"pyproject.toml", "requirements.lock", PROJECT["project"]["readme"]}
    assert "*" in ignored
    assert let_in == packages | modules | licenses | build


def test_it_installs_what_is_locked_and_optional_parts_that_exist():
    (install,) = [rest for name, rest in instructions() if name == "RUN" and "--extra" in rest]
    assert "--require-hashes --constraint requirements.lock" in re.sub(r"\s+", " ", install)
    extras = re.findall(r"--extra (\w+)", install)
    locked = (ROOT / "requirements.lock").read_text("utf-8")
    for extra in extras:
        for package in PROJECT["project"]["optional-dependencies"][extra]:
            assert re.search(rf"^{re.split(r'[<>=]', package)[0]}==", locked, re.MULTILINE), package
    assert set(extras) == {*PROJECT["project"]["optional-dependencies"]} - {"dev"}


def test_its_base_can_be_chosen_and_its_user_is_not_root():
    assert instructions()[0] == ("ARG", "BASE=python:3.11-slim-bookworm")
    assert {rest.split()[0] for name, rest in instructions() if name == "FROM"} == {
        "${BASE}",
        "packages",
    }
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))


def test_it_is_a_worker_whose_health_is_asked_where_it_answers():
    assert json.loads(last("ENTRYPOINT")) == ["adaptivedrag"]
    command = json.loads(last("CMD"))
    assert check_command(command) == "worker"
    asked = json.loads(last("HEALTHCHECK").partition("CMD")[2])
    compile(asked[2], "HEALTHCHECK", "exec")
    assert f"http://{command[command.index('--metrics') + 1]}/" in asked[2]


def test_it_writes_to_its_cache_alone_and_asks_no_hub():
    environment = dict(word.split("=", 1) for word in last("ENV").split())
    volume = last("VOLUME")
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR", "PREFECT_HOME"):
        assert Path(environment[name]).is_relative_to(volume), name
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert (ROOT / "flows" / Path(environment["PREFECT_PROFILES_PATH"]).name).is_file()
