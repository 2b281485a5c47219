//! The hello subscription over a connection of its own: for nodes that do not speak RESP3 (Redis
//! before 6.0), for users who may not say HELLO, and where SUBSCRIBE was refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::dial::{Dialer, Outgoing, lost_reason};
use super::{Complaint, HELLOS_DROPPED, Reporter, actual, fit_for_log, greeting};
use crate::net::Stream;
use crate::resp::{ReplyDecoder, ReplyLimits, Value, encode_command};
use crate::sentinel::{LinkEvent, Target, hello};

/// A subscription that hears nothing for so long is made anew. Where our own hellos do not come
/// back the core notices it after three of them; this is for where we may not publish.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The same while the answer to SUBSCRIBE is awaited.
const ANSWER_MAX: Duration = Duration::from_secs(6);
/// What the node may send at a time.
const LIMITS: ReplyLimits =
    ReplyLimits { max_bulk: 64 << 10, max_line: 4 << 10, max_reply: 128 << 10, max_depth: 4 };
/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;

/// Keeps the subscription of a link up for ever.
pub(super) async fn keep(target: Arc<Target>, outgoing: Outgoing, reporter: Reporter) {
    let mut dialer = Dialer::new(target.address.clone(), outgoing);
    let dropped = Complaint::new(&target, HELLOS_DROPPED);
    let mut listener = Listener { target, reporter, dropped, told: None };
    loop {
        let (reason, stood) = match dialer.connect().await {
            Ok(stream) => {
                let since = Instant::now();
                let heard = dialer.unless_moved(listener.listen(stream)).await;
                (heard.unwrap_or_else(|moved| moved.to_string()), Some(since.elapsed()))
            }
            Err(reason) => (reason.to_string(), None),
        };
        listener.lost(reason).await;
        sleep(dialer.pause(stood)).await;
    }
}

struct Listener {
    target: Arc<Target>,
    reporter: Reporter,
    dropped: Complaint,
    /// Why there is no subscription, as the core was last told; `None` while there is one.
    told: Option<String>,
}

impl Listener {
    /// Subscribes and listens until the connection is lost; returns why.
    async fn listen(&mut self, mut stream: Stream) -> String {
        let mut requests = greeting(&self.target, "-pubsub");
        // AUTH and CLIENT may fail; the command connection says so.
        let mut unanswered = requests.len() + 1;
        let subscribe = actual("SUBSCRIBE", &self.target.rename_commands);
        requests.push(vec![subscribe.into_bytes(), hello::CHANNEL.into()]);
        let mut bytes = BytesMut::new();
        for words in &requests {
            encode_command(words, &mut bytes);
        }
        let sent = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        if let Err(error) = sent.await {
            return lost_reason(&error).to_string();
        }
        bytes.clear();
        let mut decoder = ReplyDecoder::new(LIMITS);
        loop {
            bytes.reserve(READ_BYTES);
            let patience = if unanswered > 0 { ANSWER_MAX } else { SILENCE_MAX };
            match timeout(patience, stream.read_buf(&mut bytes)).await {
                Ok(Ok(0)) => return "Server closed the connection".to_owned(),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return lost_reason(&error).to_string(),
                Err(_) => return format!("silent for {} s", patience.as_secs()),
            }
            let mut refused = 0;
            loop {
                let reply = match decoder.feed(&mut bytes) {
                    Ok(Some(reply)) => reply,
                    Ok(None) => break,
                    Err(error) => return error.to_string(),
                };
                match unanswered {
                    0 => refused += u64::from(!self.hear(&reply)),
                    1 => match reply {
                        Value::Error(text) => return fit_for_log(&text, &self.target),
                        _ => {
                            unanswered = 0;
                            self.told = None;
                            self.reporter.tell(LinkEvent::Subscribed, None).await;
                        }
                    },
                    _ => unanswered -= 1,
                }
            }
            if refused > 0 {
                self.dropped.add(refused);
            }
        }
    }

    /// Passes a message on; false if it had to be dropped.
    fn hear(&self, reply: &Value) -> bool {
        match reply {
            Value::Array(items) | Value::Push(items) => self.reporter.hear(items),
            _ => true,
        }
    }

    /// Tells that there is no subscription, unless that was said already in the same words.
    async fn lost(&mut self, reason: String) {
        if self.told.as_ref() != Some(&reason) {
            self.told = Some(reason.clone());
            self.reporter.tell(LinkEvent::Unsubscribed { reason }, None).await;
        }
    }
}
