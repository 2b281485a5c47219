//! The clients that nobody here wrote, installed by tests/run at pinned versions, and the plain
//! programs over them in tests/clients, which know nothing of failovers.

use std::path::{Path, PathBuf};

/// A client library, or a tool in its place, in the versions whose protocol differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// redis-py 5.0: RESP2, no HELLO.
    RedisPy5,
    /// redis-py 8: RESP3.
    RedisPy8,
    /// valkey-py 6: RESP2.
    ValkeyPy,
    /// ioredis 5: RESP2.
    Ioredis5,
    /// ioredis 6: RESP3.
    Ioredis6,
    /// iovalkey, Valkey's ioredis: RESP2.
    Iovalkey,
    /// node-redis 5, the first one that knows sentinels: RESP2.
    NodeRedis5,
    /// node-redis 6: RESP3.
    NodeRedis6,
    /// The crate `redis` with its module `sentinel`: RESP2.
    RedisRs,
    /// A shell script around redis-cli.
    RedisCli,
    /// The same with `redis-cli -3`: RESP3.
    RedisCli3,
}

impl Library {
    /// Every one.
    pub const ALL: [Library; 11] = [
        Library::RedisPy5,
        Library::RedisPy8,
        Library::ValkeyPy,
        Library::Ioredis5,
        Library::Ioredis6,
        Library::Iovalkey,
        Library::NodeRedis5,
        Library::NodeRedis6,
        Library::RedisRs,
        Library::RedisCli,
        Library::RedisCli3,
    ];

    /// Name for people and prefix of its keys.
    pub fn name(self) -> &'static str {
        match self {
            Library::RedisPy5 => "redis-py-5",
            Library::RedisPy8 => "redis-py-8",
            Library::ValkeyPy => "valkey-py",
            Library::Ioredis5 => "ioredis-5",
            Library::Ioredis6 => "ioredis-6",
            Library::Iovalkey => "iovalkey",
            Library::NodeRedis5 => "node-redis-5",
            Library::NodeRedis6 => "node-redis-6",
            Library::RedisRs => "redis-rs",
            Library::RedisCli => "redis-cli",
            Library::RedisCli3 => "redis-cli-3",
        }
    }

    /// Whether it also follows the master with a subscription to the channel `news`.
    pub fn follows_news(self) -> bool {
        !matches!(self, Library::RedisCli | Library::RedisCli3)
    }

    /// Program and first arguments; `None` for the crate, which runs in the test's own process.
    pub fn command_line(self) -> Option<(String, Vec<String>)> {
        let node = |script: &str, package: &str| {
            let node = installed(&[".venv", "node", "bin", "node"]);
            Some((node, vec![client(script), package.to_owned()]))
        };
        let python = |venv: &str, module: &str| {
            let python = installed(&[".venv", venv, "bin", "python"]);
            Some((python, vec![client("follow.py"), module.to_owned()]))
        };
        match self {
            Library::RedisPy5 => python("resp2", "redis"),
            Library::RedisPy8 => python("resp3", "redis"),
            Library::ValkeyPy => python("resp3", "valkey"),
            Library::Ioredis5 => node("ioredis.js", "ioredis-5"),
            Library::Ioredis6 => node("ioredis.js", "ioredis-6"),
            Library::Iovalkey => node("ioredis.js", "iovalkey"),
            Library::NodeRedis5 => node("node_redis.js", "redis-5"),
            Library::NodeRedis6 => node("node_redis.js", "redis-6"),
            Library::RedisRs => None,
            Library::RedisCli => Some((client("redis_cli.sh"), vec![])),
            Library::RedisCli3 => Some((client("redis_cli.sh"), vec!["-3".to_owned()])),
        }
    }
}

/// A program of tests/clients.
fn client(name: &str) -> String {
    plain(&tests().join("clients").join(name))
}

/// What tests/run has put below the folder of the tests.
fn installed(parts: &[&str]) -> String {
    let path = parts.iter().fold(tests(), |path, part| path.join(part));
    assert!(path.exists(), "{} is not installed yet: tests/run does it", path.display());
    plain(&path)
}

fn plain(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
