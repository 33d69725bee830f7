//! A value of the text, with its name and the line it stands on.

use std::ops::Range;

use belljar_base::bounds::EGRESS_SHOWN_CHARS_MAX;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::nearest::nearest_word;
use super::FileError;

/// A value and what it is the value of.
pub(super) struct Node<'a> {
    whole: &'a str,
    key: &'a str,
    span: Range<usize>,
    value: Value<'a>,
}

#[derive(Clone, Copy)]
enum Value<'a> {
    /// The whole text.
    Root(&'a DeTable<'a>),
    Other(&'a DeValue<'a>),
}

impl<'a> Node<'a> {
    /// The whole text.
    pub(super) fn root(whole: &'a str, table: &'a DeTable<'a>) -> Self {
        Self {
            whole,
            key: "rules",
            span: 0..0,
            value: Value::Root(table),
        }
    }

    fn of(&self, key: &'a str, span: Range<usize>, value: &'a Spanned<DeValue<'a>>) -> Self {
        let value = Value::Other(value.get_ref());
        Self {
            whole: self.whole,
            key,
            span,
            value,
        }
    }

    /// Its name, as it was written.
    pub(super) fn key(&self) -> &'a str {
        self.key
    }

    /// The line it stands on, from 1.
    pub(super) fn line(&self) -> usize {
        line_of(self.whole, self.span.start)
    }

    /// The fields of a table with known ones.
    pub(super) fn fields(&self, known: &[&str]) -> Result<Vec<Self>, FileError> {
        let fields = self.entries(usize::MAX)?;
        match fields.iter().find(|field| !known.contains(&field.key)) {
            Some(field) => Err(field.is_unknown(known)),
            None => Ok(fields),
        }
    }

    /// The fields of a table with any.
    pub(super) fn entries(&self, most: usize) -> Result<Vec<Self>, FileError> {
        let table = match self.value {
            Value::Root(table) | Value::Other(DeValue::Table(table)) => table,
            Value::Other(_) => {
                return Err(self.must_be(format!("a table, as in `[{}]`", self.shown())));
            }
        };
        if table.len() > most {
            return Err(self.too_many(most));
        }
        let field = |(key, value): (&'a Spanned<_>, _)| {
            let name: &'a std::borrow::Cow<'a, str> = key.get_ref();
            self.of(name, key.span(), value)
        };
        Ok(table.iter().map(field).collect())
    }

    /// The values of a list.
    pub(super) fn list(&self, most: usize) -> Result<Vec<Self>, FileError> {
        let Value::Other(DeValue::Array(list)) = self.value else {
            return Err(self.must_be("a list, as in `[…]`"));
        };
        if list.len() > most {
            return Err(self.too_many(most));
        }
        let one = |value: &'a Spanned<_>| self.of(self.key, value.span(), value);
        Ok(list.iter().map(one).collect())
    }

    /// The tables of a list of tables.
    pub(super) fn tables(&self, most: usize) -> Result<Vec<Self>, FileError> {
        let wanted = || self.must_be(format!("a list of tables, as in `[[{}]]`", self.shown()));
        match self.value {
            Value::Other(DeValue::Array(_)) => self.list(most),
            Value::Root(_) | Value::Other(_) => Err(wanted()),
        }
    }

    pub(super) fn text(&self, wanted: &str) -> Result<&'a str, FileError> {
        match self.value {
            Value::Other(DeValue::String(text)) => Ok(text),
            Value::Root(_) | Value::Other(_) => Err(self.must_be(wanted)),
        }
    }

    pub(super) fn number(&self, wanted: &str) -> Result<u64, FileError> {
        let number = match self.value {
            Value::Other(DeValue::Integer(number)) => {
                u64::from_str_radix(number.as_str(), number.radix()).ok()
            }
            Value::Root(_) | Value::Other(_) => None,
        };
        number.ok_or_else(|| self.must_be(wanted))
    }

    pub(super) fn must_be(&self, wanted: impl Into<String>) -> FileError {
        FileError::Value {
            line: self.line(),
            key: self.shown(),
            wanted: wanted.into(),
        }
    }

    pub(super) fn too_many(&self, most: usize) -> FileError {
        FileError::Many {
            line: self.line(),
            key: self.shown(),
            most,
        }
    }

    /// The name is none of the known ones.
    fn is_unknown(&self, known: &[&str]) -> FileError {
        let remedy = match nearest_word(&self.shown(), known) {
            Some(near) => format!("write `{near}`"),
            None => format!("what can stand here is {}", known.join(", ")),
        };
        FileError::Unknown {
            line: self.line(),
            key: self.shown(),
            remedy,
        }
    }

    /// Its name, as an error may repeat it.
    fn shown(&self) -> String {
        let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        let few = self.key.chars().take(EGRESS_SHOWN_CHARS_MAX);
        few.map(clean).collect()
    }
}

/// The line of a place in a text, from 1.
pub(super) fn line_of(whole: &str, at: usize) -> usize {
    let before = whole.as_bytes().iter().take(at);
    1 + before.filter(|b| **b == b'\n').count()
}
