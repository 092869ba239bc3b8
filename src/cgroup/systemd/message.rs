//! D-Bus messages: the header around the values. Source: D-Bus specification, "Message format".

use super::value::{ByteOrder, Reader, Value, pad};

/// A method call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Bus name of the receiver; unused on a connection without a bus.
    pub destination: &'a str,
    /// Path of the object.
    pub path: &'a str,
    /// Interface of the object.
    pub interface: &'a str,
    /// Name of the method.
    pub member: &'a str,
    /// Its arguments.
    pub body: &'a [Value],
}

/// A received message.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrived {
    /// The answer to the call with this serial number.
    Answer(u32, MethodReply),
    /// A signal's name and values.
    Signal(String, Vec<Value>),
    /// A message that we ignore.
    Other,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum MethodReply {
    /// The method's results.
    Values(Vec<Value>),
    /// The method's error.
    Error(MethodError),
}

/// The error that a method returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodError {
    /// Such as `org.freedesktop.systemd1.NoSuchUnit`.
    pub name: String,
    /// Human-readable message.
    pub words: String,
}

const LITTLE_ENDIAN: u8 = b'l';
const BIG_ENDIAN: u8 = b'B';
const VERSION: u8 = 1;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Length of the fixed part of the header, including the length of its fields.
pub const FIXED: usize = 16;
/// The longest accepted message. The specification allows 128 MiB, whose values would need many
/// times that size; systemd's messages to us are at most a few hundred bytes.
const LONGEST: usize = 1 << 20;

/// Encodes a call.
pub fn encode(call: &Call<'_>, serial: u32) -> Vec<u8> {
    let mut body = Vec::new();
    call.body.iter().for_each(|value| value.encode(&mut body));
    let field =
        |number: u8, value: Value| Value::Struct(vec![Value::Byte(number), Value::Variant(Box::new(value))]);
    let mut fields = vec![
        field(PATH, Value::Path(call.path.into())),
        field(INTERFACE, Value::text(call.interface)),
        field(MEMBER, Value::text(call.member)),
    ];
    if !call.destination.is_empty() {
        fields.push(field(DESTINATION, Value::text(call.destination)));
    }
    if !call.body.is_empty() {
        let signature = call.body.iter().map(Value::signature).collect();
        fields.push(field(SIGNATURE, Value::Signature(signature)));
    }
    let mut out = vec![LITTLE_ENDIAN, METHOD_CALL, 0, VERSION];
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(serial.to_le_bytes());
    Value::Array("(yv)".into(), fields).encode(&mut out);
    pad(&mut out, 8);
    out.extend(body);
    out
}

/// The length of the message that starts with these [`FIXED`] bytes. `None`: not a valid message.
pub fn length(head: &[u8]) -> Option<usize> {
    let [endian, _, _, VERSION, ..] = *head else { return None };
    let mut numbers = Reader::new(head.get(4..)?, byte_order(endian)?);
    let body = numbers.u32()? as usize;
    let _serial = numbers.u32()?;
    let fields = numbers.u32()? as usize;
    let header = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?;
    header.checked_add(body).filter(|whole| *whole <= LONGEST)
}

/// Parses a whole message. `None`: not a valid message.
pub fn decode(bytes: &[u8]) -> Option<Arrived> {
    let (endian, kind) = (bytes.first()?, *bytes.get(1)?);
    let order = byte_order(*endian)?;
    let fields_length = Reader::new(bytes.get(12..FIXED)?, order).u32()? as usize;
    let fields_end = FIXED.checked_add(fields_length)?;
    // Starts 8 bytes before the array, to keep its alignment in the message: 4 bytes after a
    // multiple of 8.
    let fields = Reader::new(bytes.get(8..fields_end)?, order).values("ua(yv)")?;
    let (mut member, mut error, mut serial, mut signature) = (String::new(), String::new(), 0, String::new());
    let Some(Value::Array(_, fields)) = fields.into_iter().nth(1) else { return None };
    for field in fields {
        let Value::Struct(parts) = field else { return None };
        let [Value::Byte(number), Value::Variant(value)] = parts.as_slice() else { return None };
        match (*number, value.as_ref()) {
            (MEMBER, Value::Str(name)) => member.clone_from(name),
            (ERROR_NAME, Value::Str(name)) => error.clone_from(name),
            (REPLY_SERIAL, Value::U32(number)) => serial = *number,
            (SIGNATURE, Value::Signature(text)) => signature.clone_from(text),
            _ => {}
        }
    }
    let body = bytes.get(fields_end.checked_next_multiple_of(8)?..)?;
    let values = |signature: &str| Reader::new(body, order).values(signature);
    Some(match kind {
        // Values of a type that we do not know are useless to us; but the message is an answer.
        METHOD_RETURN => Arrived::Answer(serial, MethodReply::Values(values(&signature).unwrap_or_default())),
        ERROR => {
            let words = match values(&signature).unwrap_or_default().into_iter().next() {
                Some(Value::Str(words)) => words,
                _ => String::new(),
            };
            Arrived::Answer(serial, MethodReply::Error(MethodError { name: error, words }))
        }
        SIGNAL => Arrived::Signal(member, values(&signature).unwrap_or_default()),
        _ => Arrived::Other,
    })
}

fn byte_order(endian: u8) -> Option<ByteOrder> {
    match endian {
        LITTLE_ENDIAN => Some(ByteOrder::Little),
        BIG_ENDIAN => Some(ByteOrder::Big),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a message as a bus would send it.
    fn message(kind: u8, fields: Vec<(u8, Value)>, body: &[Value]) -> Vec<u8> {
        let fields = fields
            .into_iter()
            .map(|(number, value)| Value::Struct(vec![Value::Byte(number), Value::Variant(Box::new(value))]));
        let mut content = Vec::new();
        body.iter().for_each(|value| value.encode(&mut content));
        let mut out = vec![LITTLE_ENDIAN, kind, 0, VERSION];
        out.extend((content.len() as u32).to_le_bytes());
        out.extend(7u32.to_le_bytes());
        Value::Array("(yv)".into(), fields.collect()).encode(&mut out);
        pad(&mut out, 8);
        out.extend(content);
        out
    }

    #[test]
    fn hello_is_what_every_bus_knows() {
        let hello = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            body: &[],
        };
        let bytes = encode(&hello, 1);
        assert_eq!(&bytes[..16], b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6d\0\0\0");
        assert_eq!(bytes.len(), 128);
        assert_eq!(length(&bytes), Some(128));
        assert_eq!(decode(&bytes), Some(Arrived::Other));
    }

    #[test]
    fn messages_are_distinguished() {
        let signature = |text: &str| (SIGNATURE, Value::Signature(text.into()));
        let reply = message(
            METHOD_RETURN,
            vec![(REPLY_SERIAL, Value::U32(3)), signature("o")],
            &[Value::Path("/j".into())],
        );
        assert_eq!(length(&reply), Some(reply.len()));
        assert_eq!(
            decode(&reply),
            Some(Arrived::Answer(3, MethodReply::Values(vec![Value::Path("/j".into())])))
        );
        let name = (ERROR_NAME, Value::text("a.B"));
        let error =
            message(ERROR, vec![(REPLY_SERIAL, Value::U32(3)), name, signature("s")], &[Value::text("no")]);
        let refusal = MethodError { name: "a.B".into(), words: "no".into() };
        assert_eq!(decode(&error), Some(Arrived::Answer(3, MethodReply::Error(refusal))));
        let signal =
            message(SIGNAL, vec![(MEMBER, Value::text("JobRemoved")), signature("u")], &[Value::U32(1)]);
        assert_eq!(decode(&signal), Some(Arrived::Signal("JobRemoved".into(), vec![Value::U32(1)])));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = message(SIGNAL, vec![(MEMBER, Value::text("JobRemoved"))], &[]);
        for end in 0..whole.len() {
            let _ = (length(&whole[..end]), decode(&whole[..end]));
        }
        for at in 0..whole.len() {
            for byte in [0, 1, b'v', 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                let _ = (length(&broken), decode(&broken));
            }
        }
        assert_eq!(length(b"l\x01\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0"), None);
    }
}
