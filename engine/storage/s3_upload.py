"""Results into S3: checked beforehand without a trace, sent in parts, nothing half-done left behind, linked."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import UploadFailed
from engine.storage.hooks import Check, Progress
from engine.storage.patience import Transient
from engine.storage.s3 import Access, client, guarded_error, not_now, status_of

log = logging.getLogger(__name__)
_PART = 16 << 20  # bytes; s3transfer takes larger ones where 10,000 of these would not do
_AT_ONCE = 4
_LOOK = 0.25  # seconds between two looks at the cancel check during an upload


def check_bucket(access: Access, bucket: str, key: str) -> None:
    """Raises UploadFailed or Transient unless an upload to that key would be accepted.

    Opens a multipart upload and aborts it: that needs the very permission that the upload will need, and leaves
    nothing, where a test object would stay and a look at the bucket would say too little.
    """
    with upload_errors(bucket):
        opened = client(access).create_multipart_upload(Bucket=bucket, Key=key)
    _abort(access, bucket, key, opened["UploadId"])


def upload(
    access: Access, bucket: str, key: str, path: Path, headers: dict[str, str], check: Check, progress: Progress
) -> None:
    """Send a file. Raises UploadFailed, Transient, and what `check` raises; then no part of it stays in the bucket."""
    s3 = client(access)
    with upload_errors(bucket), _parts_aborted(s3, access, bucket, key):
        _transfer(s3, bucket, key, path, headers, check, progress)


def upload_bytes(access: Access, bucket: str, key: str, body: bytes, content_type: str) -> None:
    """Send a small object in one request. Raises UploadFailed, Transient."""
    with upload_errors(bucket):
        client(access).put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)


def presigned(access: Access, bucket: str, key: str, seconds: int) -> str:
    """A link that anyone may GET for so long. No request is made."""
    link = client(access).generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds)
    return str(link)


def with_region(access: Access, bucket: str) -> Access:
    """The same access with the bucket's own region, since a link signed for another one does not open."""
    from botocore.exceptions import BotoCoreError, ClientError

    if access.region or access.endpoint:
        return access
    try:
        headers = client(access).head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
    except ClientError as error:  # a refusal names the region, too
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    except BotoCoreError:
        return access
    return replace(access, region=headers.get("x-amz-bucket-region"))


def _transfer(
    s3: Any, bucket: str, key: str, path: Path, headers: dict[str, str], check: Check, progress: Progress
) -> None:
    from boto3.s3.transfer import TransferConfig, create_transfer_manager
    from s3transfer.subscribers import BaseSubscriber  # type: ignore[import-untyped]

    finished = threading.Event()
    sent, total = 0, path.stat().st_size
    counting = threading.Lock()

    class Watch(BaseSubscriber):  # type: ignore[misc]
        def on_progress(self, bytes_transferred: int, **_: Any) -> None:
            nonlocal sent
            with counting:  # parts travel in threads; a part that is sent again counts back first
                sent += bytes_transferred

        def on_done(self, **_: Any) -> None:
            finished.set()

    config = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=_AT_ONCE)
    with create_transfer_manager(s3, config) as manager:  # leaving by an exception cancels and waits for the threads
        future = manager.upload(str(path), bucket, key, extra_args=headers, subscribers=[Watch()])
        while not finished.wait(_LOOK):
            check()
            progress(sent, total)
        future.result()
    progress(total, total)


@contextmanager
def _parts_aborted(s3: Any, access: Access, bucket: str, key: str) -> Iterator[None]:
    """Abort every multipart upload begun in this block when it fails: the bucket's owner pays for forgotten parts.

    The transfer manager tries that too, but once and silently.
    """
    begun: list[str] = []

    def note(parsed: dict[str, Any], **_: Any) -> None:
        if "UploadId" in parsed:
            begun.append(parsed["UploadId"])

    event = "after-call.s3.CreateMultipartUpload"
    s3.meta.events.register(event, note)
    try:
        yield
    except BaseException:
        for upload_id in begun:
            _abort(access, bucket, key, upload_id)
        raise
    finally:
        s3.meta.events.unregister(event, note)


def _abort(access: Access, bucket: str, key: str, upload_id: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    with suppress(BotoCoreError):
        try:
            client(access).abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if status_of(error) != 404:  # 404: it is gone already
                log.warning("a multipart upload could not be aborted: %s", error.response.get("Error", {}).get("Code"))


@contextmanager
def upload_errors(bucket: str) -> Iterator[None]:
    """Sort botocore's errors into UploadFailed, which stands, and Transient, which may pass."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    try:
        yield
    except ClientError as error:
        reason = f"the bucket {bucket} answered {status_of(error)} {error.response.get('Error', {}).get('Code', '')}"
        if not_now(error):
            raise Transient(reason) from error
        raise UploadFailed(f"{reason}; its name, region and credentials must allow writing there") from error
    except (NoCredentialsError, ParamValidationError) as error:
        raise UploadFailed(f"the bucket {bucket} cannot be written to: no usable credentials or name") from error
    except BotoCoreError as error:
        transient = Transient(f"the bucket {bucket} could not be reached, or dropped the connection")
        raise guarded_error(error) or transient from error
