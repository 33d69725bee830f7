//! Nothing unfinished, nothing left over from a search for a mistake, no test that is not run.

use super::code::code_only;
use super::tree::Tree;
use super::{Finding, has_word};

pub(super) const NAME: &str = "unfinished";

/// Words found anywhere, comments and documents included. (Divided, or they would find this file.)
const WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK:"),
];
/// What is found in code only.
const CODE: &[&str] = &[
    concat!("to", "do!("),
    concat!("db", "g!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let mut found = |line, what: &str| {
            findings.push(Finding {
                path: file.path.clone(),
                line,
                rule: NAME,
                text: format!("`{what}` is for unfinished work"),
            });
        };
        for (line, text) in (1..).zip(file.text.lines()) {
            // A mark is written in capitals; `has_word` does not mind the case, a mark does.
            let marks = WORDS.iter().filter(|word| text.contains(**word));
            marks
                .filter(|word| has_word(text, word))
                .for_each(|word| found(line, word));
        }
        if file.path.ends_with(".rs") {
            for (line, text) in (1..).zip(code_only(&file.text).lines()) {
                let left = CODE.iter().filter(|what| text.contains(**what));
                left.for_each(|what| found(line, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_left_overs_are_found() {
        let (mark, look, skip) = (WORDS[0], CODE[1], CODE[3]);
        let text = format!("//! x\n// {mark} later\nfn f() {{ {look}1) }}\n{skip}]\n");
        let quoted = format!("//! x\nconst A: &str = \"{look}1)\";\n");
        let tree = Tree::of(&[
            ("a.rs", &text),
            ("b.rs", &quoted),
            ("c.md", "a todo list\n"),
        ]);
        let lines: Vec<_> = check(&tree).into_iter().map(|f| f.line).collect();
        assert_eq!(lines, [2, 3, 4]);
    }
}
