//! A source text without its comments and literals, so that a rule about code does not trip over
//! words. Lines stay where they are.

/// `text` with every comment, string and character blanked.
pub(super) fn code_only(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut rest = characters.as_slice();
    while let [first, others @ ..] = rest {
        let length = hidden(rest);
        if length == 0 {
            code.push(*first);
            rest = others;
            continue;
        }
        let (blanked, others) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        code.extend(blanked.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        rest = others;
    }
    code
}

/// How many characters from here belong to a comment or a literal.
fn hidden(rest: &[char]) -> usize {
    match rest {
        ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
        ['/', '*', ..] => block(rest),
        ['"', ..] => quoted(rest),
        ['r', '"' | '#', ..] => raw(rest),
        ['\'', '\\', _, tail @ ..] => 4 + tail.iter().take_while(|c| **c != '\'').count(),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn block(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(tail) = rest.get(at..) {
        match tail {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth.saturating_sub(1), at + 2),
            [_, ..] => at += 1,
            [] => break,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[char]) -> usize {
    let mut at = 1;
    while let Some(c) = rest.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw(rest: &[char]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0; // a raw identifier
    }
    let body = 2 + hashes;
    let mut closing = vec!['"'];
    closing.resize(1 + hashes, '#');
    let tail = rest.get(body..).unwrap_or_default();
    tail.windows(closing.len())
        .position(|window| window == closing)
        .map_or(rest.len(), |at| body + at + closing.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: &str) {
        let code = code_only(text);
        assert_eq!(code.lines().count(), text.lines().count(), "{text}");
        let words: Vec<_> = code.split_whitespace().collect();
        assert_eq!(words.join(" "), wanted, "{text}");
    }

    #[test]
    fn only_code_is_left() {
        check("a // unsafe\nb", "a b");
        check("a /* x /* y\n */ z */ b", "a b");
        check(r#"a "unsafe \" x" b"#, "a b");
        check("a r#\"un\"safe\n\"# b r#type", "a b r#type");
        check(r"a '\'' b '\u{1}' c 'x' d", "a b c d");
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check("b\"bytes\" c", "b c");
        check("\"never closed", "");
    }
}
