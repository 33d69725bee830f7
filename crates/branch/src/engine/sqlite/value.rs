//! One SQLite value, exactly as stored, and its encoding in a change set (docs/formats).

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

/// A value of one of SQLite's five storage classes.
#[derive(Clone, Debug)]
pub enum Value {
    /// `NULL`.
    Null,
    /// A signed integer.
    Integer(i64),
    /// A double, kept bit by bit.
    Real(f64),
    /// Text in UTF-8 as SQLite would return it; SQLite itself does not promise that it is valid.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) | (Self::Blob(a), Self::Blob(b)) => a == b,
            (Self::Null | Self::Integer(_) | Self::Real(_) | Self::Text(_) | Self::Blob(_), _) => {
                false
            }
        }
    }
}

impl Eq for Value {}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Real(real) => ValueRef::Real(*real),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(integer) => Self::Integer(integer),
            ValueRef::Real(real) => Self::Real(real),
            ValueRef::Text(text) => Self::Text(text.to_vec()),
            ValueRef::Blob(blob) => Self::Blob(blob.to_vec()),
        }
    }
}

impl Value {
    /// Whether a stored value, read without a copy, is this one.
    pub(crate) fn is(&self, stored: ValueRef<'_>) -> bool {
        match (self, stored) {
            (Self::Null, ValueRef::Null) => true,
            (Self::Integer(a), ValueRef::Integer(b)) => *a == b,
            (Self::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), ValueRef::Text(b)) | (Self::Blob(a), ValueRef::Blob(b)) => a == b,
            (Self::Null | Self::Integer(_) | Self::Real(_) | Self::Text(_) | Self::Blob(_), _) => {
                false
            }
        }
    }

    pub(crate) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Appends the encoding: a tag, then what the tag says.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0),
            Self::Integer(integer) => {
                out.push(1);
                put_signed(out, *integer);
            }
            Self::Real(real) => {
                out.push(2);
                out.extend_from_slice(&real.to_bits().to_le_bytes());
            }
            Self::Text(text) => {
                out.push(3);
                put_bytes(out, text);
            }
            Self::Blob(blob) => {
                out.push(4);
                put_bytes(out, blob);
            }
        }
    }

    /// Takes one value off the front, or `None` when the bytes are not an encoding.
    pub(crate) fn decode(input: &mut &[u8]) -> Option<Self> {
        match take(input, 1)?.first()? {
            0 => Some(Self::Null),
            1 => take_signed(input).map(Self::Integer),
            2 => {
                let bits = <[u8; 8]>::try_from(take(input, 8)?).ok()?;
                Some(Self::Real(f64::from_bits(u64::from_le_bytes(bits))))
            }
            3 => take_bytes(input).map(|text| Self::Text(text.to_vec())),
            4 => take_bytes(input).map(|blob| Self::Blob(blob.to_vec())),
            _ => None,
        }
    }
}

/// The encoding of a list of values: equal bytes mean equal values.
pub(crate) fn encode_row<'a>(row: impl IntoIterator<Item = &'a Value>) -> Vec<u8> {
    let mut out = Vec::new();
    for value in row {
        value.encode(&mut out);
    }
    out
}

/// The values of [`encode_row`].
pub(crate) fn decode_row(mut input: &[u8]) -> Option<Vec<Value>> {
    let mut row = Vec::new();
    while !input.is_empty() {
        row.push(Value::decode(&mut input)?);
    }
    Some(row)
}

pub(crate) fn put_unsigned(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    // Zigzag, so that small negative numbers stay short.
    put_unsigned(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_unsigned(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

pub(crate) fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(count)?;
    *input = tail;
    Some(head)
}

pub(crate) fn take_unsigned(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(input, 1)?.first()?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

pub(crate) fn take_signed(input: &mut &[u8]) -> Option<i64> {
    let number = take_unsigned(input)?;
    Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

pub(crate) fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_unsigned(input)?).ok()?;
    take(input, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back() {
        let row = vec![
            Value::Null,
            Value::Integer(0),
            Value::Integer(-1),
            Value::Integer(i64::MIN),
            Value::Integer(i64::MAX),
            Value::Real(-0.0),
            Value::Real(f64::INFINITY),
            Value::Text(vec![0xff, 0, b'a']),
            Value::Blob(vec![7; 300]),
        ];
        assert_eq!(decode_row(&encode_row(&row)), Some(row));
    }

    #[test]
    fn a_cut_encoding_is_refused() {
        let bytes = encode_row(&[Value::Text(vec![1; 200]), Value::Integer(1 << 40)]);
        for end in 1..bytes.len() {
            let decoded = decode_row(&bytes[..end]);
            assert!(decoded.is_none() || decoded.is_some_and(|row| row.len() == 1));
        }
        assert_eq!(decode_row(&[9]), None);
        assert_eq!(
            decode_row(&[
                1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
            ]),
            None
        );
    }
}
