"""pyarrow's file systems for addresses such as `s3://bucket/runs`, and what their errors mean.

Endpoint, region and credentials come from the environment, as for every tool of that store. pyarrow reads
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_DEFAULT_REGION, the files in
~/.aws and a machine's instance profile itself.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 10.0
"""After so long without a byte a request has failed."""
ATTEMPTS = 3
"""Of pyarrow itself, within seconds; what takes longer is waited for by `trainables.remote`."""
NEEDED = "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"


def file_system(address: str, attempts: int = ATTEMPTS) -> tuple[Any, str]:
    """The file system that has `address`, and what `address` is called there. No request is made for it,
    but one to find the region of a bucket where the environment names neither that nor an endpoint.
    """
    parts = urlsplit(address)
    if parts.scheme == "s3":
        return _s3(parts.netloc, attempts, _environment()), parts.netloc + parts.path
    return _other(address)


def _environment() -> tuple[tuple[str, str], ...]:
    # a test, or a notebook, may change it: then another connection is made
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


@lru_cache(maxsize=8)
def _s3(bucket: str, attempts: int, environment: tuple[tuple[str, str], ...]) -> Any:
    from pyarrow import fs

    known = dict(environment)
    options: dict[str, Any] = {}
    endpoint = known.get("AWS_ENDPOINT_URL_S3") or known.get("AWS_ENDPOINT_URL")
    region = known.get("AWS_REGION") or known.get("AWS_DEFAULT_REGION")
    if endpoint:
        # pyarrow would read it too, and then ask for a host called as the bucket is, which only AWS has
        scheme, _, host = endpoint.rpartition("://")
        options |= {"scheme": scheme or "https", "endpoint_override": host.rstrip("/")}
        region = region or "us-east-1"
    if known.get("AWS_CA_BUNDLE"):
        options["tls_ca_file_path"] = known["AWS_CA_BUNDLE"]
    return fs.S3FileSystem(
        region=region or fs.resolve_s3_region(bucket),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        # a small file takes one request, not the three of an upload in parts
        allow_delayed_open=True,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        **options,
    )


@lru_cache(maxsize=1000)
def _other(address: str) -> tuple[Any, str]:
    from pyarrow import fs

    found: tuple[Any, str] = fs.FileSystem.from_uri(address)
    return found


_S3_ERROR = re.compile(
    r"AWS Error (?P<name>[A-Z_]+)(?: \(HTTP status (?P<status>\d+)\))? during (?P<rest>.*)", re.S
)
_MESSAGES = {
    "NO_SUCH_BUCKET": "there is no bucket {bucket}: make it, or name another one",
    "INVALID_ACCESS_KEY_ID": "bucket {bucket}: the key in AWS_ACCESS_KEY_ID is not known there",
    "SIGNATURE_DOES_NOT_MATCH": "bucket {bucket}: AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
    "ExpiredToken": "bucket {bucket}: the token in AWS_SESSION_TOKEN has expired: get a new one",
    "PermanentRedirect": "bucket {bucket} is in another region: set AWS_REGION to its own",
    "RESOURCE_NOT_FOUND": "bucket {bucket}: what answers is no object store, or has no such bucket: "
    "look at AWS_ENDPOINT_URL",
}


def lasting_fault(error: BaseException, address: str) -> str | None:
    """What no retry mends, in a line that names the bucket and the way out; None where one may."""
    bucket = urlsplit(address).netloc
    found = _S3_ERROR.search(str(error))
    if f"Bucket '{bucket}' not found" in str(error):  # said when its region is looked for
        return _MESSAGES["NO_SUCH_BUCKET"].format(bucket=bucket)
    if found is None:
        return None
    if found["name"] == "ACCESS_DENIED" or found["status"] == "403":
        return f"access to bucket {bucket} is denied: {_way_in()}"
    for name, message in _MESSAGES.items():
        if name in (found["name"], *re.findall(r"ExceptionName: (\w+)", found["rest"])):
            return message.format(bucket=bucket)
    by_status = {"301": "PermanentRedirect", "404": "RESOURCE_NOT_FOUND"}.get(found["status"])
    return None if by_status is None else _MESSAGES[by_status].format(bucket=bucket)


def _way_in() -> str:
    named = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser()
    if (
        any(os.environ.get(name) for name in (*named, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"))
        or file.exists()
    ):
        return f"the credentials need {NEEDED} there"
    return (
        "there are no credentials in the environment: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        f"give the machine's instance profile {NEEDED} there"
    )


def passing_fault(error: BaseException) -> str:
    """What may be over soon, in a few words."""
    text = " ".join(str(error).split())
    found = _S3_ERROR.search(text)
    if found is None:
        return text[:300]
    if found["name"] == "NETWORK_CONNECTION":
        detail = found["rest"].rpartition("Details: ")[2]
        return f"it cannot be reached ({detail[:200]})"
    status = f" {found['status']}" if found["status"] else ""
    return f"it answers {found['name'].replace('_', ' ').lower()}{status}"
