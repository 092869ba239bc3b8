//! How many instructions a call costs, counted by the interpreter.

use emergence_runc::security::seccomp::{Arch, SockFilter};

use crate::differential::ours;
use crate::machine::{Call, X86_64, run};
use crate::profiles;
use crate::reference::Reference;

const ALLOW: u32 = 0x7fff_0000;

/// Instructions for each x86_64 call that is allowed, sorted. Arguments are 0.
fn steps(program: &[SockFilter]) -> Vec<usize> {
    let ask = |number| run(program, &Call { audit: X86_64, number, args: [0; 6], big_endian: false });
    let allowed = (0..450).map(ask).filter(|(answer, _)| *answer == ALLOW);
    let mut steps: Vec<usize> = allowed.map(|(_, steps)| steps).collect();
    steps.sort_unstable();
    steps
}

#[test]
fn paths_are_short() {
    let Some(mut reference) = Reference::start() else { return };
    for (name, profile) in profiles::engines() {
        let known = reference.known(&profile);
        let theirs = reference.compile("x86_64", &known).unwrap();
        let program = ours(&known, Arch::X86_64).program;
        let [mine, other] = [&program, &theirs].map(|program| steps(program));
        assert_eq!(mine.len(), other.len(), "the same calls are allowed");
        let middle = mine.len() / 2;
        println!(
            "{name}: {} calls allowed; program of {} instructions (libseccomp {}); executed: median {} ({}), ratio {:.3}; most {} ({})",
            mine.len(),
            program.len(),
            theirs.len(),
            mine[middle],
            other[middle],
            mine[middle] as f64 / other[middle] as f64,
            mine[mine.len() - 1],
            other[other.len() - 1]
        );
        assert!(mine[middle] * 3 <= other[middle], "median {}, libseccomp's {}", mine[middle], other[middle]);
    }
}
