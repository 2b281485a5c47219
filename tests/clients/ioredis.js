// A plain program over ioredis that knows nothing of failovers; arguments and output are those of
// follow.py, with the package in front (ioredis-5 and iovalkey: RESP2, ioredis-6: RESP3).
//
// Usage: node ioredis.js PACKAGE GROUP NAME PORT...
const [packageName, group, name, ...ports] = process.argv.slice(2);
const { Redis } = require(packageName);

// Its option failoverDetector is left off, as it is by default: an announcement that comes while a
// connection is being made ends that client for ever, whoever plays the sentinels.
const say = (what, ...rest) => console.log(what, Date.now(), ...rest);
const master = () => {
  const client = new Redis({
    name: group,
    sentinels: ports.map((port) => ({ host: "127.0.0.1", port: Number(port) })),
  });
  client.on("error", (error) => say("error", error.message));
  return client;
};

for (const port of ports) {
  const events = new Redis({ host: "127.0.0.1", port: Number(port) });
  events.on("error", (error) => say("error", `events of ${port}:`, error.message));
  events.on("close", () => say("lost", port));
  events.on("pmessage", (_, channel, text) => say("event", port, channel, text));
  events.psubscribe("*").then(() => say("subscribed", port));
}

const news = master();
news.subscribe("news");
news.on("message", (_, text) => say("news", text));

async function write() {
  const client = master();
  for (let number = 1; ; number += 1) {
    try {
      await client.set(`${name}:${number}`, number);
      say("ack", number);
    } catch (error) {
      say("error", error.message);
    }
    await new Promise((resume) => setTimeout(resume, 10));
  }
}
write();
