"""Which Prefect server a run uses, and how ours is configured."""

import logging
import os
import subprocess
import sys

import pytest

from flows.prefect_server import (
    QUIET,
    PrefectServer,
    PrefectUnavailable,
    client_settings,
    configured_api_url,
    prefect_home,
    profile_settings,
    start_server,
    temporary_server,
)

PROFILES = """
active = "work"

[profiles.work]
PREFECT_API_URL = "http://work.example/api"

[profiles.home]
PREFECT_API_URL = "http://home.example/api"

[profiles.nowhere]
"""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "http://work.example/api"),
        ({"PREFECT_PROFILE": "home"}, "http://home.example/api"),
        ({"PREFECT_PROFILE": "nowhere"}, None),
        ({"PREFECT_API_URL": "http://here.example/api"}, "http://here.example/api"),
    ],
)
def test_the_users_server_comes_from_the_environment_or_the_profile(
    variables, expected, tmp_path, monkeypatch
):
    (tmp_path / "profiles.toml").write_text(PROFILES)
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "profiles.toml"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert configured_api_url() == expected


def test_without_profiles_no_server_is_configured():
    assert configured_api_url() is None


def test_a_server_that_the_user_named_is_not_ours_to_start_or_end(users_server):
    with temporary_server() as server:
        assert server.api_url == users_server.api_url
        assert server.process is None
        server.wait_until_ready()
    assert users_server.process.poll() is None


def test_a_server_that_cannot_start_names_its_log(monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_EVENTS_RETENTION_PERIOD", "no time at all")
    with temporary_server() as server, pytest.raises(PrefectUnavailable, match=r"server\.log"):
        server.wait_until_ready()
    assert "retention_period" in (prefect_home() / "server.log").read_text()


def test_a_server_that_is_stopped_while_it_starts_is_gone():
    server = start_server()
    server.stop()
    assert server.process.returncode is not None


def test_a_run_leaves_the_levels_of_loggers_as_they_were(users_server, monkeypatch):
    monkeypatch.delenv("PREFECT_LOGGING_LEVEL", raising=False)
    loggers = {name: logging.getLogger(name) for name in QUIET}
    loggers["prefect"].setLevel(logging.DEBUG)
    before = {name: logger.level for name, logger in loggers.items()}
    with client_settings(PrefectServer(users_server.api_url)):
        assert {name: logger.level for name, logger in loggers.items()} == QUIET
    assert {name: logger.level for name, logger in loggers.items()} == before


def test_every_setting_of_the_shipped_profile_is_one_of_prefects_and_taken():
    check = (
        "from prefect.settings import get_current_settings as now; "
        "print(sorted(now().to_environment_variables(exclude_unset=True).items()))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", check],
        env=os.environ | profile_settings(),
        capture_output=True,
        text=True,
        check=True,
    )
    for name in profile_settings():
        assert f"'{name}'" in shown.stdout
