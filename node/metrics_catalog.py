"""Every metric of a node: its name, what kind it is, what it means, and by what it is told apart. docs/metrics.md is this table.

Names follow Prometheus' rules: `horologe_`, base units (seconds, bytes), `_total` for what only grows.
"""

from __future__ import annotations

from typing import NamedTuple

QUEUES_MAX = 100
"""So many queues are told apart, the first ones by name; all others together are `other`."""
NAMESPACES_MAX = 50
OTHER = "other"


class Described(NamedTuple):
    """One metric."""

    name: str
    kind: str
    """gauge, counter or histogram."""
    help: str
    labels: tuple[str, ...] = ()


CLUSTER = (
    # The same on every node that has caught up.
    Described("horologe_jobs", "gauge", "Jobs that exist."),
    Described("horologe_executions", "gauge", "Executions that are queued or running now.", ("state",)),
    Described("horologe_executions_created_total", "counter", "Executions that were made, in the life of the cluster."),
    Described("horologe_dead_letters", "gauge", "Executions in the dead letter queues."),
    Described("horologe_sessions", "gauge", "Sessions of workers, on all nodes."),
    Described("horologe_refused_tokens_total", "counter", "Outcomes and reports refused because their lease was over."),
    Described(
        "horologe_log_entries_total", "counter", "Entries that the state is made of, in the life of the cluster."
    ),
    Described("horologe_audit_records_total", "counter", "Records of the audit chain, in the life of the cluster."),
    Described("horologe_queue_waiting_executions", "gauge", "Executions that wait in the queue.", ("queue",)),
    Described("horologe_queue_running_executions", "gauge", "Executions of the queue that run.", ("queue",)),
    Described(
        "horologe_queue_oldest_age_seconds",
        "gauge",
        "How long ago the oldest execution in the queue was due.",
        ("queue",),
    ),
    Described("horologe_cluster_version", "gauge", "The cluster's version: which commands its log may hold."),
    Described("horologe_namespace_jobs", "gauge", "Jobs of the namespace.", ("namespace",)),
)
SEEN = (
    # What this node has seen since it was started.
    Described("horologe_attempts_started_total", "counter", "Attempts that were given to workers."),
    Described(
        "horologe_executions_ended_total",
        "counter",
        "Executions that reached their last state.",
        ("namespace", "state"),
    ),
    Described(
        "horologe_due_times_not_run_total",
        "counter",
        "Due times that did not run: skipped, missed, or coalesced with another one.",
        ("namespace", "outcome"),
    ),
    Described("horologe_late_starts_total", "counter", "First attempts that started more than 5 seconds late."),
    Described(
        "horologe_leases_expired_total", "counter", "Sessions of workers that were given up: nobody heard of them."
    ),
    Described(
        "horologe_start_delay_seconds", "histogram", "From when an execution should have started to its first attempt."
    ),
    Described("horologe_entry_executions", "histogram", "Attempts begun and executions ended by one entry of the log."),
)
NODE = (
    Described("horologe_build_info", "gauge", "Always 1; the labels say what runs.", ("node", "version", "python")),
    Described("horologe_start_time_seconds", "gauge", "When this node was started, or took over its state."),
    Described(
        "horologe_newest_cluster_version",
        "gauge",
        "The newest version of a cluster that this node's program can apply.",
    ),
    Described("horologe_raft_term", "gauge", "The term that this node is in."),
    Described("horologe_raft_is_leader", "gauge", "1 on the node that leads."),
    Described("horologe_raft_has_leader", "gauge", "1 if this node knows a leader."),
    Described("horologe_raft_has_quorum", "gauge", "1 if a majority is within reach, as far as this node knows."),
    Described("horologe_raft_voters", "gauge", "Members that vote."),
    Described("horologe_raft_reachable_voters", "gauge", "Those that this node is connected with, itself included."),
    Described("horologe_raft_commit_index", "gauge", "The last entry that is committed, as far as this node knows."),
    Described("horologe_raft_applied_index", "gauge", "The last entry that this node has applied."),
    Described("horologe_raft_log_entries", "gauge", "Entries that the log of this node holds."),
    Described(
        "horologe_raft_lag_entries", "gauge", "Entries that a member has yet to get; told by the leader.", ("member",)
    ),
    Described("horologe_gateway_sessions", "gauge", "Sessions of the workers that are connected to this node."),
    Described("horologe_commit_latency_seconds", "histogram", "From a command of this node to its result."),
    Described(
        "horologe_writes_refused_total",
        "counter",
        "Writes of callers of this node that the leader had no room for beside due work.",
    ),
    Described("horologe_fsync_duration_seconds", "histogram", "Commits of the state to the disk."),
    Described("horologe_step_duration_seconds", "histogram", "Steps that wrote something, commit included."),
    Described(
        "horologe_clock_correction_seconds", "gauge", "What this node adds to its wall clock; 0 while it is right."
    ),
    Described("horologe_store_file_bytes", "gauge", "The state file."),
    Described("horologe_store_limit_bytes", "gauge", "What the state file never grows beyond."),
    Described("horologe_store_page_bytes", "gauge", "One page of the state file."),
    Described("horologe_store_pages", "gauge", "Pages of the state file, those that are free included."),
    Described("horologe_store_free_pages", "gauge", "Pages that hold nothing and are used again."),
    Described("horologe_output_store_bytes", "gauge", "Captured output on the disk of this node."),
    Described("horologe_disk_free_bytes", "gauge", "Free space where the data is."),
    Described("horologe_disk_free_minimum_bytes", "gauge", "With less free space, writes are refused."),
    Described("horologe_audit_records_waiting", "gauge", "Refusals of this node that are not in the audit log yet."),
    Described(
        "horologe_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the certificate ends; absent without TLS.",
        ("holder",),
    ),
    Described(
        "horologe_api_calls_total",
        "counter",
        "Calls of the API that have ended, over gRPC and HTTP.",
        ("method", "code"),
    ),
    Described(
        "horologe_api_call_duration_seconds", "histogram", "Calls of the API; streams are not in it.", ("method",)
    ),
    Described(
        "horologe_traces_total", "counter", "Traces of executions and calls: sent, failed, or dropped.", ("outcome",)
    ),
    Described("horologe_api_open_streams", "gauge", "Streams of the API that are open.", ("method",)),
    Described(
        "horologe_http_requests_total", "counter", "Requests over HTTP that were answered.", ("route", "method", "code")
    ),
    Described(
        "horologe_http_request_duration_seconds", "histogram", "Until the answer to a request began.", ("route",)
    ),
)
CATALOG = {metric.name: metric for metric in (*CLUSTER, *SEEN, *NODE)}
PROCESS = (
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
)
"""What the client library of Prometheus tells of the process, as every program does."""
