//! Compiles configuration into the kernel's data without system calls: a seccomp filter into
//! classic BPF.
#![forbid(unsafe_code)]

pub mod seccomp;
