//! The way from the API to the one task that owns the core.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};

use super::history::History;
use super::masters::Masters;
use super::scripts::Scripts;
use crate::resp::Value;
use crate::sentinel::{Event, Request};

/// Requests that may wait for the core; senders beyond that wait themselves.
pub(crate) const REQUESTS_MAX: usize = 1024;
/// Events that a slow subscriber may lag behind before it loses the oldest and is told so.
pub(crate) const EVENTS_MAX: usize = 4096;

/// What is answered while the core stops.
const STOPPING: &str = "ERR The sentinel is shutting down";

/// A request on its way, with the place for its answer.
pub(crate) type Asked = (Request, oneshot::Sender<Value>);

/// Asks the core and listens to it. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Asked>,
    events: broadcast::Sender<Arc<Event>>,
    scripts: Scripts,
    history: Arc<History>,
    masters: Arc<Masters>,
}

impl Handle {
    /// A handle, and the end that the core's task keeps.
    pub(crate) fn new() -> (Handle, mpsc::Receiver<Asked>) {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let events = broadcast::Sender::new(EVENTS_MAX);
        let (scripts, history, masters) = (Scripts::new(), Arc::default(), Arc::default());
        (Handle { requests, events, scripts, history, masters }, receiver)
    }

    /// The core's answer. While the sentinel stops it is an error reply.
    pub async fn ask(&self, request: Request) -> Value {
        self.submit(request).await.await
    }

    /// Hands a request over, which waits only for room in the queue; the answer comes from the
    /// future returned. Who submits several before awaiting the first answer keeps their order.
    pub async fn submit(&self, request: Request) -> impl Future<Output = Value> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        // If the core is gone, so is `answer` with it, and the wait below ends at once.
        let _ = self.requests.send((request, answer)).await;
        async { answered.await.unwrap_or_else(|_| Value::error(STOPPING)) }
    }

    /// Every event from now on, in order.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// The scripts that wait and run.
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Where the masters are.
    pub fn masters(&self) -> &Masters {
        &self.masters
    }

    /// The last events before now.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Tells all subscribers; nobody listening is fine.
    pub(crate) fn announce(&self, event: Arc<Event>) {
        self.history.add(&event);
        let _ = self.events.send(event);
    }
}
