//! libFuzzer's way to the target of this name in `bodies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::run("journal", data));
