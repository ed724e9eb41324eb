"""The program `horologe worker run`: its configuration, its handlers, its exit."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_gateway import FakeGateway, Result, assignment, definition
from typer.testing import CliRunner

from horologe.client.cli import worker_config
from horologe.client.cli.main import build
from horologe.client.cli.worker_run import build_worker
from horologe.client.errors import InvalidArgument
from horologe.client.worker import Worker
from horologe.v1 import job_pb2

HANDLERS = """
from horologe.client.worker import Context, Worker
worker = Worker("127.0.0.1:1", insecure=True)
@worker.handler("greet")
def greet(context: Context) -> str:
    return "hello " + context.payload
"""


@contextmanager
def program(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", "from horologe.client.cli.main import main; main()", "worker", "run", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    with process:
        try:
            yield process
        finally:
            process.kill()


async def test_program_runs_all_kinds_and_drains_on_sigterm(gateway: FakeGateway, tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    config = tmp_path / "worker.toml"
    config.write_text(
        'slots = 7\nhandlers = ["handlers.py"]\n[labels]\nzone = "a"\n[http]\nallow_loopback = true\n'
        f'[sql.connections]\nlocal = "sqlite:///{tmp_path / "local.db"}"\n'
    )
    options = (
        "--insecure",
        "--address",
        gateway.address,
        "--config",
        str(config),
        "--name",
        "w1",
        "--queue",
        "a",
        "--queue",
        "b",
    )
    with program(*options, HOROLOGE_WORKER_SLOTS="8") as process:
        stream = await gateway.stream()
        hello = stream.hello
        assert (hello.worker, list(hello.queues), hello.slot_count) == ("w1", ["a", "b"], 8)
        assert dict(hello.labels) == {"zone": "a"}
        stream.assign(
            *(assignment(number, job=number) for number in (1, 2, 3, 4)),
            definitions=[
                definition(1, python="greet", payload="you"),
                definition(2, shell=job_pb2.ShellAction(script="echo from shell")),
                definition(3, sql=job_pb2.SqlAction(connection="local", statement="SELECT 1 AS one")),
                definition(4, http=job_pb2.HttpAction(url="http://127.0.0.1:9/")),
            ],
        )
        results = {result.execution: result for result in await stream.until_results(4)}
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(process.communicate)

    assert process.returncode == 0
    assert results[1].result.string_value == "hello you"
    assert [results[number].outcome for number in (1, 2, 3)] == [Result.OUTCOME_SUCCEEDED] * 3
    assert "not a public address" not in results[4].error
    assert errors.count("connected") == 1
    assert "drained" in errors


async def test_second_signal_stops_at_once(gateway: FakeGateway, tmp_path: Path) -> None:
    """Even while a handler in a thread does not look at anything."""
    file = tmp_path / "stuck.py"
    file.write_text(
        "import threading\nfrom horologe.client.worker import Worker\nworker = Worker('127.0.0.1:1', insecure=True)\n"
        "@worker.handler('stuck')\ndef stuck(context):\n    context.write_output('begun')\n    threading.Event().wait()\n"
    )
    with program("--insecure", "--address", gateway.address, "--handlers", f"{file}:worker") as process:
        stream = await gateway.stream()
        stream.assign(assignment(), definitions=[definition(python="stuck")])
        await stream.until_output("begun")
        process.send_signal(signal.SIGTERM)
        await gateway.until(lambda: stream.drained)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.communicate)

    assert process.returncode == 1
    assert stream.results == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("slotz = 3", "unknown key 'slotz'"),
        ("[http]\nallow_localhost = true", "unknown key 'http.allow_localhost'"),
        ("slots = 20000", "slots is 20000: input should be less than or equal to 10000"),
        ("slots = ", "is not TOML"),
        ('[http]\nallow_private = ["10.0.0.1/8"]', "'10.0.0.1/8' is not a network"),
        ('[sql.connections]\nshop = "nonsense"', "the SQL connection 'shop' has no valid SQLAlchemy URL"),
        ('handlers = ["absent.py"]', "handlers 'absent.py': there is no file"),
        ('handlers = ["broken.py"]', "handlers 'broken.py' cannot be imported: ZeroDivisionError"),
        ('handlers = ["empty.py"]', "handlers 'empty.py': it has no Worker"),
        ('handlers = ["good.py:missing"]', "handlers 'good.py:missing': there is no 'missing'"),
        ('handlers = ["good.py", "good.py"]', "handlers 'good.py': there is already a handler named 'greet'"),
        ('handlers = ["no_such_module_here"]', "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_wrong_configuration_is_one_line(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "good.py").write_text(HANDLERS)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("1 / 0")
    path = tmp_path / "worker.toml"
    path.write_text(text)
    outcome = CliRunner().invoke(build(), ["worker", "run", "--insecure", "--config", str(path)])

    assert outcome.exit_code == 2
    assert error in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--label", "zone"], "--label 'zone' does not have the form KEY=VALUE"),
        (["--sql", "shop"], "--sql 'shop' does not have the form NAME=URL"),
        (["--config", "/no/such/worker.toml"], "/no/such/worker.toml cannot be read: No such file or directory"),
        (["--address", "nowhere"], "'nowhere' is not an address"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], error: str) -> None:
    outcome = CliRunner().invoke(build(), ["worker", "run", "--insecure", *options])
    assert outcome.exit_code == 2
    assert error in outcome.stderr


def test_options_lie_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text('name = "from-file"\n[sql.connections]\na = "sqlite://"\n[shell]\nsandbox = "off"\n')
    worker: Worker = build_worker(
        path, ["127.0.0.1:1"], insecure=True, name="w9", overrides={"sql": {"connections": {"b": "sqlite://"}}}
    )
    assert worker.name == "w9"
    with pytest.raises(InvalidArgument, match="unknown key 'colour'"):
        build_worker(path, overrides={"colour": "blue"})


def test_the_configuration_of_the_page_is_one() -> None:
    """Every setting of it exists, and it has all that say what jobs may do."""
    page = (Path(__file__).parents[3] / "docs" / "workers.md").read_text()
    text = page.split("```toml\n")[1].split("```")[0]
    table = tomllib.loads(text)
    worker_config.WorkerConfig.model_validate(table)
    assert set(table["shell"]) == set(worker_config.ShellSettings.model_fields)
    assert set(table["http"]) == set(worker_config.HttpSettings.model_fields)
    assert set(table["sql"]) == set(worker_config.SqlSettings.model_fields)


def test_only_the_kinds_of_actions_that_the_owner_names(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text('executors = ["http", "python"]\n[sql.connections]\na = "sqlite://"\n')
    assert set(build_worker(path, ["127.0.0.1:1"], insecure=True)._executors) == {"http", "python"}
    path.write_text('executors = ["shell"]\nhandlers = ["a.py"]\n')
    with pytest.raises(InvalidArgument, match="`python` is not among the executors"):
        build_worker(path, ["127.0.0.1:1"], insecure=True)
    path.write_text('executors = ["docker"]\n')
    with pytest.raises(InvalidArgument, match=r"executors\.0 is 'docker'"):
        build_worker(path, ["127.0.0.1:1"], insecure=True)


async def test_jobs_cannot_look_into_the_worker(gateway: FakeGateway, tmp_path: Path) -> None:
    """Although they are the same user, and without namespaces."""
    config = tmp_path / "worker.toml"
    config.write_text('[shell]\nsandbox = "off"\n')
    options = ("--insecure", "--address", gateway.address, "--config", str(config))
    with program(*options, WORKER_TOKEN="hidden") as process:
        stream = await gateway.stream()
        # The parent of a command is the supervisor, which has seen the secrets of all of them.
        files = [f"/proc/{pid}/{name}" for pid in (process.pid, "$PPID") for name in ("environ", "mem", "maps")]
        script = "id -u; for file in " + " ".join(files) + "; do head -c 1 $file; done"
        stream.assign(assignment(), definitions=[definition(shell=job_pb2.ShellAction(script=script))])
        await stream.until_results()
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(process.communicate)
    assert stream.text() == f"{os.geteuid()}\n"
    assert stream.text(2).count("Permission denied") == len(files)
    assert "shell jobs" in errors
