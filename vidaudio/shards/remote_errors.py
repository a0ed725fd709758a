"""Translation of an object store driver's exceptions into one sentence that says what to do.

The drivers of fsspec raise the exceptions of their libraries: botocore's for S3, aiohttp's, Google's, Azure's. Only
libraries that a driver has already loaded are considered, so that none has to be installed.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator

from vidaudio.errors import StoreError
from vidaudio.text import first_line

_RAISED_BY_DRIVERS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("gcsfs.retry", "HttpError"),
    ("azure.core.exceptions", "AzureError"),
)
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
_NO_ANSWER = {"EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError", "ServiceRequestError"}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_LOST_RACE = {"PreconditionFailed", "412"}
_TRY_AGAIN = {"ConditionalRequestConflict", "OperationAborted"}
# Errors that trying again cannot change.
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


def driver_errors() -> tuple[type[BaseException], ...]:
    """Return the exception types that a failing store can raise, of the libraries that are loaded."""
    found = [getattr(sys.modules[module], name) for module, name in _RAISED_BY_DRIVERS if module in sys.modules]
    return (OSError, *found)


def is_final(error: BaseException) -> bool:
    """Return True if the same request would fail the same way."""
    return (
        isinstance(error, _FINAL)
        # Drivers themselves retry a store that does not answer, for ten seconds and more.
        or bool(_names(error) & (_NO_CREDENTIALS | _NO_ANSWER))
        or is_without_bucket(error)
        or is_out_of_range(error)
    )


def is_without_bucket(error: BaseException) -> bool:
    """Return True if the whole bucket is missing, not only the file."""
    return bool(_codes(error) & _NO_BUCKET)


def is_out_of_range(error: BaseException) -> bool:
    """Return True if a range began at or beyond the end of the file."""
    return bool(_codes(error) & {"InvalidRange", "416"})


def lost_race(error: BaseException) -> bool:
    """Return True if an exclusive write was refused because the file exists."""
    return isinstance(error, FileExistsError) or bool(_codes(error) & _LOST_RACE)


def was_in_conflict(error: BaseException) -> bool:
    """Return True if two exclusive writes met and the store accepted neither: S3 then asks for another try."""
    return bool(_codes(error) & _TRY_AGAIN)


def to_user_error(error: BaseException, url: str, doing: str) -> StoreError:
    """Return the error for people; `doing` is the attempted action, such as `writing clips/000003.parquet`."""
    scheme, _, rest = url.partition("://")
    bucket = rest.split("/")[0]
    if is_without_bucket(error) or (isinstance(error, FileNotFoundError) and doing.startswith("writing")):
        return StoreError(f"{scheme}://{bucket} does not exist; create the bucket, or correct the URL {url}")
    if _names(error) & _NO_CREDENTIALS:
        hint = " (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)" if scheme in ("s3", "s3a") else ""
        return StoreError(f"there are no credentials for {url}; give them as the driver expects them{hint}")
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EACCES):
        return StoreError(f"{url} refused {doing} ({first_line(error)}); check the credentials and their rights")
    if _names(error) & _NO_ANSWER:
        return StoreError(f"no store answers for {url} ({first_line(error)}); check the endpoint and the network")
    return StoreError(f"{doing} failed at {url}: {type(error).__name__}: {first_line(error)}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for link in _chain(error) for kind in type(link).__mro__}


def _codes(error: BaseException) -> set[str]:
    answers = (getattr(link, "response", None) for link in _chain(error))
    return {str(answer.get("Error", {}).get("Code")) for answer in answers if isinstance(answer, dict)}
