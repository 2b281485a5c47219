//! Where each group's master is, for all connections at once: the one question that clients ask by
//! the ten thousand, so it does not wait in the core's queue.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::resp::Value;
use crate::sentinel::{Request, types::Address};

/// What clients are told; the core says what that is.
#[derive(Default)]
pub struct Masters(RwLock<HashMap<Box<str>, Address>>);

impl Masters {
    /// The answer to this request if it asks for a master that is known; the same that the core
    /// would give.
    pub fn answer(&self, request: &Request) -> Option<Value> {
        let Request::MasterAddress(name) = request else { return None };
        let masters = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let at = masters.get(name.as_str())?;
        let port = Value::bulk(itoa::Buffer::new().format(at.port));
        Some(Value::Array(vec![Value::bulk(&at.host), port]))
    }

    /// Clients are told this from now on.
    pub(crate) fn show(&self, group: &str, master: Option<Address>) {
        let mut masters = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match master {
            Some(master) => masters.insert(group.into(), master),
            None => masters.remove(group),
        };
    }
}
