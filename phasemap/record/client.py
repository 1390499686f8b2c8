"""Opens a tracking store: nothing else in phasemap does. Says what is wrong with it in one line, without passwords.

Which server is called how is MLflow's to know: its variables for passwords, tokens, certificates and proxies hold here
as well.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read by mlflow when it is imported
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # we wait longer ourselves, and say so

import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # else a page for each failed try
logging.getLogger("alembic").setLevel(logging.WARNING)

PAGE = 5_000  # runs asked for at once; a server refuses more than 50,000
LOCK = ".phasemap.lock"  # beside a database
LOCK_SILENCE, LOCK_PATIENCE = 3.0, 120.0  # seconds a held lock is waited for: in silence, at all
SQL = ("sqlite", "postgresql", "mysql", "mssql")

_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s]*@")
_SECRET = re.compile(r"([?&](?:\w*password|\w*token)=)[^&\s]*", re.IGNORECASE)
# in the text of an error that waiting does not end: another schema, a wrong password or name, a refused certificate
_LASTING = re.compile(
    r"no such (table|column)|authentication failed|Access denied|Login failed|no password supplied"
    r"|(role|database) .* does not exist|Unknown database|CERTIFICATE_VERIFY_FAILED|certificate verify failed",
    re.IGNORECASE,
)
_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}


class CloseConnections:
    """A new connection for each call, where the server is near (no TLS).

    MLflow's server sends the head and the body of an answer apart; on a connection that is kept the
    system holds the body back until our side says, 40 ms later, that the head has come.
    """

    wanted = False

    def in_context(self) -> bool:
        return self.wanted

    def request_headers(self) -> dict[str, str]:
        return {"Connection": "close"}


def _close_connections() -> None:
    """MLflow asks its providers for the headers of every call (a reach-in, docs/reach-ins.md). Else: connections are
    kept, and a call takes 40 ms more."""
    with suppress(ImportError, AttributeError):
        from mlflow.tracking.request_header.registry import _request_header_provider_registry as providers

        providers.register(CloseConnections)


_close_connections()


def default_uri() -> str:
    """MLFLOW_TRACKING_URI, or mlflow.db in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def absolute(uri: str) -> str:
    """The same store from any working directory."""
    if uri.startswith("sqlite:///") and uri[len("sqlite:///") :] not in ("", ":memory:"):
        return f"sqlite:///{Path(uri[len('sqlite:///') :]).resolve()}"
    return uri


def redacted(text: object) -> str:
    """The text without passwords of addresses."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", str(text)))


def short(error: BaseException) -> str:
    """Kind and first telling line of an error: stores add whole statements, SQLAlchemy advice to its own users."""
    lines = [line for line in str(error).splitlines() if not line.startswith("(raised as a result of Query-invoked")]
    return redacted(f"{type(error).__name__}: {(lines or [''])[0][:200]}")


def connect(uri: str, new: bool = True) -> MlflowClient:
    """A client whose store answers; a database that is not there is made, unless not ``new``.

    Raises:
        ValueError: the store cannot be reached or written, with what to do.
    """
    path = database(uri)
    if path and not new and not path.exists():
        raise ValueError(f"tracking database: must exist, got {path}; run a sweep first, or pass --tracking-uri")
    if path and not _usable(path, new):
        need = "writable" if new else "readable"
        raise ValueError(
            f"tracking database {path}: must be {need}, got no permission or no such folder; "
            "choose another with --tracking-uri sqlite:////path/mlflow.db"
        )
    if uri.startswith("http"):
        _answers(uri)
    CloseConnections.wanted = uri.startswith("http://")
    try:
        if not path or not new:
            return _opened(uri)
        with alone(path.parent):  # two first openings at once would break the database for good
            return _opened(uri)
    except ValueError:
        raise
    except Exception as error:  # the store's own errors have no common base
        raise ValueError(f"tracking store {redacted(uri)}: must answer, got {short(error)}; check it") from error


def database(uri: str) -> Path | None:
    """File of a sqlite store; None for another database, and for a server.

    Raises:
        ValueError: it is no address of a store.
    """
    scheme = uri.partition("://")[0].split("+")[0]
    if uri.partition("://")[1] == "" or scheme not in (*SQL, "http", "https"):
        raise ValueError(
            f"tracking store {redacted(uri)}: must be a database or a server, got neither; "
            "write sqlite:////path/mlflow.db or http://host:port"
        )
    if scheme != "sqlite":
        return None
    path = Path(uri.partition(":///")[2])
    broken = "?" in str(path) or "\0" in str(path) or unquote(str(path)) != str(path)  # %20 would be read as a space
    if str(path) in (".", ":memory:") or path.is_dir() or broken:
        raise ValueError(
            f"tracking database {uri}: must be a file whose path has no ? and no code such as %20, got {str(path)!r}; "
            "choose another with --tracking-uri sqlite:////path/mlflow.db"
        )
    return path


def search(client: MlflowClient, experiment: str, condition: str) -> list[Run]:
    """All runs that meet the condition, oldest first."""
    runs: dict[str, Run] = {}  # while a sweep is written, pages shift, and a run may stand on two
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            condition,
            ViewType.ACTIVE_ONLY,
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs |= {run.info.run_id: run for run in page}
        token = page.token
        if not token:
            return list(runs.values())


def parent_of(client: MlflowClient, experiment: str) -> Run | None:
    """The run of the sweep itself; the first, where two drivers began it in one moment."""
    parents = search(client, experiment, "tags.`phasemap.kind` = 'sweep'")
    return min(parents, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


@contextmanager
def sql_connection(uri: str) -> Iterator[sqlalchemy.Connection]:
    """The database itself: quicker than MLflow for many curves."""
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def is_outage(error: BaseException, uri: str) -> bool:
    """Whether waiting may help: the store is away, locked or full, or a server is in trouble. All else is a fault of
    what was asked, and would fail again."""
    chain = [error, *(one for one in (error.__cause__, error.__context__) if one)]
    if any(_LASTING.search(str(one)) for one in chain):
        return False
    for one in chain:
        if isinstance(one, (ConnectionError, TimeoutError, requests.ConnectionError, requests.Timeout)):
            return True
        if isinstance(one, OSError) and one.errno in _ERRNOS:
            return True
        if isinstance(one, sqlalchemy.exc.OperationalError):
            return True
    answers = [one.get_http_status_code() for one in chain if isinstance(one, MlflowException)]
    return uri.startswith("http") and any(code >= 500 or code == 429 for code in answers)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds the lock of the databases in a folder.

    Raises:
        ValueError: another program holds it for too long, or something else lies in its place.
    """
    file = folder / LOCK
    try:
        lock = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ValueError(f"{file}: must be a plain file, got {error.strerror}; remove it") from error
    try:
        _wait_for(lock, file)
        yield
    finally:
        os.close(lock)


def _wait_for(lock: int, file: Path) -> None:
    start, announced = time.monotonic(), False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - start
        except OSError:  # a file system without locks
            return None
        if waited > LOCK_PATIENCE:
            raise ValueError(
                f"{file}: must be free within {LOCK_PATIENCE:.0f} s, got a program that holds it; end it "
                f"(`fuser {file}` names it), and run the same command again"
            )
        if waited > LOCK_SILENCE and not announced:
            print(f"waiting for another program that opens the database: {file}", flush=True)
            announced = True
        time.sleep(0.1)


def _opened(uri: str) -> MlflowClient:
    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _usable(path: Path, new: bool) -> bool:
    if not new:
        return os.access(path, os.R_OK)
    if path.exists():
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return path.parent.is_dir() and os.access(path.parent, os.W_OK)


def _answers(uri: str) -> None:
    """Raises ValueError unless a server answers at once; what, does not matter. (A reach-in, docs/reach-ins.md. Else:
    the first real call says so, after MLflow's own retries.)"""
    try:
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request
    except ImportError:
        return
    try:
        host = get_default_host_creds(uri.rstrip("/"))
        http_request(host, "/health", "GET", max_retries=0, timeout=10, raise_on_status=False)
    except (MlflowException, requests.RequestException) as error:
        reason = redacted(error.__context__ or error).rpartition(": ")[2].strip("\"')")  # the innermost
        raise ValueError(
            f"tracking server {redacted(uri)}: must answer within 10 s, got {reason}; start it, or correct "
            "--tracking-uri"
        ) from error
