//! Watchfire in the place of Redis's programs: a symbolic link with their name is enough, and the
//! example files start as they are.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::support::client::ask;
use crate::support::node::{Node, Nodes, start_on_free_port};
use crate::support::sentinel::{GROUP, Program, Syntax, Watch};
use crate::support::slots;

/// What a started program answers for itself in `INFO server`.
fn mode(port: u16) -> String {
    let info = ask(port, &["INFO", "server"]).expect("it answers").text();
    let line = info.lines().find_map(|l| l.strip_prefix("redis_mode:"));
    line.unwrap_or_else(|| panic!("no redis_mode in:\n{info}")).to_owned()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

#[test]
fn links_with_the_names_of_redis_start_what_those_names_mean() {
    let _slot = slots::one();
    let node = Node::start(Nodes::Redis, &[]);
    let watch = Watch::of(node.port);
    for (name, more, expected) in [
        ("redis-sentinel", None, "sentinel"),
        ("valkey-sentinel", None, "sentinel"),
        ("redis-server", Some("--sentinel"), "sentinel"),
        ("redis-server", None, "standalone"),
        ("valkey-server", None, "standalone"),
    ] {
        let dir = folder();
        let (link, file) = (dir.path().join(name), dir.path().join("its.conf"));
        symlink(Program::Watchfire.path(), &link).expect("a link");
        let args: Vec<&str> = [plain(&file)].into_iter().chain(more).collect();
        let (mut process, port) =
            start_on_free_port(name, plain(&link), &args, dir.path(), |port| {
                let text = match expected {
                    "sentinel" => watch.config(Syntax::Conf, port, dir.path()),
                    _ => format!("port {port}\nbind 127.0.0.1\nsave \"\"\n"),
                };
                fs::write(&file, text).expect("a configuration file");
            });
        assert_eq!(mode(port), expected, "{name} {more:?}");
        assert!(process.terminate().success(), "{name} {more:?} ends cleanly");
    }
}

#[test]
fn the_example_files_start_as_they_are() {
    let _slot = slots::one();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for (name, subcommand, port_line) in [
        ("sentinel.yaml", "sentinel", "port: "),
        ("sentinel.conf", "sentinel", "\nport "),
        ("server.conf", "server", "\nport "),
    ] {
        let usual = if subcommand == "sentinel" { "26379" } else { "6379" };
        let text = fs::read_to_string(examples.join(name)).expect("the example can be read");
        assert!(text.contains(&format!("{port_line}{usual}")), "{name} has the usual port");
        let dir = folder();
        let file = dir.path().join(name);
        let args = [subcommand, plain(&file)];
        let program = Program::Watchfire.path();
        let (mut process, port) = start_on_free_port(name, program, &args, dir.path(), |port| {
            // The usual port may be in use here; nothing else is changed.
            let own = format!("{port_line}{port}");
            let text = text.replace(&format!("{port_line}{usual}"), &own);
            fs::write(&file, text).expect("a configuration file");
        });
        if subcommand == "sentinel" {
            let address = ask(port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP]);
            assert_eq!(address.expect("it answers").items().len(), 2, "{name}");
        }
        assert!(process.terminate().success(), "{name} ends cleanly");
    }
}
