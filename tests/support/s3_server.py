"""An S3 server for tests (moto's) as a process on loopback, and a faulty proxy to it.

moto keeps everything in memory and imitates S3's answers, conditional puts included. It shows that
we speak the protocol, not how durable or consistent a real service is.
"""

import http.client
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from obstore.store import S3Store

BUCKET = "adaptivedrag"
LOST = "lost"


@contextmanager
def serve_s3(hear=lambda line: None):
    """Run the server with one bucket; yield its port.

    Args:
        hear: takes each line of its log.
    """
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = (re.search(r"http://127\.0\.0\.1:(\d+)", line) for line in process.stderr)
        port = int(next(filter(None, said))[1])
        # Read its log, or it blocks once the pipe is full.
        threading.Thread(target=_read, args=(process.stderr, hear), daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        yield port
    finally:
        process.kill()
        process.wait()


def _read(log, hear):
    for line in log:
        hear(line)


def s3_location(port, prefix):
    """Return an obstore store of that server, which tries again quickly."""
    pause = timedelta(milliseconds=5)
    return S3Store(
        BUCKET,
        prefix=prefix,
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        access_key_id="test",
        secret_access_key="test",
        client_options={"allow_http": True},
        retry_config={
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=10),
            "backoff": {"init_backoff": pause, "max_backoff": 2 * pause, "base": 2},
        },
    )


class BadLine(ThreadingHTTPServer):
    """A proxy to a server, with faults.

    `fault` is called with the method and the path of each request; it returns None, a status to
    answer without asking the server, or LOST, to ask it and hang up without a reply.
    """

    daemon_threads = True

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), _Relay)
        self.upstream = port
        self.fault = lambda method, path: None
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _relay(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        fault = self.server.fault(self.command, self.path)
        if isinstance(fault, int):
            self._answer(fault, {}, b"")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        connection.request(self.command, self.path, body, dict(self.headers))
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        if fault == LOST:
            self.close_connection = True
            self.connection.close()
            return
        self._answer(reply.status, dict(reply.getheaders()), data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _relay

    def _answer(self, status, headers, data):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else len(data)
        self.send_header("Content-Length", length or 0)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass
