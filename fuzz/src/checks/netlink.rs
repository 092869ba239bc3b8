//! What the kernel answers over rtnetlink.

use emergence_runc::net::address::Addresses;
use emergence_runc::net::answer::Dump;

use super::one_line;

/// The sequence number of the answered request, as in the corpus.
const SEQUENCE: u32 = 1;

pub fn check(bytes: &[u8]) {
    let mut answer = Dump::default();
    if let Err(error) = answer.take(bytes, SEQUENCE) {
        one_line(&error.to_string());
    }
    assert!(answer.bodies.iter().map(Vec::len).sum::<usize>() <= bytes.len(), "longer than it came");
    match Addresses::parse(&answer.bodies) {
        Ok(addresses) => {
            for kept in addresses.kept(1) {
                assert!(!kept.to_string().is_empty());
                kept.request(2, "eth0", "net0");
            }
        }
        Err(error) => one_line(&error.to_string()),
    }
}
