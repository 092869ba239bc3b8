//! D-Bus values and their encoding. Source: D-Bus specification, "Type system" and "Marshaling
//! (wire format)".
//!
//! A number is aligned to its size, a struct to 8, counted from the start of the message. A string
//! is its length (u32), its bytes and a NUL; an array is its length in bytes (u32), then the
//! elements at their own alignment.

/// A value of any type that systemd's properties and our few calls use; no dictionaries, no
/// descriptors.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the specification's
pub enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Str(String),
    Path(String),
    Signature(String),
    /// The elements' type, then the elements.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

/// The maximum nesting depth of types; the specification allows twice as much.
const DEEPEST: usize = 32;

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Str(text.into())
    }

    /// An array of strings.
    pub fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Self::Array("s".into(), texts.into_iter().map(Self::Str).collect())
    }

    /// The type, as a signature.
    pub fn signature(&self) -> String {
        let letter = match self {
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::I16(_) => "n",
            Self::U16(_) => "q",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Double(_) => "d",
            Self::Str(_) => "s",
            Self::Path(_) => "o",
            Self::Signature(_) => "g",
            Self::Variant(_) => "v",
            Self::Array(element, _) => return format!("a{element}"),
            Self::Struct(members) => {
                return format!("({})", members.iter().map(Self::signature).collect::<String>());
            }
        };
        letter.into()
    }

    /// Appends the little-endian encoding to a message (or to a part of one that begins at a
    /// multiple of 8).
    pub fn encode(&self, out: &mut Vec<u8>) {
        pad(out, alignment(&self.signature()));
        match self {
            Self::Byte(byte) => out.push(*byte),
            Self::Bool(truth) => out.extend(u32::from(*truth).to_le_bytes()),
            Self::I16(number) => out.extend(number.to_le_bytes()),
            Self::U16(number) => out.extend(number.to_le_bytes()),
            Self::I32(number) => out.extend(number.to_le_bytes()),
            Self::U32(number) => out.extend(number.to_le_bytes()),
            Self::I64(number) => out.extend(number.to_le_bytes()),
            Self::U64(number) => out.extend(number.to_le_bytes()),
            Self::Double(number) => out.extend(number.to_le_bytes()),
            Self::Str(text) | Self::Path(text) => {
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Self::Signature(text) => encode_signature(text, out),
            Self::Variant(inner) => {
                encode_signature(&inner.signature(), out);
                inner.encode(out);
            }
            Self::Struct(members) => members.iter().for_each(|member| member.encode(out)),
            Self::Array(element, elements) => {
                let length_at = out.len();
                out.extend([0; 4]);
                pad(out, alignment(element));
                let start = out.len();
                elements.iter().for_each(|element| element.encode(out));
                let length = (out.len() - start) as u32;
                for (place, byte) in out.iter_mut().skip(length_at).zip(length.to_le_bytes()) {
                    *place = byte;
                }
            }
        }
    }
}

fn encode_signature(text: &str, out: &mut Vec<u8>) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
    out.push(0);
}

/// Pads to a multiple of `to`.
pub(super) fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

/// The alignment of the first type of `signature`.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// Splits a signature after its first complete type. `None`: not a type that we know.
pub fn first_type(signature: &str) -> Option<(&str, &str)> {
    split(signature, 0)
}

fn split(signature: &str, depth: usize) -> Option<(&str, &str)> {
    if depth > DEEPEST {
        return None;
    }
    let length = match signature.as_bytes().first()? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' => 1,
        b'a' => 1 + split(signature.get(1..)?, depth + 1)?.0.len(),
        b'(' => {
            let mut rest = signature.get(1..)?;
            while !rest.starts_with(')') {
                rest = split(rest, depth + 1)?.1;
            }
            // At least one member: `()` is invalid.
            Some(signature.len() - rest.len() + 1).filter(|length| *length > 2)?
        }
        _ => return None,
    };
    signature.split_at_checked(length)
}

/// The byte order of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Little-endian.
    Little,
    /// Big-endian.
    Big,
}

/// Reads values from the bytes of a message.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    order: ByteOrder,
}

impl<'a> Reader<'a> {
    /// Reads from the start of a message, or of a part that begins at a multiple of 8.
    pub fn new(bytes: &'a [u8], order: ByteOrder) -> Self {
        Self { bytes, at: 0, order }
    }

    /// Reads the values of the types in `signature`. `None`: the bytes do not match.
    pub fn values(&mut self, mut signature: &str) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        while !signature.is_empty() {
            let (first, rest) = first_type(signature)?;
            values.push(self.value(first, 0)?);
            signature = rest;
        }
        Some(values)
    }

    /// Reads a value of this one type, which [`first_type`] has checked.
    fn value(&mut self, kind: &str, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        self.align(alignment(kind))?;
        Some(match kind.as_bytes().first()? {
            b'y' => Value::Byte(self.take(1)?.first().copied()?),
            b'b' => Value::Bool(self.u32()? != 0),
            b'n' => Value::I16(i16::from_le_bytes(self.number()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.number()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.number()?)),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.number()?)),
            b't' => Value::U64(u64::from_le_bytes(self.number()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.number()?)),
            b's' => Value::Str(self.text()?),
            b'o' => Value::Path(self.text()?),
            b'g' => Value::Signature(self.signature()?),
            b'v' => {
                let inner = self.signature()?;
                let (first, rest) = first_type(&inner)?;
                if !rest.is_empty() {
                    return None;
                }
                Value::Variant(Box::new(self.value(first, depth + 1)?))
            }
            b'a' => self.array(kind.get(1..)?, depth)?,
            b'(' => {
                let mut inside = kind.get(1..kind.len() - 1)?;
                let mut members = Vec::new();
                while !inside.is_empty() {
                    let (first, rest) = first_type(inside)?;
                    members.push(self.value(first, depth + 1)?);
                    inside = rest;
                }
                Value::Struct(members)
            }
            _ => return None,
        })
    }

    fn array(&mut self, element: &str, depth: usize) -> Option<Value> {
        let length = self.u32()? as usize;
        self.align(alignment(element))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut elements = Vec::new();
        while self.at < end {
            elements.push(self.value(element, depth + 1)?);
        }
        (self.at == end).then(|| Value::Array(element.to_owned(), elements))
    }

    /// Reads a `u32` at the next multiple of 4.
    pub fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        Some(u32::from_le_bytes(self.number()?))
    }

    /// Reads the bytes of a number in little-endian order.
    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes: [u8; N] = self.take(N)?.try_into().ok()?;
        if self.order == ByteOrder::Big {
            bytes.reverse();
        }
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        self.counted(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(*self.take(1)?.first()?);
        self.counted(length)
    }

    fn counted(&mut self, length: usize) -> Option<String> {
        let bytes = self.take(length.checked_add(1)?)?;
        String::from_utf8(bytes.strip_suffix(&[0])?.to_vec()).ok()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_match_the_specification() {
        let table: &[(Value, &str, &[u8])] = &[
            (Value::Bool(true), "b", &[1, 0, 0, 0]),
            (Value::text("foo"), "s", b"\x03\0\0\0foo\0"),
            (Value::Signature("as".into()), "g", b"\x02as\0"),
            (Value::Variant(Box::new(Value::U32(5))), "v", &[1, b'u', 0, 0, 5, 0, 0, 0]),
            // The specification's own example: an array with one 64-bit number, padded to its
            // alignment.
            (
                Value::Array("x".into(), vec![Value::I64(5)]),
                "ax",
                &[8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            ),
            (Value::Array("t".into(), vec![]), "at", &[0, 0, 0, 0, 0, 0, 0, 0]),
            (Value::Struct(vec![Value::Byte(1), Value::U16(2)]), "(yq)", &[1, 0, 2, 0]),
        ];
        for (value, signature, bytes) in table {
            assert_eq!(value.signature(), *signature);
            let mut out = Vec::new();
            value.encode(&mut out);
            assert_eq!(out, *bytes, "{value:?}");
            assert_eq!(
                Reader::new(bytes, ByteOrder::Little).values(signature),
                Some(vec![value.clone()]),
                "{value:?}"
            );
        }
        assert_eq!(Reader::new(&[0, 0, 0, 9], ByteOrder::Big).values("u"), Some(vec![Value::U32(9)]));
    }

    #[test]
    fn broken_bytes_are_refused() {
        let table: &[(&str, &[u8])] = &[
            ("u", &[1, 2]),
            ("s", b"\xff\0\0\0foo\0"),
            ("s", b"\x03\0\0\0foox"),
            ("s", b"\x01\0\0\0\xff\0"),
            ("au", &[3, 0, 0, 0, 1, 0, 0, 0]),
            ("au", &[255, 255, 255, 255, 1, 0, 0, 0]),
            ("v", b"\x02uu\0\0\0\0\0"),
            ("a{sv}", &[0; 8]),
            ("()", &[0; 8]),
            ("(u", &[0; 8]),
            ("z", &[0; 8]),
        ];
        for (signature, bytes) in table {
            assert_eq!(
                Reader::new(bytes, ByteOrder::Little).values(signature),
                None,
                "{signature} {bytes:?}"
            );
        }
        // Variants in variants, nested too deeply.
        let deep = [1, b'v', 0].repeat(1000);
        assert_eq!(Reader::new(&deep, ByteOrder::Little).values("v"), None);
        assert_eq!(first_type(&"a".repeat(1000)), None);
    }

    #[test]
    fn types_are_taken_one_by_one() {
        assert_eq!(first_type("a(ss)u"), Some(("a(ss)", "u")));
        assert_eq!(first_type("(a(st)b)"), Some(("(a(st)b)", "")));
        assert_eq!(first_type(""), None);
    }
}
