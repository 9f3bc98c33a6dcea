"""A home for the libraries that need one, such as Prefect's, where the user has none."""

import os
from contextlib import suppress


def ensure_home() -> None:
    """Name a folder of the user's caches as home, if there is neither HOME nor an account."""
    if os.path.expanduser("~") == "~":
        from artifacts.lookup.cache_file import cache_path

        home = cache_path("home")
        with suppress(OSError):  # then what needs a home says so
            home.mkdir(parents=True, exist_ok=True)
        os.environ["HOME"] = str(home)
