// Creates a job, runs it once, and waits for its end: node submit.mjs NAME

import { randomUUID } from "node:crypto";
import { client, fromValue, readContext, toValue } from "./horologe.mjs";

const name = process.argv[2] ?? "Ada";
const context = readContext();
const jobs = client("JobService", context);
const executions = client("ExecutionService", context);

const greeting = {
  name: "namespaces/default/jobs/greeting",
  schedules: [{ manual: {} }],
  action: { python: { handler: "greet", payload: toValue({ name: "nobody" }) } },
  queue: "javascript",
};
await jobs.call("ApplyJobs", { jobs: [greeting], request_id: randomUUID() });
const started = await jobs.call("RunJob", { name: greeting.name, payload: toValue({ name }), request_id: randomUUID() });

let { execution } = started;
while (!["STATE_COMPLETED", "STATE_FAILED", "STATE_DEAD", "STATE_CANCELLED", "STATE_SKIPPED"].includes(execution.state)) {
  await new Promise((later) => setTimeout(later, 100));
  ({ execution } = await executions.call("GetExecution", { name: execution.name }));
}
console.log(execution.state, JSON.stringify(fromValue(execution.result)));
jobs.close();
executions.close();
process.exitCode = execution.state === "STATE_COMPLETED" ? 0 : 1;
