//! Fuzzing of all parsers of foreign bytes. `hack/fuzz` runs it; README.md says how.

pub mod checks;
pub mod mutate;

/// In a target that reads JSON: half of all changes are made to the document, the others to its
/// bytes.
#[macro_export]
macro_rules! mutates_json {
    () => {
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            let changed =
                if seed % 2 == 0 { $crate::mutate::json(data, size, max_size, seed / 2) } else { None };
            changed.unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
        });
    };
}
