//! Every kernel call that needs `unsafe` or is missing in rustix, typed, each with its man page. Knows nothing of containers.

pub mod bpf;
