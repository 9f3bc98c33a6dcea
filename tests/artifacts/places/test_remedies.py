"""A place in object storage that cannot be used says why in one line, at once, and what to do."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from artifacts import ArtifactStore, StoreUnavailable

ANSWERS = {
    "no-such-bucket": (404, "NoSuchBucket", "create it, or correct its name"),
    "other-region": (400, "AuthorizationHeaderMalformed", "set AWS_REGION"),
    "redirect": (301, "PermanentRedirect", "set AWS_REGION"),
    "clock": (403, "RequestTimeTooSkewed", "clock differs"),
    "key": (403, "InvalidAccessKeyId", "not valid there"),
    "signature": (403, "SignatureDoesNotMatch", "not valid there"),
    "expired": (400, "ExpiredToken", "get new ones"),
    "denied": (403, "AccessDenied", "have them granted"),
}
"""What S3 answers to requests of a bucket of this name, and what we say."""


class Answers(BaseHTTPRequestHandler):
    def _answer(self):
        bucket = self.path.split("/")[1]
        status, code, _ = ANSWERS.get(bucket, (404, "NoSuchKey", ""))
        if bucket == "read-only" and self.command == "PUT":
            status, code, _ = ANSWERS["denied"]
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(
            f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>Because\nof {bucket}.'
            "</Message></Error>".encode()
        )

    do_GET = do_PUT = do_HEAD = _answer

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def surroundings(endpoint, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return monkeypatch


def refusal(address, create=True):
    """Open a place; return the line that says why not, which has to come soon."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        ArtifactStore.open(address, create=create)
    assert time.monotonic() - began < 10
    line = str(caught.value)
    assert line.startswith(f"{address}: ")
    assert "\n" not in line
    return line


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("bucket", list(ANSWERS))
def test_what_a_service_refuses_has_a_remedy(bucket, create):
    _, code, remedy = ANSWERS[bucket]
    line = refusal(f"s3://{bucket}/cats", create)
    assert f"{code}: Because of {bucket}." in line or code == "PermanentRedirect"
    assert remedy in line


def test_a_place_that_can_only_be_read_says_so():
    line = refusal("s3://read-only/cats")
    assert "format.json: AccessDenied" in line
    assert "have them granted" in line


def test_an_address_without_encryption_has_to_be_allowed(surroundings):
    surroundings.delenv("AWS_ALLOW_HTTP")
    assert "AWS_ALLOW_HTTP=true" in refusal("s3://bucket/cats")


def test_a_service_that_is_not_there_is_given_up_soon(surroundings):
    surroundings.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    assert "nothing answers there" in refusal("s3://bucket/cats")


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_of_the_credentials_are_none(surroundings, missing):
    surroundings.delenv(missing)
    assert "no credentials were found: set AWS_ACCESS_KEY_ID" in refusal("s3://bucket/cats")


def test_without_credentials_those_of_the_machine_are_asked_for_only_shortly(surroundings):
    surroundings.delenv("AWS_ACCESS_KEY_ID")
    surroundings.delenv("AWS_SECRET_ACCESS_KEY")
    surroundings.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    assert "no credentials were found: set AWS_ACCESS_KEY_ID" in refusal("s3://bucket/cats")


def test_azure_needs_an_account():
    assert "set AZURE_STORAGE_ACCOUNT_NAME" in refusal("az://container/cats")
