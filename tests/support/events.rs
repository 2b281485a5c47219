//! A recorder of everything that sentinels announce, with the time at which it was heard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::Client;
use super::wait::wait_for;

/// One announcement.
#[derive(Debug, Clone)]
pub struct Heard {
    /// When it arrived.
    pub at: Instant,
    /// Port of the sentinel that said it.
    pub by: u16,
    /// `+sdown`, `+switch-master` and so on.
    pub event: String,
    /// Its payload.
    pub text: String,
}

/// Listens to `PSUBSCRIBE *` on any number of sentinels, through their restarts.
pub struct Recorder {
    heard: Arc<Mutex<Vec<Heard>>>,
    lost: Arc<Mutex<Vec<u16>>>,
    stop: Arc<AtomicBool>,
    listeners: Vec<JoinHandle<()>>,
    began: Instant,
}

impl Recorder {
    /// Starts to listen; returns when every sentinel has confirmed.
    pub fn start(ports: &[u16]) -> Recorder {
        let mut recorder = Recorder {
            heard: Arc::default(),
            lost: Arc::default(),
            stop: Arc::default(),
            listeners: Vec::new(),
            began: Instant::now(),
        };
        for port in ports {
            recorder.add(*port);
        }
        recorder
    }

    /// Listens to one more sentinel, which must be reachable now.
    pub fn add(&mut self, port: u16) {
        let (heard, lost, stop) = (self.heard.clone(), self.lost.clone(), self.stop.clone());
        let mut client = subscribe(port);
        assert!(client.is_some(), "the sentinel on port {port} does not accept PSUBSCRIBE");
        self.listeners.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match client.as_mut().map(|client| listen(client, port, &heard)) {
                    Some(true) => {}
                    told => {
                        if told.is_some() {
                            lost.lock().expect("nobody panics while holding it").push(port);
                        }
                        std::thread::sleep(Duration::from_millis(20));
                        client = subscribe(port);
                    }
                }
            }
        }));
    }

    /// How often the subscription to a sentinel was lost.
    pub fn lost(&self, port: u16) -> usize {
        let lost = self.lost.lock().expect("nobody panics while holding it");
        lost.iter().filter(|p| **p == port).count()
    }

    /// Everything heard so far.
    pub fn all(&self) -> Vec<Heard> {
        self.heard.lock().expect("no listener panics while it holds the lock").clone()
    }

    /// What was heard since `since` of one event, in order.
    pub fn since(&self, since: Instant, event: &str) -> Vec<Heard> {
        self.all().into_iter().filter(|h| h.at >= since && h.event == event).collect()
    }

    /// Waits for an event whose payload contains `part`, heard since `since`.
    #[track_caller]
    pub fn wait(&self, since: Instant, seconds: u64, event: &str, part: &str) -> Heard {
        wait_for(seconds, &format!("{event} {part}"), || {
            self.since(since, event).into_iter().find(|h| h.text.contains(part))
        })
    }
}

/// One look; false when the connection is lost.
fn listen(client: &mut Client, port: u16, heard: &Mutex<Vec<Heard>>) -> bool {
    match client.is_readable(Duration::from_millis(100)) {
        Ok(false) => return true,
        Ok(true) => {}
        Err(_) => return false,
    }
    let Ok(reply) = client.receive() else { return false };
    if let [_, _, event, text] = reply.items() {
        let (event, text) = (event.text(), text.text());
        let heard = &mut heard.lock().expect("no listener panics while it holds the lock");
        heard.push(Heard { at: Instant::now(), by: port, event, text });
    }
    true
}

fn subscribe(port: u16) -> Option<Client> {
    let mut client = Client::connect(port).ok()?;
    client.call(&["PSUBSCRIBE", "*"]).ok().filter(|r| !r.is_error())?;
    Some(client)
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
        if std::thread::panicking() || std::env::var_os("STORY_EVENTS").is_some() {
            println!("---- events ----");
            for Heard { at, by, event, text } in self.all() {
                println!("{:>7} ms  {by}  {event} {text}", (at - self.began).as_millis());
            }
        }
    }
}
