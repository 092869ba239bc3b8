//! What a binary cache says of an object; and the same bytes as what a user, or a file, names an
//! object, a key or a hash by.

use emergence_runc::emergence::hash::Hash;
use emergence_runc::emergence::{
    ContentAddress, NarInfo, PublicKey, Reference, Signature, StoreDir, StorePath, USUAL_STORE,
};

use super::one_line;

pub fn check(bytes: &[u8]) {
    let dir = StoreDir::new(USUAL_STORE).expect("a store");
    match NarInfo::parse(bytes, &dir) {
        Ok(info) => {
            let text = info.print(&dir);
            let again = NarInfo::parse(text.as_bytes(), &dir).expect("what was written");
            assert_eq!(again.print(&dir), text);
            one_line(&again.object.fingerprint(&dir));
        }
        Err(fault) => one_line(&fault.to_string()),
    }
    let text = String::from_utf8_lossy(bytes);
    let parsed = [
        Reference::parse(&text, &dir).map(drop),
        StorePath::parse(&text).map(drop),
        ContentAddress::parse(&text).map(drop),
        PublicKey::parse(&text).map(drop),
        Hash::parse(&text, None).map(drop),
    ];
    parsed.iter().filter_map(|parsed| parsed.as_ref().err()).for_each(|fault| one_line(&fault.to_string()));
    Signature::parse(&text);
}
