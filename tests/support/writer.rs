//! A client that writes numbered keys to whichever master the sentinels name, and remembers what
//! was acknowledged and when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Client, Reply, ask};
use super::sentinel::GROUP;
use super::wait::wait_for;

/// How long one write may take before the writer looks for the master again.
const PATIENCE: Duration = Duration::from_millis(250);

/// A short pause between two attempts, so that a dead group is not hammered.
const PAUSE: Duration = Duration::from_millis(5);

/// One acknowledged write.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    /// Key `w:<number>`, value `<number>`.
    pub number: u64,
    /// When the acknowledgement came.
    pub at: Instant,
    /// Port of the master that gave it.
    pub by: u16,
}

/// Writes until dropped or stopped.
pub struct Writer {
    writes: Arc<Mutex<Vec<Write>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts to write, about a thousand keys a second; returns after the first acknowledgement.
    pub fn start(sentinels: &[u16]) -> Writer {
        Writer::start_on(GROUP, sentinels)
    }

    /// The same on the group of a name.
    pub fn start_on(group: &str, sentinels: &[u16]) -> Writer {
        let (group, sentinels, mut turn) = (group.to_owned(), sentinels.to_vec(), 0);
        Writer::start_with(0, move || {
            turn += 1;
            master_of(&group, sentinels[turn % sentinels.len()])
        })
    }

    /// Writes to whatever answers on `port`, a proxy say; the numbers go on after `number`, so
    /// that several writers share one master.
    pub fn through(port: u16, number: u64) -> Writer {
        Writer::start_with(number, move || {
            std::thread::sleep(PAUSE);
            Some(port)
        })
    }

    fn start_with(
        number: u64,
        find_master: impl FnMut() -> Option<u16> + Send + 'static,
    ) -> Writer {
        let writes = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, end) = (writes.clone(), stop.clone());
        let thread = std::thread::spawn(move || write_on(number, find_master, &log, &end));
        let writer = Writer { writes, stop, thread: Some(thread) };
        wait_for(5, "a first acknowledged write", || writer.writes().first().copied());
        writer
    }

    /// The acknowledged writes so far, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.writes.lock().expect("the writer does not panic while it holds the lock").clone()
    }

    /// Waits for the first write that another node than `old` acknowledged after `since`.
    #[track_caller]
    pub fn first_elsewhere(&self, old: u16, since: Instant, seconds: u64) -> Write {
        wait_for(seconds, "a write is accepted by a new master", || {
            self.writes().into_iter().find(|w| w.at > since && w.by != old)
        })
    }

    /// Waits until `count` more writes are acknowledged.
    #[track_caller]
    pub fn wait_for_more(&self, count: usize) {
        let enough = self.writes().len() + count;
        wait_for(20, "more acknowledged writes", || (self.writes().len() >= enough).then_some(()));
    }

    /// Ends writing and tells all acknowledged writes.
    pub fn stop(mut self) -> Vec<Write> {
        self.end();
        self.writes()
    }

    /// Ends writing.
    pub fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn write_on(
    mut number: u64,
    mut find_master: impl FnMut() -> Option<u16>,
    log: &Mutex<Vec<Write>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let Some(by) = find_master() else { continue };
        let Ok(mut client) = Client::connect_with(by, PATIENCE) else { continue };
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let (key, value) = (format!("w:{number}"), number.to_string());
            match client.call(&["SET", &key, &value]) {
                Ok(Reply::Simple(_)) => {
                    let write = Write { number, at: Instant::now(), by };
                    log.lock().expect("nobody panics while holding the lock").push(write);
                }
                // READONLY, or the connection is gone: look for the master again.
                _ => break,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Asks one sentinel.
fn master_of(group: &str, sentinel: u16) -> Option<u16> {
    let reply = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", group]);
    let port = reply.and_then(|r| r.items().get(1)?.text().parse().ok());
    std::thread::sleep(PAUSE);
    port
}

/// The numbers among `writes` that `port` does not hold with their value.
pub fn missing(port: u16, writes: &[Write]) -> Vec<u64> {
    let mut client = Client::connect(port).expect("the master is reachable");
    let mut lost = Vec::new();
    for part in writes.chunks(500) {
        for write in part {
            client.send(&["GET", &format!("w:{}", write.number)]).expect("the master reads");
        }
        for write in part {
            let reply = client.receive().expect("the master answers");
            if reply != Reply::Bulk(write.number.to_string()) {
                lost.push(write.number);
            }
        }
    }
    lost
}
