"""A hub of models on loopback: one repository, whose branch the test moves."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

FIRST, SECOND = "a" * 40, "b" * 40
REPOSITORY = "owner/sd"


@dataclass
class Hub:
    """What the hub holds, and what it was asked."""

    url: str = ""
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by name, by commit."""
    branches: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Method and path of each request."""

    def commit(self, name: str, files: dict[str, bytes], branch: str = "main") -> None:
        """Move a branch to a new commit."""
        self.commits[name] = files
        self.branches[branch] = name

    def found(self, revision: str) -> str | None:
        """Return the commit that a revision names."""
        known = {name for name in self.commits if name.startswith(revision)}
        return self.branches.get(revision) or (known.pop() if len(known) == 1 else None)

    def reply(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Answer a request: status, body and headers."""
        api = f"/api/models/{REPOSITORY}"
        if path == api or path.startswith(f"{api}/revision/"):
            commit = self.found(
                unquote(path.removeprefix(api).removeprefix("/revision/") or "main")
            )
            if commit is None:
                return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
            names = [{"rfilename": name} for name in self.commits[commit]]
            text = {"id": REPOSITORY, "sha": commit, "private": False, "siblings": names}
            return 200, json.dumps(text).encode(), {"Content-Type": "application/json"}
        revision, _, name = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")
        commit = self.found(unquote(revision)) or ""
        data = self.commits.get(commit, {}).get(unquote(name))
        if data is None:
            code = "RepoNotFound" if REPOSITORY not in path else "EntryNotFound"
            return 404, b"{}", {"X-Error-Code": code}
        tag = hashlib.sha1(data).hexdigest()
        return 200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": commit}


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name, with others that nobody needs."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return found | {"README.md": b"a card", "v1-5-pruned.ckpt": b"a pickle"}


@contextmanager
def serve_hub(hub: Hub) -> Iterator[Hub]:
    """Answer requests until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            hub.asked.append(f"{self.command} {self.path}")

        def do_GET(self) -> None:
            status, body, headers = hub.reply(urlsplit(self.path).path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
