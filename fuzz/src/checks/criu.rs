//! What criu answers over its RPC.

use emergence_runc::checkpoint::message::Response;
use prost::Message;

pub fn check(bytes: &[u8]) {
    let Ok(response) = Response::decode(bytes) else { return };
    let again = Response::decode(response.encode_to_vec().as_slice()).expect("what was written");
    assert_eq!(format!("{again:?}"), format!("{response:?}"));
}
