"""The units: by systemd's own judgment, and what they call."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import prefect.settings
import pytest
from support.commands import check_command

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
MOST_EXPOSED = 45
"""Tenths; systemd calls what is below 50 OK."""


def service(path: Path) -> dict[str, list[str]]:
    """The settings of a unit's [Service], each of which may be given more than once."""
    found: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_calls_what_there_is(path):
    settings = service(path)
    (start,) = settings["ExecStart"]
    program, *words = shlex.split(start.replace("%i", "0"))
    if Path(program).name == "adaptivedrag":
        assert check_command(words) == "worker"
    else:
        assert words[:2] == ["server", "start"]
    variables = [each.split("=")[0] for line in settings["Environment"] for each in line.split()]
    named = re.findall(r"PREFECT_[A-Z_]+[A-Z]", path.read_text("utf-8"))
    for name in [*variables, *named]:
        assert not name.startswith("PREFECT_") or hasattr(prefect.settings, name), name
    assert not any("PASSWORD" in each or "SECRET" in each for each in variables)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_systemd_takes_the_units_and_finds_them_safe(tmp_path):
    for path in UNITS:
        text = path.read_text("utf-8").replace("/opt/adaptivedrag/.venv/bin/", f"{tmp_path}/")
        (tmp_path / path.name.replace("@", "@0")).write_text(text, "utf-8")
    for program in ("adaptivedrag", "prefect"):
        shutil.copy("/bin/true", tmp_path / program)
    units = sorted(tmp_path.glob("*.service"))
    threshold = f"--threshold={MOST_EXPOSED}"
    for words in (["verify"], ["security", "--offline=true", threshold]):
        done = subprocess.run(
            ["systemd-analyze", *words, *units], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout[-300:]
        assert not done.stderr
