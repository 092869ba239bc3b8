#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| emergence_runc_fuzz::checks::layout::check(data));
emergence_runc_fuzz::mutates_json!();
