//! How many stories run at a time: few enough that two cores keep their timing honest.

use std::sync::{Condvar, Mutex};

/// Stories that may run side by side. Most of a story is waiting.
const SLOTS: usize = 4;

static FREE: Mutex<usize> = Mutex::new(SLOTS);
static FREED: Condvar = Condvar::new();

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
    let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    while *free < wanted {
        free = FREED.wait(free).unwrap_or_else(|poisoned| poisoned.into_inner());
    }
    *free -= wanted;
    Slot(wanted)
}

impl Drop for Slot {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += self.0;
        FREED.notify_all();
    }
}
