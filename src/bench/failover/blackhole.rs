//! A host that can be cut off without a trace. The whole bench moves into a network namespace of
//! its own; the master runs in another one, at the other end of a virtual cable, whose far end is
//! switched off for the cut: packets vanish in both directions, as with a host that lost its power.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::demo::failure::Failure;

/// Set in the environment of the bench that already has a network of its own.
const MOVED: &str = "WATCHFIRE_BENCH_OWN_NETWORK";
/// How long a tool may take.
const TOOL_WITHIN: Duration = Duration::from_secs(5);
/// How long the master's process may take to get a network of its own.
const NETWORK_WITHIN: Duration = Duration::from_secs(5);
/// The two ends of the cable.
const INNER: &str = "wf-inner";
const OUTER: &str = "wf-outer";
/// The hardware address of the far end.
const CARD: &str = "02:00:00:00:00:02";

/// The cable to the master's host.
#[derive(Debug)]
pub(super) struct Wall {
    /// Of the process that lives there.
    network: PathBuf,
}

impl Wall {
    /// Where everybody but the master lives: addresses that are nobody's (RFC 5737).
    pub(super) const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// The master's host.
    pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    pub(super) const OUTSIDE_IP: IpAddr = IpAddr::V4(Wall::OUTSIDE);

    /// Lays the cable to the network of the process `pid`, once it has one of its own.
    pub(super) async fn raise(pid: u32) -> Result<Wall, Failure> {
        let network = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let ours = fs::read_link("/proc/self/ns/net").map_err(Failure::io("read a namespace"))?;
        let deadline = Instant::now() + NETWORK_WITHIN;
        while fs::read_link(&network).is_ok_and(|theirs| theirs == ours) {
            if Instant::now() >= deadline {
                return Err(Failure::Program("unshare gave the master no network".into()));
            }
            sleep(Duration::from_millis(1)).await;
        }
        let wall = Wall { network };
        run(&format!("ip link add {INNER} type veth peer name {OUTER} address {CARD} netns {pid}"))
            .await?;
        run(&format!("ip addr add {}/24 dev {INNER}", Wall::INSIDE)).await?;
        run(&format!("ip link set {INNER} up")).await?;
        wall.there(&format!("ip addr add {}/24 dev {OUTER}", Wall::OUTSIDE)).await?;
        wall.there(&format!("ip link set {OUTER} up")).await?;
        wall.there("ip link set lo up").await?;
        // Known for good: or else a host that is gone shows in nobody answering for its address.
        let known = format!("lladdr {CARD} nud permanent");
        run(&format!("ip neigh replace {} dev {INNER} {known}", Wall::OUTSIDE)).await?;
        Ok(wall)
    }

    /// Cuts the host off, or heals the cut.
    pub(super) async fn close(&self, cut: bool) -> Result<(), Failure> {
        let state = if cut { "down" } else { "up" };
        self.there(&format!("ip link set {OUTER} {state}")).await
    }

    /// Takes the cable away.
    pub(super) async fn raze(self) {
        // It may be gone already, with the host at its end.
        let _ = run(&format!("ip link del {INNER}")).await;
    }

    /// Runs a tool in the master's network.
    async fn there(&self, words: &str) -> Result<(), Failure> {
        run(&format!("nsenter --net={} {words}", self.network.display())).await
    }
}

/// Runs a tool to its end.
async fn run(words: &str) -> Result<(), Failure> {
    let wrong = |why: String| Failure::Program(format!("{words}: {why}"));
    let mut parts = words.split(' ');
    let mut command = Command::new(parts.next().unwrap_or_default());
    command.args(parts).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(TOOL_WITHIN, command.output())
        .await
        .map_err(|_| wrong("takes too long".into()))?
        .map_err(|error| wrong(error.to_string()))?;
    if !output.status.success() {
        return Err(wrong(String::from_utf8_lossy(&output.stderr).trim().into()));
    }
    Ok(())
}

/// Whether this process has the network of its own that it needs.
pub(super) fn has_own_network() -> bool {
    std::env::var_os(MOVED).is_some()
}

/// Starts this program anew in a network of its own, with the same arguments and process id.
/// Returns only if that is not possible, with the reason.
pub(super) fn move_to_own_network() -> String {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return format!("cannot find this program's own file: {error}"),
    };
    // As another user one may be root in a namespace of one's own, where the system allows it.
    let flags: &[&str] = if rustix::process::geteuid().is_root() {
        &["--net"]
    } else {
        &["--net", "--map-root-user"]
    };
    let tried = std::process::Command::new("unshare")
        .args(flags)
        .args(["ip", "link", "set", "lo", "up"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Err(error) => return format!("cannot run unshare: {error}"),
        Ok(output) if !output.status.success() => {
            return String::from_utf8_lossy(&output.stderr).trim().to_string();
        }
        Ok(_) => {}
    }
    let error = std::process::Command::new("unshare")
        .args(flags)
        .args(["sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(MOVED, "1")
        .exec();
    format!("cannot run unshare: {error}")
}
