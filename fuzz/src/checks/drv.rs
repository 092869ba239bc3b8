//! Recipes of Nix: what is taken is written as it was.

use emergence_runc::emergence::{StoreDir, USUAL_STORE, drv};

use super::one_line;

pub fn check(bytes: &[u8]) {
    let dir = StoreDir::new(USUAL_STORE).expect("a store");
    match drv::parse(bytes, &dir) {
        Ok(derivation) => assert_eq!(derivation.print(&dir), bytes),
        Err(fault) => one_line(&fault.to_string()),
    }
}
