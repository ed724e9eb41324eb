// How the two programs beside this one reach a cluster: the context that HOROLOGE_CONTEXT names, and the proto files of the project.

import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { parse } from "smol-toml";

const PROTO = process.env.HOROLOGE_PROTO ?? resolve(dirname(fileURLToPath(import.meta.url)), "../../proto");
// Numbers of executions and tokens are 64 bits wide, more than a number of JavaScript holds exactly: they come as texts.
const definition = loader.loadSync(
  ["horologe/v1/job_service.proto", "horologe/v1/execution_service.proto", "horologe/v1/worker_service.proto"],
  { includeDirs: [PROTO], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
);
const api = grpc.loadPackageDefinition(definition).horologe.v1;

export function readContext(file = process.env.HOROLOGE_CONTEXT) {
  const context = parse(readFileSync(file, "utf8"));
  const at = (path) => resolve(dirname(file), path);
  return { ...context, folder: dirname(file), at };
}

// Certificates of a cluster's own CA carry the name `horologe`, at whatever address a node is.
const NAMED = { "grpc.ssl_target_name_override": "horologe" };

export function client(service, context) {
  const ca = readFileSync(context.at(context.ca_file));
  const token = readFileSync(context.at(context.token_file), "utf8").trim();
  const signed = grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${token}`);
    done(null, metadata);
  });
  const credentials = grpc.credentials.combineChannelCredentials(grpc.credentials.createSsl(ca), signed);
  const stub = new api[service](context.addresses[0], credentials, NAMED);
  // One promise a call, and how long it may take.
  const call = (method, request) =>
    new Promise((done, failed) => {
      const deadline = Date.now() + 15_000;
      stub[method](request, { deadline }, (error, answer) => (error ? failed(error) : done(answer)));
    });
  return { call, close: () => stub.close() };
}

export function workerStream(context) {
  const folder = context.at(context.tls_dir);
  const [ca, key, certificate] = ["ca.pem", "key.pem", "cert.pem"].map((file) => readFileSync(resolve(folder, file)));
  const credentials = grpc.credentials.createSsl(ca, key, certificate);
  const stub = new api.WorkerService(context.worker_addresses[0], credentials, NAMED);
  return { stream: stub.Connect(), close: () => stub.close() };
}

// google.protobuf.Value, both ways; enough for what is said here.
export function fromValue(value) {
  switch (value?.kind) {
    case "structValue":
      return Object.fromEntries(Object.entries(value.structValue.fields).map(([name, item]) => [name, fromValue(item)]));
    case "listValue":
      return value.listValue.values.map(fromValue);
    case "stringValue":
    case "numberValue":
    case "boolValue":
      return value[value.kind];
    default:
      return null;
  }
}

export function toValue(value) {
  if (value === null || value === undefined) return { nullValue: "NULL_VALUE" };
  if (Array.isArray(value)) return { listValue: { values: value.map(toValue) } };
  switch (typeof value) {
    case "string":
      return { stringValue: value };
    case "number":
      return { numberValue: value };
    case "boolean":
      return { boolValue: value };
    default:
      return { structValue: { fields: Object.fromEntries(Object.entries(value).map(([name, item]) => [name, toValue(item)])) } };
  }
}
