// A worker in JavaScript: it takes attempts from the queue `javascript` and runs the handlers below.
//
// Of the protocol it keeps what a worker must: the lease counts from the sending of the last heartbeat that was acknowledged, and what
// runs ends with it; a token is started once; a result is repeated until it is acknowledged. One stream, then it ends.

import { randomUUID } from "node:crypto";
import { fromValue, readContext, toValue, workerStream } from "./horologe.mjs";

const handlers = {
  greet(payload, print) {
    print(`Hello, ${payload.name}, from Node.js ${process.versions.node}\n`);
    return { greeted: payload.name };
  },
};

const context = readContext();
const { stream, close } = workerStream(context);
const definitions = new Map();
const highestToken = new Map();
const unacknowledged = new Map();
const heartbeats = new Map();
let sequence = 0;
let leaseEndsAt = performance.now() + 10_000;
let leaseTerm = 0;

function leave(reason, code) {
  console.log(reason);
  close();
  process.exit(code);
}

function beat() {
  // A fifth earlier than the cluster gives the session up: clocks run at slightly different speeds.
  if (performance.now() >= leaseEndsAt) leave("the lease ended", 1);
  heartbeats.set(String(++sequence), performance.now());
  stream.write({ heartbeat: { sequence } });
  if (unacknowledged.size) stream.write({ results: { results: [...unacknowledged.values()] } });
}

function welcome({ lease_term, heartbeat_interval, node }, sentAt) {
  leaseTerm = milliseconds(lease_term) * 0.8;
  leaseEndsAt = sentAt + leaseTerm;
  setInterval(beat, milliseconds(heartbeat_interval));
  console.log(`connected to ${node}`);
}

function run({ execution, attempt, fencing_token, job, payload }) {
  if (BigInt(highestToken.get(execution) ?? 0) >= BigInt(fencing_token)) return;
  highestToken.set(execution, fencing_token);
  const id = { execution, attempt, fencing_token };
  const { python } = definitions.get(job).action;
  const began = performance.now();
  let chunks = 0;
  const print = (text) => stream.write({ output: { ...id, stream: 1, data: Buffer.from(text), sequence: chunks++ } });
  const ended = {};
  try {
    const handler = handlers[python.handler];
    if (!handler) throw new Error(`no handler named ${python.handler}`);
    ended.result = toValue(handler(fromValue(payload ?? python.payload), print));
    ended.outcome = "OUTCOME_SUCCEEDED";
  } catch (error) {
    Object.assign(ended, { outcome: "OUTCOME_FAILED", error: `${error.name}: ${error.message}`, error_kind: error.name });
  }
  const result = { ...id, ...ended, duration_ms: Math.round(performance.now() - began), output_chunk_count: chunks };
  unacknowledged.set(`${execution} ${fencing_token}`, result);
  stream.write({ results: { results: [result] } });
}

function milliseconds({ seconds, nanos }) {
  return Number(seconds) * 1000 + nanos / 1e6;
}

const sentAt = performance.now();
stream.on("data", (message) => {
  switch (message.kind) {
    case "welcome":
      return welcome(message.welcome, sentAt);
    case "heartbeat_ack":
      leaseEndsAt = heartbeats.get(message.heartbeat_ack.sequence) + leaseTerm;
      return heartbeats.delete(message.heartbeat_ack.sequence);
    case "assignments":
      for (const definition of message.assignments.definitions) definitions.set(definition.job, definition);
      return message.assignments.assignments.forEach(run);
    case "result_acks":
      for (const id of [...message.result_acks.recorded, ...message.result_acks.lease_lost])
        unacknowledged.delete(`${id.execution} ${id.fencing_token}`);
      return;
    case "go_away":
      return leave(`sent away: ${message.go_away.reason}`, 0);
  }
});
stream.on("error", (error) => leave(`the stream ended: ${error.details}`, 1));
stream.on("end", () => leave("the stream ended", 0));
process.on("SIGTERM", () => leave("told to stop", 0));
stream.write({
  hello: {
    // The certificate of `horologe dev` is for workers whose name begins so.
    worker: `dev-javascript-${process.pid}`,
    incarnation: randomUUID(),
    queues: ["javascript"],
    slot_count: 10,
    version: "1.0.0",
    protocol_version: 1,
  },
});
