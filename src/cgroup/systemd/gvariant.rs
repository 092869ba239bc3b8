//! Parses GVariant's text format, which annotations `org.systemd.property.NAME` use. Source: GLib,
//! "GVariant Text Format".
//!
//! ```text
//! value  = TYPE-WORD value | "@" SIGNATURE value | "true" | "false" | NUMBER | STRING | b STRING
//!        | array | tuple | variant
//! array  = "[" [ value { "," value } ] "]"
//! tuple  = "(" value { "," value } [ "," ] ")"
//! variant = "<" value ">"
//! ```
//! A number without a type is int32, as in GLib; the elements of an array have the type of the
//! first. No property of systemd has a dictionary or a maybe, so these are not supported.

use super::value::{Value, first_type};

/// The maximum nesting depth of values.
const DEEPEST: usize = 16;

/// Keywords for the type of the value after them.
const WORDS: &[(&str, &str)] = &[
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

/// Parses exactly one value. The error contains the reason and the byte offset.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(None, 0).and_then(|value| {
        parser.skip_space();
        if parser.rest().is_empty() { Ok(value) } else { Err("trailing characters after the value") }
    });
    value.map_err(|words| format!("{words} (at byte {} of {text:?})", parser.at))
}

type Parsed<T> = Result<T, &'static str>;

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// Parses a value; of type `wanted`, if the text before it determines the type.
    fn value(&mut self, wanted: Option<&str>, depth: usize) -> Parsed<Value> {
        if depth > DEEPEST {
            return Err("too deeply nested");
        }
        self.skip_space();
        match self.rest().chars().next().ok_or("a value is missing")? {
            '@' => self.annotated(wanted, depth),
            '[' => self.array(wanted, depth),
            '(' => self.tuple(wanted, depth),
            '<' => self.variant(wanted, depth),
            '\'' | '"' => {
                let text = self.string()?;
                string(text, wanted.unwrap_or("s"))
            }
            'b' if matches!(self.rest().as_bytes().get(1), Some(b'\'' | b'"')) => self.bytes(wanted),
            first if first.is_ascii_alphabetic() => self.word(wanted, depth),
            _ => {
                let end = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
                let word = self.take(end.unwrap_or(self.rest().len()));
                number(word, wanted)
            }
        }
    }

    fn word(&mut self, wanted: Option<&str>, depth: usize) -> Parsed<Value> {
        let end = self.rest().find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest().len());
        let word = self.take(end);
        if word == "true" || word == "false" {
            return of_type(Value::Bool(word == "true"), wanted);
        }
        if matches!(word, "inf" | "nan" | "infinity") {
            return number(word, wanted);
        }
        let (_, kind) = WORDS.iter().find(|(name, _)| *name == word).ok_or("neither a value nor a type")?;
        agree(kind, wanted)?;
        self.value(Some(kind), depth + 1)
    }

    /// `@TYPE value`.
    fn annotated(&mut self, wanted: Option<&str>, depth: usize) -> Parsed<Value> {
        self.take(1);
        let (kind, _) = first_type(self.rest()).ok_or("no type after @ that a systemd property can have")?;
        agree(kind, wanted)?;
        self.take(kind.len());
        self.value(Some(kind), depth + 1)
    }

    fn array(&mut self, wanted: Option<&str>, depth: usize) -> Parsed<Value> {
        let element = match wanted {
            Some(kind) => {
                Some(kind.strip_prefix('a').ok_or("an array where another type is wanted")?.to_owned())
            }
            None => None,
        };
        let of_first = |values: &[Value]| element.clone().or_else(|| values.first().map(Value::signature));
        let elements = self.list(']', depth, of_first)?;
        let element =
            of_first(&elements).ok_or("the type of an empty array is unknown: write @as [] or similar")?;
        Ok(Value::Array(element, elements))
    }

    fn tuple(&mut self, wanted: Option<&str>, depth: usize) -> Parsed<Value> {
        let mut kinds = Vec::new();
        if let Some(kind) = wanted {
            let inside = kind.strip_prefix('(').and_then(|kind| kind.strip_suffix(')'));
            let mut inside = inside.ok_or("a tuple where another type is wanted")?;
            while let Some((first, rest)) = first_type(inside) {
                kinds.push(first.to_owned());
                inside = rest;
            }
        }
        let members = self.list(')', depth, |values| kinds.get(values.len()).cloned())?;
        let value = Value::Struct(members);
        match &value {
            Value::Struct(members) if members.is_empty() => {
                Err("no property has an empty tuple as its value")
            }
            _ => of_type(value, wanted),
        }
    }

    /// Parses values up to `close`, separated by commas; `wanted` derives the type of the next from
    /// the previous ones.
    fn list(
        &mut self,
        close: char,
        depth: usize,
        wanted: impl Fn(&[Value]) -> Option<String>,
    ) -> Parsed<Vec<Value>> {
        self.take(1);
        let mut values = Vec::new();
        loop {
            self.skip_space();
            if self.accept(close) {
                return Ok(values);
            }
            let value = self.value(wanted(&values).as_deref(), depth + 1)?;
            values.push(value);
            self.skip_space();
            if !self.accept(',') && !self.rest().starts_with(close) {
                return Err("a comma or the closing bracket is missing");
            }
        }
    }

    fn variant(&mut self, wanted: Option<&str>, depth: usize) -> Parsed<Value> {
        self.take(1);
        let inner = self.value(None, depth + 1)?;
        self.skip_space();
        if !self.accept('>') {
            return Err("a > is missing");
        }
        of_type(Value::Variant(Box::new(inner)), wanted)
    }

    /// Parses `b'…'`: the bytes, and a 0 at the end.
    fn bytes(&mut self, wanted: Option<&str>) -> Parsed<Value> {
        self.take(1);
        let text = self.string()?;
        let bytes = text.bytes().chain([0]).map(Value::Byte).collect();
        of_type(Value::Array("y".into(), bytes), wanted)
    }

    /// Parses a quoted string, with the escapes of C and \uXXXX.
    fn string(&mut self) -> Parsed<String> {
        let quote = self.take(1);
        let mut text = String::new();
        loop {
            let c = self.next().ok_or("the closing quote is missing")?;
            if quote.starts_with(c) {
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            match self.next().ok_or("the closing quote is missing")? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'u' => text.push(self.escape(4)?),
                'U' => text.push(self.escape(8)?),
                other => text.push(other),
            }
        }
    }

    fn escape(&mut self, digits: usize) -> Parsed<char> {
        const WRONG: &str = "no hexadecimal character code after \\u";
        let hex = self.rest().get(..digits).ok_or(WRONG)?;
        let number = u32::from_str_radix(hex, 16).map_err(|_| WRONG)?;
        self.take(digits);
        char::from_u32(number).filter(|c| *c != '\0').ok_or(WRONG)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, count: usize) -> &'a str {
        let taken = self.rest().get(..count).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }
}

fn agree(kind: &str, wanted: Option<&str>) -> Parsed<()> {
    if wanted.is_none_or(|wanted| wanted == kind) {
        Ok(())
    } else {
        Err("of another type than the element before it")
    }
}

fn of_type(value: Value, wanted: Option<&str>) -> Parsed<Value> {
    agree(&value.signature(), wanted)?;
    Ok(value)
}

fn string(text: String, kind: &str) -> Parsed<Value> {
    if text.contains('\0') {
        return Err("a string with a NUL byte");
    }
    match kind {
        "s" => Ok(Value::Str(text)),
        "o" if text.starts_with('/') => Ok(Value::Path(text)),
        "g" if text.len() < 256 => Ok(Value::Signature(text)),
        _ => Err("a string where another type is wanted"),
    }
}

/// Parses decimal, 0x… or 0…, as strtoll(3) does; with a dot or an exponent, a double.
fn number(word: &str, wanted: Option<&str>) -> Parsed<Value> {
    const WRONG: &str = "not a number of its type";
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let hex = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
    let fraction = hex.is_none() && digits.contains(['.', 'e', 'E', 'n']);
    if wanted == Some("d") || (wanted.is_none() && fraction) {
        return word.parse().map(Value::Double).map_err(|_| WRONG);
    }
    let magnitude = match (hex, digits.strip_prefix('0')) {
        (Some(hex), _) => i128::from_str_radix(hex, 16),
        (None, Some(octal)) if !octal.is_empty() => i128::from_str_radix(octal, 8),
        _ => digits.parse(),
    };
    // The parsers of std would accept a second sign.
    let magnitude = magnitude.ok().filter(|_| !digits.contains(['+', '-'])).ok_or(WRONG)?;
    let number = if negative { -magnitude } else { magnitude };
    let value = match wanted.unwrap_or("i") {
        "y" => number.try_into().map(Value::Byte),
        "n" => number.try_into().map(Value::I16),
        "q" => number.try_into().map(Value::U16),
        "i" => number.try_into().map(Value::I32),
        "u" => number.try_into().map(Value::U32),
        "x" => number.try_into().map(Value::I64),
        "t" => number.try_into().map(Value::U64),
        _ => return Err("a number where another type is wanted"),
    };
    value.map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_each_kind() {
        let pair = |a: &str, b: &str| Value::Struct(vec![Value::text(a), Value::text(b)]);
        let table = [
            ("'inactive-or-failed'", Value::text("inactive-or-failed")),
            (r#""a\"b\n\u00e4""#, Value::text("a\"b\n\u{e4}")),
            ("uint64 123456789", Value::U64(123_456_789)),
            ("int64 5", Value::I64(5)),
            ("-5", Value::I32(-5)),
            ("uint32 0x10", Value::U32(16)),
            ("byte 010", Value::Byte(8)),
            ("1.5", Value::Double(1.5)),
            ("double 2", Value::Double(2.0)),
            (" true ", Value::Bool(true)),
            ("boolean false", Value::Bool(false)),
            ("['a', 'b']", Value::texts(["a".into(), "b".into()])),
            ("@as []", Value::texts([])),
            ("[uint64 1, 2]", Value::Array("t".into(), vec![Value::U64(1), Value::U64(2)])),
            ("[('/dev/null', 'rw')]", Value::Array("(ss)".into(), vec![pair("/dev/null", "rw")])),
            ("@a(ss) [('a','b'),]", Value::Array("(ss)".into(), vec![pair("a", "b")])),
            ("@(st) ('a', 7)", Value::Struct(vec![Value::text("a"), Value::U64(7)])),
            ("b'a'", Value::Array("y".into(), vec![Value::Byte(97), Value::Byte(0)])),
            ("<'a'>", Value::Variant(Box::new(Value::text("a")))),
            ("objectpath '/a'", Value::Path("/a".into())),
        ];
        for (text, want) in table {
            assert_eq!(parse(text).as_ref(), Ok(&want), "{text}");
        }
    }

    #[test]
    fn invalid_values_are_refused() {
        let deep = "[".repeat(100);
        let table = [
            "",
            "'a",
            "a",
            "123abc",
            "uint32 -1",
            "byte 256",
            "int64 'a'",
            "[1, 'a']",
            "[]",
            "()",
            "[1",
            "[1 2]",
            "@as [1]",
            "@z 1",
            "@a{sv} {}",
            "uint64 1 2",
            "2147483648",
            "--5",
            "0x-5",
            "'\\u00'",
            "'\\u0000'",
            "<1",
            "(1,2",
            "uint64",
            "@(st) ('a',)",
            "@i",
            "inf2",
            "\u{e4}",
            "[@a",
            &deep,
        ];
        for text in table {
            let error = parse(text).expect_err(text);
            assert!(error.contains(" (at byte "), "{error}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        let whole = r#"[('a\u00e4', <@as ['x']>, b"y", uint64 0x1, -1.5e3, true)]"#;
        for end in 0..whole.len() {
            let _ = whole.get(..end).map(parse);
        }
        for at in 0..whole.len() {
            for c in ['[', ')', '\'', '@', '\\', ',', '\u{e4}', '9'] {
                let _ = parse(
                    &whole
                        .chars()
                        .enumerate()
                        .map(|(i, old)| if i == at { c } else { old })
                        .collect::<String>(),
                );
            }
        }
    }
}
