//! Panics of runs: kept for the report with their place, and not printed. A panic is a broken rule
//! like others, and a sweep may meet thousands.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does something that may panic. Then the error says where and why.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        // Panics of other threads are none of ours.
        set_hook(Box::new(move |panic| match LISTENING.get() {
            true => LAST.set(told(panic)),
            false => usual(panic),
        }));
    });
    let before = LISTENING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    LISTENING.set(before);
    result.map_err(|_| LAST.take())
}

fn told(panic: &PanicHookInfo<'_>) -> String {
    let text = panic.payload_as_str().unwrap_or("for a reason that is no text");
    match panic.location() {
        Some(place) => format!("panicked at {}:{}: {text}", place.file(), place.line()),
        None => format!("panicked: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place() {
        assert_eq!(caught(|| 7), Ok(7));
        let error = caught(|| panic!("no {}", "way")).expect_err("it panicked");
        assert!(error.starts_with("panicked at src/sim/panics.rs:"), "{error}");
        assert!(error.ends_with(": no way"), "{error}");
    }
}
