//! Finds strings in a JSON text by their place, and leaves everything else as it is written.

use std::ops::Range;

/// How deep a text may be nested.
const DEPTH_MAX: usize = 128;

/// Where in a JSON text the strings at a place are, quotes included: one, more where a key is there
/// twice, none where the text is not JSON up to its end.
pub(super) fn strings_at(text: &[u8], pointer: &str) -> Vec<Range<usize>> {
    let wanted: Vec<String> = pointer
        .split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect();
    let mut walk = Walk {
        text,
        at: 0,
        wanted: &wanted,
        found: Vec::new(),
    };
    if walk.value(Some(0), 0).is_none() {
        return Vec::new();
    }
    walk.space();
    if walk.at == text.len() {
        walk.found
    } else {
        Vec::new()
    }
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    wanted: &'a [String],
    found: Vec<Range<usize>>,
}

impl Walk<'_> {
    /// Passes one value; `known` is how many parts of the wanted place lead to it, if they do.
    fn value(&mut self, known: Option<usize>, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.space();
        match self.peek()? {
            b'{' => self.object(known, depth),
            b'[' => self.array(known, depth),
            b'"' => {
                let range = self.string()?;
                if known == Some(self.wanted.len()) {
                    self.found.push(range);
                }
                Some(())
            }
            _ => self.word(),
        }
    }

    fn object(&mut self, known: Option<usize>, depth: usize) -> Option<()> {
        self.at += 1;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.space();
            let key = self.string()?;
            let key: String = serde_json::from_slice(self.text.get(key)?).ok()?;
            self.space();
            self.pass(b':')?;
            self.value(self.inner(known, &key), depth + 1)?;
            if self.ends(b'}')? {
                return Some(());
            }
        }
    }

    fn array(&mut self, known: Option<usize>, depth: usize) -> Option<()> {
        self.at += 1;
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        let mut number = 0_usize;
        loop {
            self.value(self.inner(known, &number.to_string()), depth + 1)?;
            number += 1;
            if self.ends(b']')? {
                return Some(());
            }
        }
    }

    /// What is known one step further down.
    fn inner(&self, known: Option<usize>, step: &str) -> Option<usize> {
        let wanted = self.wanted.get(known?)?;
        (wanted == step).then_some(known? + 1)
    }

    /// Passes a comma or the end.
    fn ends(&mut self, end: u8) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(false),
            byte if byte == end => Some(true),
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Range<usize>> {
        let begin = self.at;
        self.pass(b'"')?;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(begin..self.at)
    }

    /// A number, `true`, `false`, `null`: what they are is left to whoever reads the body.
    fn word(&mut self) -> Option<()> {
        let begin = self.at;
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        while self.peek().is_some_and(inside) {
            self.at += 1;
        }
        (self.at > begin).then_some(())
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    fn pass(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, pointer: &str, wanted: &[&str]) {
        let found: Vec<&str> = strings_at(text.as_bytes(), pointer)
            .into_iter()
            .map(|range| text.get(range).unwrap())
            .collect();
        assert_eq!(found, wanted, "{pointer} in {text}");
    }

    #[test]
    fn strings_are_found_by_place() {
        let text = r#" {"a": {"b/c": ["x", {"d": "y\"z"}]}, "b/c": 1.5e3, "a": {"b/c": "w"}} "#;
        check(text, "/a/b~1c/0", &["\"x\""]);
        check(text, "/a/b~1c/1/d", &["\"y\\\"z\""]);
        check(text, "/a/b~1c", &["\"w\""]);
        check(text, "/b~1c", &[]);
        check(text, "/d", &[]);
        check(r#"{"k":"1","k":"2"}"#, "/k", &["\"1\"", "\"2\""]);
        check(r#"{"\u006b":"1"}"#, "/k", &["\"1\""]);
        check("{}", "/k", &[]);
        check("[]", "/0", &[]);
    }

    #[test]
    fn what_is_not_json_has_none() {
        for text in [
            "",
            "{",
            r#"{"k":"1""#,
            r#"{"k":"1"} x"#,
            r#"{"k" "1"}"#,
            r#"{"k":"1\"#,
            r#"{"k":"1",}"#,
            r#"{k:"1"}"#,
        ] {
            check(text, "/k", &[]);
        }
        let deep = "[".repeat(100_000);
        check(&deep, "/0", &[]);
    }
}
