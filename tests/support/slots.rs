//! How many stories run at a time: few enough that two cores keep their timing honest.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Stories that may run side by side. Most of a story is waiting.
const SLOTS: usize = 4;

static QUEUE: Mutex<Queue> = Mutex::new(Queue { free: SLOTS, arrived: 0, served: 0 });
static MOVED: Condvar = Condvar::new();

/// Served in the order of arrival, so that a story that wants all slots is not passed over for
/// ever.
struct Queue {
    free: usize,
    arrived: u64,
    served: u64,
}

/// The right to run; given back when dropped.
pub struct Slot(usize);

/// Waits for one slot.
pub fn one() -> Slot {
    take(1)
}

/// Waits until no other story runs: for stories that use both cores or measure time.
pub fn all() -> Slot {
    take(SLOTS)
}

fn take(wanted: usize) -> Slot {
    let mut queue = lock();
    let number = queue.arrived;
    queue.arrived += 1;
    while queue.served != number || queue.free < wanted {
        queue = MOVED.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    queue.served += 1;
    queue.free -= wanted;
    MOVED.notify_all();
    Slot(wanted)
}

/// The queue; a story that failed while it waited leaves it whole.
fn lock() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock().free += self.0;
        MOVED.notify_all();
    }
}
