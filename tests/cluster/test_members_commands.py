"""Members come and go while work goes on, and whoever does not belong to the cluster (any more, or yet) decides nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import subprocess
import uuid
from pathlib import Path

from horologe.chaos.cluster import ChaosCluster, eventually
from horologe.chaos.evidence import Kind, read_folder
from horologe.chaos.workload import RecurringJobs
from horologe.client import jobs
from horologe.node.local_cluster import COMMAND, LocalProcess, free_port, peer_address_of
from horologe.v1.cluster_service_pb2 import Member

STOP_SECONDS = 60.0
FULL = {Member.ROLE_FOLLOWER, Member.ROLE_LEADER}


def horologe(cluster: ChaosCluster, *words: str) -> str:
    """Runs the command line against the cluster; answers what it printed."""
    done = subprocess.run(
        [*COMMAND, "--context", str(cluster.local.context_file), *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def events(node: LocalProcess, event: str) -> list[dict[str, object]]:
    """Lines of a node's log, but for one that is being written."""
    lines = (node.folder / node.log_name).read_text().rpartition("\n")[0].splitlines()
    return [
        line for line in map(json.loads, (line for line in lines if line.startswith("{"))) if line["event"] == event
    ]


async def ended(node: LocalProcess) -> int:
    """The exit code of a node that stops by itself."""

    async def is_over() -> bool:
        return not node.is_running

    await eventually(is_over, STOP_SECONDS, f"{node.name} stops")
    return node.wait_stopped()


async def voters(cluster: ChaosCluster) -> set[str]:
    return {member.name async for member in cluster.client.list_members() if member.role in FULL}


async def working(cluster: ChaosCluster) -> RecurringJobs:
    """Jobs that fire ten times a second, and a worker for them."""
    cluster.add_worker("w1").start()
    await cluster.wait_workers("w1")
    # All that is late runs too: a change of leader may take longer than what counts as on time.
    work = RecurringJobs(count=10, period_ms=1_000, catchup="all")
    await work.create(cluster.client)
    return work


async def nothing_is_missing(cluster: ChaosCluster, work: RecurringJobs) -> None:
    """Every due time up to now ran, or runs, once; and every start of the worker's belongs to one of them."""
    for number in range(1, work.count + 1):
        await cluster.client.pause_job(f"{work.prefix}-{number}")

    async def idle() -> bool:
        status = await cluster.client.cluster_status()
        return status.running_count + status.queued_count == 0

    await eventually(idle, 60, "everything has ended")
    ledger = await work.ledger(cluster.client)
    by_job: dict[int, list[int]] = {}
    for line in ledger:
        assert line.outcome == "RAN", line
        by_job.setdefault(line.job, []).append(line.due_ms)
    for job, due_times in by_job.items():
        gaps = {later - earlier for earlier, later in itertools.pairwise(due_times)}
        assert gaps <= {work.period_ms}, (job, sorted(due_times))
    marks = read_folder(cluster.evidence)
    starts = [(mark.job, mark.due_ms) for mark in marks if mark.kind == Kind.STARTED]
    assert len(set(starts)) == len(ledger)
    assert set(starts) == {(line.job, line.due_ms) for line in ledger}


async def test_a_fourth_and_a_fifth_node_join_a_dead_one_is_replaced_and_the_leader_leaves(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3) as cluster:
        work = await working(cluster)
        for _ in range(2):
            name = await cluster.new_node()
            await cluster.join(name)
        assert await voters(cluster) == {"n1", "n2", "n3", "n4", "n5"}
        dead = (await cluster.followers())[0]
        cluster.node(dead).kill()
        name = await cluster.new_node()
        await asyncio.to_thread(cluster.node(name).start)
        address = peer_address_of(cluster.node(name))
        words = ("cluster", "replace", dead, name, "--peer-address", address, "-o", "json")
        said = await asyncio.to_thread(horologe, cluster, *words)
        assert json.loads(said)["removed"] == dead
        assert json.loads(said)["added"]["role"] == "follower"
        # Run again, as after an interruption, it finds everything done.
        again = json.loads(await asyncio.to_thread(horologe, cluster, *words))
        assert (again["added"]["name"], again["removed"]) == (name, dead)
        leader = await cluster.wait_leader()
        await cluster.remove(leader)
        assert await ended(cluster.node(leader)) == 0
        assert await voters(cluster) == {"n1", "n2", "n3", "n4", "n5", "n6"} - {dead, leader}
        await nothing_is_missing(cluster, work)


async def test_any_node_takes_the_call_that_only_the_leader_can_carry_out(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3) as cluster:
        one, other = await cluster.followers()
        assert (await cluster.on(one).transfer_leader(other)).leader == other
        assert await cluster.wait_leader() == other


async def test_a_node_that_left_stops_in_good_order_and_does_not_come_back(
    tmp_path: Path, patient_elections: dict[str, str | int | float]
) -> None:
    async with ChaosCluster(tmp_path, 3, patient_elections) as cluster:
        leaver = (await cluster.followers())[0]
        listen = cluster.local.addresses[cluster.names.index(leaver)]
        said = await asyncio.to_thread(horologe, cluster, "cluster", "leave", "--address", listen, "-o", "json")
        assert json.loads(said) == {"name": leaver, "outcome": "removed"}
        node = cluster.node(leaver)
        assert await ended(node) == 0
        assert len(events(node, "this node was removed from the cluster and stops")) == 1
        # Its vote counts for nothing: with one more gone, of those two that are left, nobody leads.
        await asyncio.to_thread(node.start)
        assert await ended(node) == 0
        others = [name for name in cluster.names if name != leaver]
        assert await voters(cluster) == set(others)
        term = (await cluster.client.cluster_status()).term
        await asyncio.to_thread(node.start)
        await ended(node)
        assert (await cluster.client.cluster_status()).term == term


async def test_the_leader_itself_may_be_told_to_leave(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3) as cluster:
        work = await working(cluster)
        leader = await cluster.wait_leader()
        listen = cluster.local.addresses[cluster.names.index(leader)]
        await asyncio.to_thread(horologe, cluster, "cluster", "leave", "--address", listen)
        assert await ended(cluster.node(leader)) == 0
        cluster.others[leader] = cluster.node(leader)
        cluster.local.leave_out(leader)
        await cluster.wait_leader()
        await nothing_is_missing(cluster, work)


async def test_an_empty_folder_under_an_old_name_stops_and_decides_nothing(
    tmp_path: Path, patient_elections: dict[str, str | int | float]
) -> None:
    async with ChaosCluster(tmp_path, 3, patient_elections) as cluster:
        await cluster.client.create_job(jobs.job("kept", jobs.manual(), jobs.shell(["true"])))
        name = (await cluster.followers())[0]
        node = cluster.node(name)
        node.kill()
        shutil.rmtree(node.folder / "state")
        term = (await cluster.client.cluster_status()).term
        await asyncio.to_thread(node.start)
        assert await ended(node) == 1
        assert "what it had promised is forgotten" in node.last_words(1)
        assert f"horologe cluster replace {name} NEW" in node.last_words(1)
        status = await cluster.client.cluster_status()
        assert (status.term, status.job_count) == (term, 1)


async def test_a_node_that_nobody_added_waits_and_says_so_once(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3) as cluster:
        name = await cluster.new_node()
        node = cluster.node(name)
        await asyncio.to_thread(node.start)

        async def waits() -> bool:
            return bool(events(node, "this node waits until it is added to the cluster"))

        await eventually(waits, 60, f"{name} waits")
        # Three members refuse it more than once each in the time of a few elections.
        before = (await cluster.client.cluster_status()).commit_index

        async def time_passes() -> bool:
            await cluster.client.create_job(jobs.job(f"j{free_port()}", jobs.manual(), jobs.shell(["true"])))
            return (await cluster.client.cluster_status()).commit_index > before + 40

        await eventually(time_passes, 60, "entries", poll_seconds=0.1)
        waiting = events(node, "this node waits until it is added to the cluster")
        assert len(waiting) == 1
        assert f"horologe cluster add {name} --peer-address {peer_address_of(node)}" in str(waiting[0]["advice"])
        assert not events(node, "peer connected")
        for other in cluster.names:
            assert len(events(cluster.node(other), "peer refused")) <= 1
        status = await cluster.on(name).cluster_status()
        assert not status.leader and not status.term
        await cluster.client.add_member(name, peer_address_of(node))
        await cluster.wait_member(name, FULL)


async def test_a_cluster_whose_addresses_have_all_changed_finds_itself(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3) as cluster:
        late = await cluster.new_node()
        await cluster.join(late)
        await cluster.client.create_job(jobs.job("kept", jobs.manual(), jobs.shell(["true"])))
        assert await asyncio.to_thread(cluster.local.stop) == [0, 0, 0, 0]
        moved = {peer_address_of(node): f"127.0.0.1:{free_port()}" for node in cluster.local.nodes}
        for node in cluster.local.nodes:
            path = node.folder / "node.toml"
            text = re.sub(r"127\.0\.0\.1:\d+", lambda found: moved.get(found[0], found[0]), path.read_text())
            path.write_text(text)
        cluster.local.start()
        await cluster.wait_ready()

        async def all_there() -> bool:
            leader = await cluster.wait_leader()
            members = [member async for member in cluster.on(leader).list_members()]
            addresses = {member.peer_address for member in members}
            return all(member.reachable for member in members) and addresses == set(moved.values())

        await eventually(all_there, 60, "all members at their new addresses")
        assert (await cluster.on(late).get_job("kept")).name
        # The late one is in nobody's file but its own, and its vote counts.
        gone = next(name for name in cluster.names if name != late)
        cluster.node(gone).kill()
        await cluster.wait_leader()
        await cluster.client.create_job(jobs.job("later", jobs.manual(), jobs.shell(["true"])))


async def test_one_of_three_goes_on_when_the_others_are_lost_for_good(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3) as cluster:
        work = await working(cluster)
        status = await cluster.client.cluster_status()
        request_id = str(uuid.uuid4())
        kept = jobs.job("kept", jobs.manual(), jobs.shell(["true"]))
        created = await cluster.client.create_job(kept, request_id=request_id)
        survivor, *lost = ("n1", "n2", "n3")
        await cluster.wait_caught_up(survivor)
        cluster.local.kill()
        for name in lost:
            cluster.others[name] = cluster.node(name)
            cluster.local.leave_out(name)
        config = str(cluster.node(survivor).folder / "node.toml")
        said = await asyncio.to_thread(horologe, cluster, "cluster", "recover", "-c", config, "--yes-i-lose", survivor)
        assert f"{survivor} is now the only member" in said
        await asyncio.to_thread(cluster.node(survivor).start)
        await eventually(lambda: cluster.status(survivor), 60, "the survivor answers")
        await cluster.wait_leader()
        after = await cluster.on(survivor).cluster_status()
        assert after.cluster_id != status.cluster_id
        assert after.job_count >= work.count + 1
        # Sent again, a write gets its first answer; and the worker comes back and goes on.
        assert (await cluster.on(survivor).create_job(kept, request_id=request_id)).name == created.name
        await cluster.wait_workers("w1")

        async def fires() -> bool:
            return (await cluster.on(survivor).cluster_status()).completed_count > after.completed_count + 20

        await eventually(fires, 60, "executions after the recovery", poll_seconds=0.2)
        # Those who were given up, back with their folders, are foreign, and nobody stops for them.
        for name in lost:
            await asyncio.to_thread(cluster.node(name).start)

        async def refused() -> bool:
            return len(events(cluster.node(survivor), "peer refused")) >= len(lost)

        await eventually(refused, 60, "the old members are refused")
        assert cluster.node(survivor).is_running
        old = cluster.node(lost[0])
        for name in lost:
            cluster.node(name).kill()
        # With an empty folder and `join`, a name that was given up comes back, beside a new one.
        shutil.rmtree(old.folder / "state")
        (old.folder / "node.toml").write_text("join = true\n" + (old.folder / "node.toml").read_text())
        await cluster.join(old.name)
        await cluster.join(await cluster.new_node())
        assert await voters(cluster) == {survivor, old.name, "n4"}
        cluster.node(survivor).kill()
        assert await cluster.wait_leader() in (old.name, "n4")
        assert (await cluster.on("n4").get_job("kept")).name == created.name


async def test_a_new_node_gets_the_state_although_the_leader_that_gives_it_dies(tmp_path: Path) -> None:
    async with ChaosCluster(tmp_path, 3, {"log_entries_kept": 20}) as cluster:
        for number in range(40):
            job = jobs.job(f"filler-{number}", jobs.manual(), jobs.shell(["echo", "x" * 50_000]))
            await cluster.client.create_job(job)
        name = await cluster.new_node()
        await asyncio.to_thread(cluster.node(name).start)
        leader = await cluster.wait_leader()
        joining = asyncio.create_task(cluster.join(name))

        async def fetching() -> bool:
            return bool(events(cluster.node(name), "fetching a snapshot"))

        await eventually(fetching, 60, "the state is on its way", poll_seconds=0.001)
        cluster.node(leader).kill()
        await joining
        assert (await cluster.on(name).get_job("filler-39")).name
        await asyncio.to_thread(cluster.node(leader).start)
        await cluster.wait_ready()
        assert await voters(cluster) == {"n1", "n2", "n3", name}
