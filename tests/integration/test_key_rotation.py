"""Data keys are replaced while the node goes on: afterwards nothing lies under the old ones, and they are gone."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from one_node import OneNode, one_node
from structlog.testing import capture_logs
from support.keys import key_numbers_in

from horologe.chaos.cluster import eventually
from horologe.client import jobs
from horologe.client.errors import FailedPrecondition
from horologe.node import encryption
from horologe.node.callers import CALLER, Caller
from horologe.node.encryption_service import EncryptionService
from horologe.node.key_sources import put_new_key
from horologe.node.local_cluster import COMMAND
from horologe.raft import resealing
from horologe.v1.encryption_service_pb2 import GetEncryptionResponse, RotateKeysRequest

OUTPUT = b"what was printed\n"


async def fill(here: OneNode, prefix: str = "job") -> str:
    """Jobs, an execution, and what it printed; answers its name."""
    await here.client.batch_create_jobs(
        [jobs.job(f"{prefix}-{number}", jobs.manual(), jobs.shell("true")) for number in range(30)]
    )
    await here.client.create_job(jobs.job(prefix, jobs.manual(), jobs.shell(f"printf '{OUTPUT.decode().strip()}\\n'")))
    execution = (await here.client.run_job(prefix)).name
    await here.client.wait_execution(execution, timeout=60)
    return execution


async def is_as_it_was(here: OneNode, execution: str, prefix: str = "job") -> None:
    assert (await here.output(execution))["STDOUT"] == OUTPUT
    assert (await here.client.get_job(f"{prefix}-29")).name.endswith(f"{prefix}-29")


async def settled(here: OneNode) -> GetEncryptionResponse:
    async def is_settled() -> bool:
        return not (await here.client.get_encryption()).rotating

    await eventually(is_settled, 60, "the rotation is over")
    return await here.client.get_encryption()


async def digest(here: OneNode) -> bytes:
    revision = await here.client.take_checkpoint()
    return (await here.client.state_digest(revision)).digest


async def test_after_a_rotation_nothing_lies_under_the_old_keys(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with one_node(tmp_path) as here:
        execution = await fill(here)
        await here.stop()
        await here.start()
        await here.worker_connected()
        before = await here.client.get_encryption()
        assert (before.node, before.source, len(before.keys)) == ("n1", "file", 2)
        assert [key.current for key in before.keys] == [False, True]
        assert before.keys[0].create_time.ToMilliseconds() <= before.keys[1].create_time.ToMilliseconds()
        assert not before.rotating
        begun = await here.client.rotate_keys()
        assert begun.rotating and len(begun.keys) == 3
        after = await settled(here)
        assert [key.current for key in after.keys] == [True]
        assert after.keys[0].number not in {key.number for key in before.keys}
        assert 60 < after.done_count <= after.total_count
        await is_as_it_was(here, execution)
        await here.stop()
        assert key_numbers_in(data, "n1") == {after.keys[0].number}
        keyring = (data / "state" / "keyring").read_text()
        assert [str(key.number) for key in before.keys if str(key.number) in keyring] == []
        await here.start()
        await here.worker_connected()
        await is_as_it_was(here, execution)


async def test_a_rotation_goes_on_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with one_node(tmp_path) as here:
        execution = await fill(here)
        with monkeypatch.context() as patches:
            patches.setattr(resealing, "RECORDS_PER_STEP", 1)
            patches.setattr(encryption, "PAUSE_SECONDS", 0.2)
            await here.client.rotate_keys()

            async def is_under_way() -> bool:
                view = await here.client.get_encryption()
                return view.rotating and 2 < view.done_count < view.total_count

            await eventually(is_under_way, 60, "the rotation is under way")
            await here.stop()
        assert len(key_numbers_in(tmp_path / "data", "n1")) == 2
        await here.start()
        after = await settled(here)
        assert [key.current for key in after.keys] == [True]
        await here.worker_connected()
        await is_as_it_was(here, execution)
        await here.stop()
        assert key_numbers_in(tmp_path / "data", "n1") == {after.keys[0].number}


async def test_keys_of_earlier_lives_are_tidied_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of a life comes with the first record that is written in it: the node looks after that, and not a moment before."""
    monkeypatch.setattr(encryption, "KEYS_GATHERED_MAX", 2)
    keep = encryption.Encryption.keep

    async def keep_with_a_key(each: encryption.Encryption) -> None:
        async def has_one() -> bool:
            return each._keyring.cipher.current is not None

        await eventually(has_one, 60, "the key of this life")
        await keep(each)

    monkeypatch.setattr(encryption.Encryption, "keep", keep_with_a_key)
    async with one_node(tmp_path) as here:

        async def has_keys(count: int) -> bool:
            return len((await here.client.get_encryption()).keys) == count

        execution = await fill(here)
        await here.stop()
        await here.start()
        await eventually(lambda: has_keys(2), 60, "the keys of two lives")
        assert len((await settled(here)).keys) == 2
        await here.stop()
        await here.start()
        await eventually(lambda: has_keys(1), 60, "one key is left")
        assert [key.current for key in (await settled(here)).keys] == [True]
        await here.worker_connected()
        await is_as_it_was(here, execution)


async def test_a_rotation_under_writes_loses_and_changes_nothing(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        execution = await fill(here)
        writing = True
        written = 0

        async def write(prefix: str) -> None:
            nonlocal written
            while writing:
                await fill(here, f"{prefix}-{written}")
                written += 1

        writers = [asyncio.create_task(write(prefix)) for prefix in ("a", "b")]
        rotated = 0
        while rotated < 3 or written <= 2:
            await here.client.rotate_keys()
            after = await settled(here)
            rotated += 1
        writing = False
        await asyncio.gather(*writers)
        state = await digest(here)
        await is_as_it_was(here, execution)
        await here.stop()
        assert key_numbers_in(tmp_path / "data", "n1") == {key.number for key in after.keys}
        await here.start()
        assert await digest(here) != state, "the checkpoint itself is a part of the state"
        await here.worker_connected()
        await is_as_it_was(here, execution)
        assert len([job async for job in here.client.list_jobs()]) == 31 * (written + 1)


async def command(here: OneNode, *words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, since the node of this one logs to the same output."""
    return await asyncio.to_thread(
        subprocess.run,
        [*COMMAND, "cluster", *words, "--address", here.address, "--insecure"],
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_commands_go_to_all_nodes(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        await fill(here)
        shown = await command(here, "encryption", "-o", "json")
        assert shown.returncode == 0, shown.stderr
        [node] = json.loads(shown.stdout)
        assert (node["node"], node["source"], node["error"], len(node["keys"])) == ("n1", "file", "", 1)
        old = node["keys"][0]["wrapped_with"]
        new = put_new_key(tmp_path / "data" / "node.key")
        wrapped = await command(here, "rotate-keys", "--wrap-only")
        assert wrapped.returncode == 0, wrapped.stderr
        assert new in wrapped.stdout and old not in wrapped.stdout
        assert [key.number for key in (await here.client.get_encryption()).keys] == [node["keys"][0]["number"]]
        rotated = await command(here, "rotate-keys", "-o", "json")
        assert rotated.returncode == 0, rotated.stderr
        assert [each["current"] for each in json.loads(rotated.stdout)[0]["keys"]] == [False, True]
        assert [key.wrapped_with for key in (await settled(here)).keys] == [new]
        assert "n1" in (await command(here, "encryption")).stdout


async def test_the_log_says_who_asked(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        assert here.node is not None
        service = EncryptionService(here.node._encryption)
        call: Any = None
        CALLER.set(Caller(principal="ada"))
        with capture_logs() as lines:
            for wrap_only in (True, False):
                await service.RotateKeys(RotateKeysRequest(wrap_only=wrap_only), call)
        said = [(line["event"], line["principal"]) for line in lines if "principal" in line]
        assert said == [("data keys are wrapped again", "ada"), ("data keys are rotated", "ada")]


async def test_a_key_that_cannot_be_used_is_said_and_nothing_changes(tmp_path: Path) -> None:
    async with one_node(tmp_path) as here:
        before = await here.client.get_encryption()
        key = tmp_path / "data" / "node.key"
        key.chmod(0o644)
        with pytest.raises(FailedPrecondition, match="others than its owner") as caught:
            await here.client.rotate_keys(wrap_only=True)
        assert caught.value.reason == "KEY_NOT_USABLE"
        assert await here.client.get_encryption() == before
