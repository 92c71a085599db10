// A like, a page of likers and a handled rate limit, from Node. GRPC_ADDR is the address of a server; PROTO the directory of the
// contract, DETAILS the file error_details.proto.
const { randomUUID } = require("node:crypto");
const { setTimeout: sleep } = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");

// Ids of 64 bits are text: a number of JavaScript holds 53.
const contract = { includeDirs: [process.env.PROTO ?? "proto"], longs: String, enums: String, defaults: true };
const files = loader.loadSync("interaction/v1/interaction.proto", contract);
const { InteractionService } = grpc.loadPackageDefinition(files).interaction.v1;
const client = new InteractionService(process.env.GRPC_ADDR ?? "127.0.0.1:50051", grpc.credentials.createInsecure());
const details = protobuf.loadSync(process.env.DETAILS ?? "docs/clients/error_details.proto");
const [Status, RetryInfo] = ["google.rpc.Status", "google.rpc.RetryInfo"].map((name) => details.lookupType(name));

const video = (id) => ({ type: "RESOURCE_TYPE_VIDEO", id });
const call = (method, request) =>
  new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + 3000 };
    client[method](request, options, (error, answer) => (error ? reject(error) : resolve(answer)));
  });

// Milliseconds that a refusal asks for; undefined if it names no time.
function retryAfter(error) {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!bytes) return undefined;
  const packed = Status.decode(bytes).details.find((one) => one.type_url.endsWith("/google.rpc.RetryInfo"));
  const delay = packed && RetryInfo.decode(packed.value).retryDelay;
  return delay && Number(delay.seconds ?? 0) * 1000 + (delay.nanos ?? 0) / 1e6;
}

let waited = false;
async function like(userId, id) {
  // With a key, whoever gets no answer may send the same again.
  const request = { userId, resource: video(id), idempotencyKey: randomUUID() };
  for (;;) {
    try {
      return await call("Like", request);
    } catch (error) {
      const wait = retryAfter(error);
      if (wait === undefined) throw error;
      console.log(`limited: wait ${wait} ms`);
      await sleep(wait);
      waited = true;
    }
  }
}

async function main() {
  const answer = await like("5001", "42");
  console.log(`liked: ${answer.liked}, count ${answer.count}`);
  for (let id = 1000; id < 1200 && !waited; id++) {
    const { liked } = await like("5001", String(id));
    if (waited) console.log(`liked: ${liked}`);
  }
  const page = await call("ListLikers", { resource: video("42"), pageSize: 10 });
  console.log("likers:", page.likers.map((liker) => liker.userId).join(" "));
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
