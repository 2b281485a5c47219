// A plain program over node-redis that knows nothing of failovers; arguments and output are those
// of follow.py, with the package in front (redis-5: RESP2, redis-6: RESP3).
//
// Usage: node node_redis.js PACKAGE GROUP NAME PORT...
const [packageName, group, name, ...ports] = process.argv.slice(2);
const { createClient, createSentinel } = require(packageName);

const say = (what, ...rest) => console.log(what, Date.now(), ...rest);

async function listen(port) {
  const events = createClient({ socket: { host: "127.0.0.1", port: Number(port) } });
  events.on("error", (error) => say("error", `events of ${port}:`, error.message));
  events.on("reconnecting", () => say("lost", port));
  await events.connect();
  await events.pSubscribe("*", (text, channel) => say("event", port, channel, text));
  say("subscribed", port);
}

async function write() {
  const sentinel = createSentinel({
    name: group,
    sentinelRootNodes: ports.map((port) => ({ host: "127.0.0.1", port: Number(port) })),
  });
  sentinel.on("error", (error) => say("error", error.message));
  await sentinel.connect();
  await sentinel.subscribe("news", (text) => say("news", text));
  for (let number = 1; ; number += 1) {
    try {
      await sentinel.set(`${name}:${number}`, number);
      say("ack", number);
    } catch (error) {
      say("error", error.message);
    }
    await new Promise((resume) => setTimeout(resume, 10));
  }
}

ports.forEach(listen);
write();
