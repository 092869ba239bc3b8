#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emergence_runc_fuzz::checks::automaton::check(data));
