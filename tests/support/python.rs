//! The Python clients that nobody here wrote: redis-py in two versions, installed by tests/run.

use std::path::{Path, PathBuf};

/// A version of redis-py.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisPy {
    /// 5.0: RESP2, no HELLO.
    Resp2,
    /// 8: RESP3.
    Resp3,
}

impl RedisPy {
    /// The interpreter whose redis-py this is.
    pub fn interpreter(self) -> String {
        let venv = match self {
            RedisPy::Resp2 => "resp2",
            RedisPy::Resp3 => "resp3",
        };
        let path = tests().join(".venv").join(venv).join("bin/python");
        assert!(path.exists(), "redis-py is not installed yet: tests/run does it");
        path.to_str().expect("a path in UTF-8").to_owned()
    }
}

/// A script of tests/clients.
pub fn script(name: &str) -> String {
    let path = tests().join("clients").join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
