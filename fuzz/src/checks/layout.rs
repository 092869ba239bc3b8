//! Documents of OCI layouts: what is read of one is the same when it is written and read again.

use std::fmt::Debug;

use emergence_runc::emergence::json;
use emergence_runc::emergence::oci::{ImageConfig, Index, Manifest, Platform};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::one_line;

pub fn check(bytes: &[u8]) {
    both::<Index>(bytes);
    both::<Manifest>(bytes);
    both::<ImageConfig>(bytes);
    if let Ok(value) = json::parse(bytes, "document") {
        let again = json::parse(value.to_string().as_bytes(), "document").expect("what was written");
        assert_eq!(again, value);
    }
    if let Some(platform) = Platform::parse(&String::from_utf8_lossy(bytes)) {
        assert_eq!(Platform::parse(&platform.to_string()), Some(platform.clone()));
        assert!(platform.runs(&platform));
    }
}

fn both<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    match json::read::<T>(bytes, "document") {
        Ok(document) => {
            let text = serde_json::to_vec(&document).expect("a document");
            assert_eq!(json::read::<T>(&text, "document").expect("what was written"), document);
        }
        Err(fault) => one_line(&fault.to_string()),
    }
}
