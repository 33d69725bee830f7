//! Canonical JSON after RFC 8785: sorted keys, no spaces, shortest escapes, integers only.
//!
//! A record is hashed as bytes, so each record has exactly one form. Integers stay within
//! ±(2^53 − 1), which every JSON reader keeps exactly; a larger count is written as that bound.

use serde_json::Value;

/// The largest integer that every JSON reader keeps exactly.
pub(crate) const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The canonical bytes of a value.
pub(crate) fn to_bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    out
}

/// Appends the canonical bytes of a value.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (nth, item) in items.iter().enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            out.push(b'{');
            for (nth, (key, field)) in sorted(fields).into_iter().enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(field, out);
            }
            out.push(b'}');
        }
    }
}

/// Fields in the order of their keys' UTF-16 code units, as RFC 8785 wants it.
fn sorted(fields: &serde_json::Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    sorted
}

/// Appends a quoted string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    if !text
        .bytes()
        .any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0x00..0x20 => {
                let digit = |four: u8| HEX.get(usize::from(four)).copied().unwrap_or(b'0');
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            plain => out.push(plain),
        }
    }
    out.push(b'"');
}

fn write_number(number: &serde_json::Number, out: &mut Vec<u8>) {
    let text = if let Some(count) = number.as_u64() {
        count.min(INTEGER_MAX).to_string()
    } else if let Some(signed) = number.as_i64() {
        let floor = i64::try_from(INTEGER_MAX).map_or(0, |bound| -bound);
        signed.max(floor).to_string()
    } else {
        // No event has a fraction; one from another version of the program is not re-encoded.
        number.to_string()
    };
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(value: &Value, bytes: &str) {
        assert_eq!(String::from_utf8(to_bytes(value)).unwrap(), bytes);
    }

    #[test]
    fn follows_rfc_8785() {
        check(
            &json!({"b": [1, -2, true], "a": null}),
            r#"{"a":null,"b":[1,-2,true]}"#,
        );
        check(
            &json!("\u{20ac}$\u{f}\nA'B\"\\\"/"),
            r#""€$\u000f\nA'B\"\\\"/""#,
        );
        // The order of UTF-16 code units differs from that of code points here.
        check(
            &json!({"\u{fb33}": 1, "\u{1f600}": 2, "\r": 3}),
            "{\"\\r\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}",
        );
        check(&json!(u64::MAX), "9007199254740991");
        check(&json!(i64::MIN), "-9007199254740991");
    }

    proptest! {
        #[test]
        fn strings_read_back(text: String) {
            let bytes = to_bytes(&json!(text.clone()));
            prop_assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), text);
        }
    }
}
