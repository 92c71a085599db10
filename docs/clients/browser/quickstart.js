// A like, a page of likers and a handled rate limit, from a page, by gRPC-Web. Its address has ?server=, the address
// of HTTP of a server whose service.cors_origins names the page's site.
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { InteractionService, ResourceType } from "./gen/interaction/v1/interaction_pb.js";
import { RetryInfoSchema } from "./gen/error_details_pb.js";

const baseUrl = new URLSearchParams(location.search).get("server") ?? "http://127.0.0.1:8893";
const client = createClient(InteractionService, createGrpcWebTransport({ baseUrl, defaultTimeoutMs: 3000 }));
const video = (id) => ({ type: ResourceType.VIDEO, id });
const say = (text) => (document.body.append(text), document.body.append(document.createElement("br")));

// Milliseconds that a refusal asks for; undefined if it names no time.
function retryAfter(error) {
  const [info] = ConnectError.from(error).findDetails(RetryInfoSchema);
  return info?.retryDelay && Number(info.retryDelay.seconds) * 1000 + info.retryDelay.nanos / 1e6;
}

let waited = false;
async function like(userId, id) {
  // With a key, whoever gets no answer may send the same again.
  const request = { userId, resource: video(id), idempotencyKey: crypto.randomUUID() };
  for (;;) {
    try {
      return await client.like(request);
    } catch (error) {
      const wait = retryAfter(error);
      if (wait === undefined) throw error;
      say(`limited: wait ${wait} ms`);
      await new Promise((resolve) => setTimeout(resolve, wait));
      waited = true;
    }
  }
}

async function main() {
  const answer = await like(7001n, 42n);
  say(`liked: ${answer.liked}, count ${answer.count}`);
  for (let id = 1000n; id < 1200n && !waited; id++) {
    const { liked } = await like(7001n, id);
    if (waited) say(`liked: ${liked}`);
  }
  const page = await client.listLikers({ resource: video(42n), pageSize: 10 });
  say(`likers: ${page.likers.map((liker) => liker.userId).join(" ")}`);
}

main()
  .catch((error) => say(`failed: ${error}`))
  .finally(() => (document.title = "done"));
