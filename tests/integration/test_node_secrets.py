"""One real node, one real worker: a job gets the secret that it names, and nobody who asks about the job gets to see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from one_node import OneNode, one_node
from structlog.testing import capture_logs

from horologe.client import jobs
from horologe.client.errors import NotFound
from horologe.client.worker import Context
from horologe.v1 import (
    definition_service_pb2,
    definition_service_pb2_grpc,
    execution_service_pb2,
    execution_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    output_service_pb2,
    output_service_pb2_grpc,
    secret_service_pb2,
    secret_service_pb2_grpc,
    story_service_pb2,
    story_service_pb2_grpc,
)
from horologe.v1.execution_pb2 import Execution

FIRST, SECOND = "correct horse battery staple", "another value entirely"
MARK = "[secret db]"
TELLS = 'printf "%s\\n" "$PASSWORD"; echo "it is $PASSWORD" >&2; cat; case "$PASSWORD" in "$EXPECTED"*) exit 0;; esac; exit 3'
"""Prints what it was given, and fails unless that begins as it should."""


class Api:
    """The services by themselves: what the API says, with no client in between that might leave something out."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.secrets = secret_service_pb2_grpc.SecretServiceStub(channel)
        self.jobs = job_service_pb2_grpc.JobServiceStub(channel)
        self.executions = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        self.definitions = definition_service_pb2_grpc.DefinitionServiceStub(channel)
        self.stories = story_service_pb2_grpc.StoryServiceStub(channel)
        self.outputs = output_service_pb2_grpc.OutputServiceStub(channel)

    async def set_secret(self, value: str, namespace: str = "default") -> None:
        name = f"namespaces/{namespace}/secrets/db"
        await self.secrets.SetSecret(secret_service_pb2.SetSecretRequest(name=name, value=value.encode()))

    async def lines_with(self, text: str) -> int:
        """Lines of output of the job `tells` in which a text is found."""
        request = output_service_pb2.SearchOutputRequest(parent="namespaces/default/jobs/tells", text=text)
        answer = await self.outputs.SearchOutput(request)
        return sum(len(match.lines) for match in answer.matches)

    async def all_about(self, job: str, execution: str) -> list[Message]:
        """Every answer that says something of a job or of an execution of it."""
        name = f"namespaces/default/jobs/{job}"
        versions = await self.definitions.ListJobVersions(definition_service_pb2.ListJobVersionsRequest(parent=name))
        answers = [
            versions,
            await self.secrets.ListSecrets(secret_service_pb2.ListSecretsRequest()),
            await self.jobs.GetJob(job_service_pb2.GetJobRequest(name=name)),
            await self.jobs.ListJobs(job_service_pb2.ListJobsRequest()),
            await self.executions.GetExecution(execution_service_pb2.GetExecutionRequest(name=execution)),
            await self.executions.ListExecutions(execution_service_pb2.ListExecutionsRequest(parent=name)),
            await self.executions.ListLedger(execution_service_pb2.ListLedgerRequest(parent=name)),
            await self.stories.GetExecutionStory(story_service_pb2.GetExecutionStoryRequest(name=execution)),
        ]
        read = output_service_pb2.ReadOutputRequest(name=execution)
        answers += [piece async for piece in self.outputs.ReadOutput(read)]
        answers.append(await self.outputs.SearchOutput(output_service_pb2.SearchOutputRequest(parent=name)))
        return answers


@asynccontextmanager
async def node_with_api(folder: Path) -> AsyncIterator[tuple[OneNode, Api]]:
    async with one_node(folder) as here, grpc.aio.insecure_channel(here.client.addresses[0]) as channel:
        yield here, Api(channel)


async def finish(here: OneNode, job: str) -> Execution:
    return await here.client.wait_execution((await here.client.run_job(job)).name, timeout=60)


def telling(name: str, expected: str) -> object:
    env = {"PASSWORD": "{{ secrets.db }}", "EXPECTED": expected}
    return jobs.job(name, jobs.manual(), jobs.shell(TELLS, env=env, stdin="stdin: {{ secrets.db }}\n"))


async def test_a_job_gets_its_secret_and_nobody_else_sees_it(tmp_path: Path) -> None:
    async with node_with_api(tmp_path) as (here, api):
        with capture_logs() as lines:
            await api.set_secret(FIRST)
            await here.client.create_job(telling("tells", FIRST[:7]))
            ended = await finish(here, "tells")
        assert FIRST not in repr(lines)
        assert ended.state == Execution.STATE_COMPLETED, "it had the value"
        output = await here.output(ended.name)
        assert output == {
            "STDOUT": f"{MARK}\nstdin: {MARK}\n".encode(),
            "STDERR": f"it is {MARK}\n".encode(),
        }
        assert [await api.lines_with(text) for text in (FIRST, MARK)] == [0, 3]
        for answer in await api.all_about("tells", ended.name):
            assert FIRST.encode() not in answer.SerializeToString(), type(answer).__name__
            assert FIRST not in str(answer), type(answer).__name__


async def test_the_next_attempt_gets_the_value_of_now(tmp_path: Path) -> None:
    async with node_with_api(tmp_path) as (here, api):
        await api.set_secret(FIRST)
        await here.client.create_job(telling("tells", SECOND[:7]))
        assert (await finish(here, "tells")).attempts[-1].exit_code == 3, "it had the first value"
        await api.set_secret(SECOND)
        assert (await finish(here, "tells")).state == Execution.STATE_COMPLETED


async def test_a_handler_gets_secrets_and_its_result_has_none(tmp_path: Path) -> None:
    async with node_with_api(tmp_path) as (here, api):
        seen: list[str] = []

        @here.worker.handler("log-in")
        async def log_in(context: Context) -> dict[str, str]:
            seen.append(context.secrets["db"])
            context.write_output(f"logged in with {context.payload['password']}\n")
            return {"used": context.secrets["db"]}

        await api.set_secret(FIRST)
        payload = {"password": "{{ secrets.db }}"}
        await here.client.create_job(jobs.job("log-in", jobs.manual(), jobs.python("log-in", payload)))
        ended = await finish(here, "log-in")
        assert (ended.state, seen) == (Execution.STATE_COMPLETED, [FIRST])
        assert ended.result.struct_value["used"] == MARK
        assert (await here.output(ended.name))["STDOUT"] == f"logged in with {MARK}\n".encode()
        for answer in await api.all_about("log-in", ended.name):
            assert FIRST.encode() not in answer.SerializeToString(), type(answer).__name__


async def test_a_failure_does_not_tell_the_secret(tmp_path: Path) -> None:
    async with node_with_api(tmp_path) as (here, api):
        await api.set_secret(FIRST)

        @here.worker.handler("fails")
        async def fails(context: Context) -> None:
            raise ValueError(f"cannot log in with {context.secrets['db']}")

        payload = {"password": "{{ secrets.db }}"}
        await here.client.create_job(jobs.job("fails", jobs.manual(), jobs.python("fails", payload)))
        ended = await finish(here, "fails")
        assert f"cannot log in with {MARK}" in ended.attempts[-1].error
        for answer in await api.all_about("fails", ended.name):
            assert FIRST.encode() not in answer.SerializeToString(), type(answer).__name__


async def test_a_job_of_another_namespace_cannot_name_it(tmp_path: Path) -> None:
    async with node_with_api(tmp_path) as (here, api):
        await api.set_secret(FIRST, "payments")
        with pytest.raises(NotFound) as refused:
            await here.client.create_job(telling("namespaces/shop/jobs/tells", FIRST[:7]))
        assert refused.value.reason == "SECRET_NOT_FOUND"
        await here.client.create_job(telling("namespaces/payments/jobs/tells", FIRST[:7]))


async def test_a_deleted_jobs_leftovers_fail_without_a_secret_that_is_gone(tmp_path: Path) -> None:
    async with node_with_api(tmp_path) as (here, api):
        await api.set_secret(FIRST)
        await here.client.pause_queue("default")
        await here.client.create_job(telling("tells", FIRST[:7]))
        execution = (await here.client.run_job("tells")).name
        await here.client.delete_job("tells")
        await api.secrets.DeleteSecret(secret_service_pb2.DeleteSecretRequest(name="namespaces/default/secrets/db"))
        await here.client.resume_queue("default")
        ended = await here.client.wait_execution(execution, timeout=60)
        assert ended.state in (Execution.STATE_FAILED, Execution.STATE_DEAD)
        assert "there is no secret db any more" in ended.attempts[-1].error
