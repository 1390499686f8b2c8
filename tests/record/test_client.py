"""Opening a store: passwords, certificates, the lock beside a database, what is an outage and what is a fault."""

from __future__ import annotations

import base64
import errno
import fcntl
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from small import MLP, result
from sqlalchemy.exc import OperationalError

from phasemap.record import background, client
from phasemap.record.writer import Recorder


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000", "http://me:***@host:5000"),
        ("postgresql+psycopg2://mlflow:p@ss:w%2Ford@db:5432/mlflow", "postgresql+psycopg2://mlflow:***@db:5432/mlflow"),
        ("postgresql://db/mlflow?user=me&password=secret&sslmode=require", "postgresql://db/mlflow?user=me&password=***&sslmode=require"),
        ("http://:secret@host", "http://:***@host"),
        ("got http://a:b@c/d and http://e:f@g", "got http://a:***@c/d and http://e:***@g"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////data/a:b@c.db", "sqlite:////data/a:b@c.db"),
    ],
)  # fmt: skip
def test_passwords_are_never_shown(address, shown):
    assert client.redacted(address) == shown


@contextmanager
def server(
    context: ssl.SSLContext | None = None, late: float = 0.0
) -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    """Its port, and what it was asked: path and Authorization. Connections are refused for ``late`` seconds."""
    asked: list[tuple[str, str | None]] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path.split("?")[0], self.headers["Authorization"]))
            self.send_response(200 if self.headers["Authorization"] else 401)
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *said: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server, bind_and_activate=False) as found:
        found.server_bind()
        if context:
            found.socket = context.wrap_socket(found.socket, server_side=True)

        def start() -> None:
            found.server_activate()
            Thread(target=found.serve_forever, daemon=True).start()

        if late:
            Timer(late, start).start()
        else:
            start()
        yield found.server_port, asked
        found.shutdown()


BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


def test_a_password_in_the_address_and_mlflows_own_variables_both_log_in(monkeypatch):
    with server() as (port, asked):
        client.connect(f"http://me:secret@127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        client.connect(f"http://127.0.0.1:{port}")
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "ticket")
        client.connect(f"http://127.0.0.1:{port}")
    health, search = "/health", "/api/2.0/mlflow/experiments/search"
    ticket = "Bearer ticket"
    assert asked == [(path, who) for who in (BASIC, BASIC, ticket) for path in (health, search)]


def test_a_server_that_is_not_there_is_named_without_its_password():
    with pytest.raises(ValueError, match=r"must answer within 10 s, got .*; start it") as caught:
        client.connect("http://me:secret@127.0.0.1:9")
    assert str(caught.value).startswith("tracking server http://me:***@127.0.0.1:9: ")
    assert "secret" not in str(caught.value)


def test_a_server_that_starts_late_is_waited_for_and_the_wait_is_reported_once():
    said: list[str] = []
    with server(late=0.8) as (port, asked):
        uri = f"http://me:secret@127.0.0.1:{port}"
        background.patiently(lambda: client.connect(uri), uri, said.append, background.START)
    assert [path for path, _ in asked] == ["/health", "/api/2.0/mlflow/experiments/search"]
    assert said[0].startswith(f"tracking store http://me:***@127.0.0.1:{port} does not answer, waiting: ")
    assert said[1:] == ["tracking store is back"]


def test_certificates_are_checked_as_mlflows_variables_say(tmp_path, monkeypatch):
    key, own = tmp_path / "key.pem", tmp_path / "own.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*words.split(), "-keyout", key, "-out", own], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "ticket")
    with server(context) as (port, asked):
        with pytest.raises(ValueError, match="certificate"):
            client.connect(f"https://127.0.0.1:{port}")
        with pytest.raises(requests.exceptions.SSLError) as refused:
            requests.get(f"https://127.0.0.1:{port}/health", timeout=10)
        assert not client.is_outage(refused.value, f"https://127.0.0.1:{port}")  # waiting makes no certificate good
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(own))
        client.connect(f"https://127.0.0.1:{port}")
        monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        client.connect(f"https://127.0.0.1:{port}")
    assert len(asked) == 4


NO_STORES = (
    "sqlite://",
    "sqlite:///",
    "sqlite:///:memory:",
    "/tmp",
    "file:///tmp/x",
    "",
    "a/b?c",
    "sqlite:///a?b.db",
    "sqlite:////a%20b/m.db",
)


@pytest.mark.parametrize("uri", NO_STORES)
def test_what_is_no_store_is_refused_at_once(uri):
    with pytest.raises(ValueError, match=r"^tracking (store|database) .*: must be a .*sqlite:////path/mlflow.db"):
        client.connect(client.absolute(uri))


def test_a_folder_in_place_of_a_database_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^tracking database .*: must be a file"):
        client.connect(f"sqlite:///{tmp_path}")


def test_a_link_in_the_locks_place_is_refused_and_its_target_is_whole(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("content")
    (tmp_path / client.LOCK).symlink_to(precious)
    with pytest.raises(ValueError, match=rf"^{tmp_path / client.LOCK}: must be a plain file, got .*; remove it$"):
        client.connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert precious.read_text() == "content"


def test_a_held_lock_is_reported_and_waited_for_and_not_for_good(tmp_path, schema, monkeypatch, capsys):
    shutil.copy(schema, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setattr(client, "LOCK_SILENCE", 0.2)
    with (tmp_path / client.LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        free = Timer(1.0, lambda: fcntl.flock(held, fcntl.LOCK_UN))
        free.start()
        client.connect(uri)
        free.join()
        said = f"waiting for another program that opens the database: {tmp_path / client.LOCK}\n"
        assert capsys.readouterr().out == said
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(client, "LOCK_PATIENCE", 0.5)
        with pytest.raises(ValueError, match=r"must be free within 0 s, got a program that holds it; end it"):
            client.connect(uri)


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


SERVER, POSTGRES = "http://host", "postgresql://host/maps"


@pytest.mark.parametrize(
    ("error", "uri", "outage"),
    [
        (ConnectionResetError(), SERVER, True),
        (TimeoutError(), SERVER, True),
        (OSError(errno.ENOSPC, "full"), "sqlite:////a", True),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": ""}), SERVER, True),
        (RestException({"error_code": "INTERNAL_ERROR", "message": ""}), SERVER, True),
        (RestException({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": ""}), SERVER, True),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": ""}), SERVER, False),
        (RestException({"error_code": "PERMISSION_DENIED", "message": ""}), SERVER, False),
        (caused(MlflowException("x"), KeyError("x")), "sqlite:////a", False),
        (PermissionError(errno.EACCES, "no"), "sqlite:////a", False),
        (OSError(errno.ENAMETOOLONG, "long"), "sqlite:////a", False),
        (KeyError("x"), SERVER, False),
        (OperationalError("", {}, Exception("could not connect to server: Connection refused")), POSTGRES, True),
        (OperationalError("", {}, Exception('FATAL:  password authentication failed for user "me"')), POSTGRES, False),
        (OperationalError("", {}, Exception('FATAL:  database "maps" does not exist')), POSTGRES, False),
        (
            OperationalError("", {}, Exception("(1045, \"Access denied for user 'me'@'host'\")")),
            "mysql://host/a",
            False,
        ),
    ],
)
def test_an_outage_is_distinguished_from_a_fault(error, uri, outage):
    assert client.is_outage(error, uri) is outage


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def recorder(schema, tmp_path, said) -> Iterator[Recorder]:
    shutil.copy(schema, tmp_path / "mlflow.db")
    with Recorder("sweep", f"sqlite:///{tmp_path / 'mlflow.db'}", ("seed",), "", say=said.append) as opened:
        yield opened


def test_a_fault_costs_its_own_trial_and_no_other(recorder, said, tmp_path):
    """A picture whose file cannot be written: something lies where its folder should be."""
    from dataclasses import replace

    broken, sound = MLP.replace(seed=1), MLP.replace(seed=2)
    shutil.rmtree(tmp_path / "mlruns")
    (tmp_path / "mlruns").write_text("in the way")
    recorder.result(replace(result(broken), picture=((0.0, 0.0, 1),)))
    recorder.result(result(sound))
    recorder.flush()
    assert set(recorder.done) == {sound.id}
    assert recorder.failed[broken.id].startswith("it cannot be recorded: ")
    assert said == [f"trial {broken.id} {recorder.failed[broken.id].removeprefix('it ')}"]
    (run,) = recorder._search(f"tags.`phasemap.trial` = '{broken.id}' and attributes.status = 'FAILED'")
    assert run.data.tags["failure"].startswith("it cannot be recorded: ")


def test_a_checkpoint_that_cannot_be_deleted_is_reported_and_costs_nothing(recorder, said, tmp_path):
    def undeletable() -> None:
        os.unlink(tmp_path)

    first, second = MLP.replace(seed=1), MLP.replace(seed=2)
    recorder.result(result(first), undeletable)
    recorder.result(result(second))
    recorder.flush()
    assert set(recorder.done) == {first.id, second.id}
    (line,) = said
    assert line.startswith(f"trial {first.id} is recorded, but its checkpoint is left: ")


def test_a_trial_is_recorded_once_however_often_it_comes(recorder):
    for _ in range(2):
        recorder.result(result(MLP))
    recorder.flush()
    assert len(recorder._search("tags.`phasemap.kind` = 'trial'")) == 1


def test_a_message_is_the_stores_own_line_and_no_advice_of_a_library():
    advice = "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block)"
    assert client.short(OSError(f"{advice}\ndatabase or disk is full\n[SQL: …]")) == "OSError: database or disk is full"


def test_a_checkout_ignores_the_lock() -> None:
    assert client.LOCK in (Path(__file__).parents[2] / ".gitignore").read_text().splitlines()
