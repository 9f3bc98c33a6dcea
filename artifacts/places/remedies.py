"""Why a place failed, in one line, and what to do about it, by what libraries and services say."""

from __future__ import annotations

import re

_AWS = (
    "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (profiles in "
    "~/.aws are not read; `aws configure export-credentials --format env` prints them as variables)"
)
_GOOGLE = (
    "no credentials were found: set GOOGLE_APPLICATION_CREDENTIALS to a service account's file, or "
    "run `gcloud auth application-default login`"
)
_AZURE = "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"

_REMEDIES = {
    r"/latest/(api/token|meta-data)|Missing (AccessKeyId|SecretAccessKey)": _AWS,
    r"/computeMetadata/": _GOOGLE,
    r"/metadata/identity/|Account must be specified": _AZURE,
    r"InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|InvalidToken": (
        "the credentials are not valid there: correct the variables that hold them"
    ),
    r"ExpiredToken": "the credentials have expired: get new ones",
    r"RequestTimeTooSkewed": "this machine's clock differs from the service's: set it",
    r"NoSuchBucket|ContainerNotFound": "create it, or correct its name",
    r"PermanentRedirect|AuthorizationHeaderMalformed|Received redirect without LOCATION": (
        "the bucket lies in another region: set AWS_REGION to it"
    ),
    r"AccessDenied|AuthorizationPermissionMismatch|403 Forbidden": (
        "the credentials lack the right to read, write, list or delete there: have them granted"
    ),
    r"http://\S+ in \S+ - HTTP error: builder error": (
        "an address without encryption needs AWS_ALLOW_HTTP=true (AZURE_ALLOW_HTTP=true)"
    ),
    r"HTTP error: error (sending request|decoding)|operation timed out": (
        "nothing answers there: check the address (AWS_ENDPOINT), the network and the proxy"
    ),
    r"Permission denied|Operation not permitted": (
        "to share a folder, its owner lets the group write with "
        "`chmod -R g+rwX FOLDER; find FOLDER -type d -exec chmod g+s {} +`"
    ),
}


def reason_of(error: Exception) -> str:
    """Return what failed and what to do about it, in one line.

    Services answer with XML, and obstore adds lines for debugging.
    """
    text = str(error).strip()
    reason = text.partition("\n")[0]
    code, told = (re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S) for tag in ("Code", "Message"))
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif code:
        reason = " ".join(f"{code[1]}: {told[1] if told else reason}".split())
    remedy = next((what for said, what in _REMEDIES.items() if re.search(said, text)), "")
    return f"{reason}; {remedy}" if remedy else reason
