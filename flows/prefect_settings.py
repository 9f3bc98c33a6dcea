"""Prefect's settings: those that ship with the project, the user's own, and where none can be.

Prefect reads the user's settings when it is imported, so what may be wrong with them shows there.
"""

import contextlib
import io
import os
import sys
import tomllib
from pathlib import Path

from pydantic import ValidationError

from artifacts.lookup.cache_file import cache_path

PROFILE = "adaptivedrag"


class PrefectUnavailable(ConnectionError):
    """Prefect cannot be used; the message names the address, log or setting, and what to do."""


def profile_settings() -> dict[str, str]:
    """Return the settings of the profile that ships with the project."""
    text = Path(__file__).with_name("profiles.toml").read_text("utf-8")
    settings: dict[str, str] = tomllib.loads(text)["profiles"][PROFILE]
    return settings


def prefect_home() -> Path:
    """Return the folder of the temporary servers' database, kept so that it is migrated once."""
    return cache_path("prefect")


def configured_api_url() -> str | None:
    """Return PREFECT_API_URL or the active profile's address, None when neither is set.

    Raises:
        PrefectUnavailable: if the user's profiles cannot be read.
    """
    return os.environ.get("PREFECT_API_URL") or _url_of_profile()


def load_prefect() -> None:
    """Import Prefect with the user's settings.

    Raises:
        PrefectUnavailable: if it does not take them.
    """
    _url_of_profile()
    _ensure_home()
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            from prefect.settings import get_current_settings

            get_current_settings()
    except Exception as error:  # whatever Prefect makes of a setting
        raise PrefectUnavailable(
            f"Prefect does not take its settings ({_said(error)}): correct the variable "
            "PREFECT_… or the profile that says so."
        ) from error
    if sys.stderr:
        sys.stderr.write(told.getvalue())


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        return f"{error.title} {name}: {first['msg']}, not {first['input']!r}"
    return " ".join(str(error).split()) or type(error).__name__


def _url_of_profile() -> str | None:
    profiles = _users_profiles()
    if profiles is None:
        return None
    try:
        found = tomllib.loads(profiles.read_text("utf-8"))
        active = os.environ.get("PREFECT_PROFILE", found.get("active"))
        url = found.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise PrefectUnavailable(
            f"Prefect's profiles in {profiles} cannot be read ({error}): correct or remove the "
            "file, or name another with PREFECT_PROFILES_PATH."
        ) from error
    return str(url) if url else None


def _users_home() -> Path | None:
    """Return Prefect's folder; None if this user has no home."""
    with contextlib.suppress(RuntimeError):
        return Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    return None


def _users_profiles() -> Path | None:
    """Return the file of the user's profiles, if there is one within reach."""
    home = _users_home()
    named = os.environ.get("PREFECT_PROFILES_PATH", home and home / "profiles.toml")
    with contextlib.suppress(OSError, RuntimeError):
        if named and (path := Path(named).expanduser()).is_file():
            return path
    return None


def _ensure_home() -> None:
    """Name another folder for Prefect where the user has no home, or one that is only read."""
    home, profiles = _users_home(), _users_profiles()
    with contextlib.suppress(OSError):
        if home:
            home.mkdir(parents=True, exist_ok=True)
            if os.access(home, os.W_OK | os.X_OK):
                return
    if profiles:
        os.environ["PREFECT_PROFILES_PATH"] = str(profiles)
    os.environ["PREFECT_HOME"] = str(prefect_home())
