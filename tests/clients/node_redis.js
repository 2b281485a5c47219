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

const after = (ms) => new Promise((resume) => setTimeout(resume, ms));

async function connect() {
  const sentinel = createSentinel({
    name: group,
    sentinelRootNodes: ports.map((port) => ({ host: "127.0.0.1", port: Number(port) })),
  });
  sentinel.on("error", (error) => say("error", error.message));
  await sentinel.connect();
  await sentinel.subscribe("news", (text) => say("news", text));
  return sentinel;
}

async function write() {
  let sentinel = await connect();
  for (let number = 1; ; number += 1) {
    // A node-redis whose connection ends looks for the master at once; before the sentinels see
    // that it is dead, they name the dead one, and node-redis may then wait for it for ever.
    const hangs = after(3000).then(() => "hangs");
    try {
      if ((await Promise.race([sentinel.set(`${name}:${number}`, number), hangs])) === "hangs") {
        say("anew");
        sentinel.destroy();
        sentinel = await connect();
      } else {
        say("ack", number);
      }
    } catch (error) {
      say("error", error.message);
    }
    await after(10);
  }
}

ports.forEach(listen);
write();
