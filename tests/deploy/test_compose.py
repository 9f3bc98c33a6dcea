"""The compose file: its passwords, its ports, and what its services call."""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import prefect.settings
import pytest
import yaml
from support.commands import check_command

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text("utf-8")
SERVICES = yaml.safe_load(TEXT)["services"]
OURS = [name for name, each in SERVICES.items() if each["image"] == "adaptivedrag"]


@pytest.fixture
def environment(tmp_path) -> Path:
    """The .env that ./make-env has written."""
    shutil.copy(FOLDER / "make-env", tmp_path)
    for _ in range(2):
        subprocess.run([tmp_path / "make-env"], check=True)
    return tmp_path / ".env"


def test_every_variable_that_is_needed_is_written_once_and_for_its_user_alone(environment):
    before = environment.read_text("utf-8")
    values = dict(line.split("=") for line in before.splitlines())
    assert {*values} == {*re.findall(r"\$\{(\w+):\?", TEXT)}
    assert all(
        re.fullmatch(r"[0-9a-f]{48}", values[f"{name}_PASSWORD"])
        for name in ("S3", "POSTGRES", "API")
    )
    assert int(values["USER_ID"]) > 0
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    subprocess.run([environment.with_name("make-env")], check=True)
    assert environment.read_text("utf-8") == before


def test_every_folder_that_is_mounted_is_made_for_its_user(environment):
    for folder in re.findall(r"\$\{\w+:-(\./\w+)\}", TEXT):
        assert (environment.parent / folder).is_dir(), folder


def test_passwords_are_in_no_file_that_is_kept():
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|AUTH|MC_HOST", variable):
                assert "${" in value, f"{name}: {variable}"
    ignored = (FOLDER.parents[1] / ".gitignore").read_text("utf-8").splitlines()
    assert "/deploy/compose/.env" in ignored


def test_ports_are_open_to_this_machine_alone():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_service_leaves_in_time_and_ours_have_no_rights():
    for name, service in SERVICES.items():
        assert service["init"], name
        assert service["stop_grace_period"] == "40s", name
    for name in OURS:
        assert SERVICES[name]["read_only"], name
        assert SERVICES[name]["cap_drop"] == ["ALL"], name


def test_commands_and_settings_are_those_there_are():
    commands = {name: SERVICES[name].get("command") for name in OURS}
    assert {check_command(words) for words in commands.values() if words} == {"deploy", "worker"}
    assert SERVICES["server"]["entrypoint"][:3] == ["prefect", "server", "start"]
    for name in OURS:
        for variable in SERVICES[name]["environment"]:
            assert not variable.startswith("PREFECT_") or hasattr(prefect.settings, variable)


def test_a_service_waits_for_the_health_of_one_that_stays_and_the_end_of_one_that_ends():
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            ends = SERVICES[name]["restart"] == "on-failure"
            until = "service_completed_successfully" if ends else "service_healthy"
            assert wait["condition"] == until, name
            assert ends or "test" in SERVICES[name]["healthcheck"], name


def test_the_gpu_file_speaks_of_a_service_there_is():
    extra = yaml.safe_load((FOLDER / "gpu.yaml").read_text("utf-8"))["services"]
    assert {*extra} <= {*SERVICES}
