//! D-Bus messages, as systemd and the bus send them.

use emergence_runc::cgroup::systemd::message::{self, Arrived, MethodReply};
use emergence_runc::cgroup::systemd::value::{ByteOrder, Reader, Value, first_type};

pub fn check(bytes: &[u8]) {
    if let Some(length) = message::length(bytes) {
        assert!(length >= message::FIXED);
    }
    match message::decode(bytes) {
        Some(Arrived::Signal(_, values) | Arrived::Answer(_, MethodReply::Values(values))) => {
            assert!(values.iter().map(count).sum::<usize>() <= bytes.len(), "more values than bytes");
            values.iter().for_each(travels);
        }
        Some(Arrived::Answer(..) | Arrived::Other) | None => {}
    }
}

/// Values, those inside others too.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(_, inside) | Value::Struct(inside) => 1 + inside.iter().map(count).sum::<usize>(),
        Value::Variant(inside) => 1 + count(inside),
        _ => 1,
    }
}

/// What we write, a reader understands as the same, and the same of it.
pub fn travels(value: &Value) {
    let signature = value.signature();
    assert_eq!(first_type(&signature), Some((signature.as_str(), "")));
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    let read = Reader::new(&bytes, ByteOrder::Little).values(&signature).expect("what was written");
    let mut again = Vec::new();
    read.iter().for_each(|value| value.encode(&mut again));
    assert_eq!(again, bytes, "{value:?}");
}
