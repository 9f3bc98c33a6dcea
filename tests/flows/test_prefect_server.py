"""Which Prefect server a run uses, and how ours is configured."""

import asyncio
import logging
import os
import subprocess
import sys

import pytest

import flows.prefect_server
from flows.prefect_server import (
    QUIET,
    PrefectServer,
    client_settings,
    start_server,
    temporary_server,
)
from flows.prefect_settings import (
    PrefectUnavailable,
    configured_api_url,
    prefect_home,
    profile_settings,
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


@pytest.mark.parametrize(
    "text", ["garbage = [", "active = 3\nprofiles = 5", '[profiles]\nwork = "a"', "\x00"]
)
def test_profiles_that_cannot_be_read_are_named_in_one_line(text, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "profiles.toml"))
    monkeypatch.setenv("PREFECT_PROFILE", "work")
    (tmp_path / "profiles.toml").write_text(text)
    with pytest.raises(PrefectUnavailable, match=r"profiles\.toml cannot be read") as caught:
        configured_api_url()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/api", "nonsense", "http://a:port/api", "ftp://b", "http://u:secret@b:9/"],
)
def test_a_server_that_does_not_answer_is_named_with_what_to_do(url, monkeypatch):
    monkeypatch.setattr(flows.prefect_server, "ANSWER_SECONDS", 0.0)
    with pytest.raises(PrefectUnavailable, match="unset PREFECT_API_URL") as caught:
        PrefectServer(url).wait_until_ready()
    assert url.replace("u:secret@", "") in str(caught.value)
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(PrefectUnavailable), temporary_server():
        pytest.fail("models would be loaded in vain")


def test_a_server_behind_a_proxy_is_asked_through_it(monkeypatch):
    monkeypatch.setattr(flows.prefect_server, "ANSWER_SECONDS", 0.0)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(PrefectUnavailable, match="asked with the proxies of HTTP_PROXY"):
        PrefectServer("http://prefect.example/api").wait_until_ready()


def test_settings_that_prefect_does_not_take_are_named_in_one_line():
    check = "from flows.prefect_settings import load_prefect; load_prefect()"
    shown = subprocess.run(
        [sys.executable, "-c", check],
        env=os.environ | {"PREFECT_API_REQUEST_TIMEOUT": "soon"},
        capture_output=True,
        text=True,
        check=False,
    )
    *_, last = shown.stderr.strip().splitlines()
    assert "PrefectUnavailable: Prefect does not take its settings (APISettings" in last
    assert "request_timeout" in last
    assert "'soon'" in last
    assert "plugins" not in shown.stderr.partition("Traceback")[0]


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


def test_the_last_events_are_sent_where_an_event_loop_runs_too():
    async def in_a_notebook() -> bool:
        return flows.prefect_server.send_events(1.0)

    assert asyncio.run(in_a_notebook())


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
