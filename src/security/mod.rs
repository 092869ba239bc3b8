//! Turns the words of a configuration into the kernel's data, without asking the kernel: a system
//! call filter into classic BPF.
#![forbid(unsafe_code)]

pub mod seccomp;
