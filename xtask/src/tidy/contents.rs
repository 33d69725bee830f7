//! `lib.rs` is a room's table of contents: short, and with few public names.

use super::Finding;
use super::code::code_only;
use super::tree::{File, Tree};

pub(super) const NAME: &str = "contents";
const LINES_MAX: usize = 99;
const NAMES_MAX: usize = 15;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let contents = |file: &&File| file.path.ends_with("/src/lib.rs");
    tree.rust().filter(contents).flat_map(look).collect()
}

fn look(file: &File) -> Vec<Finding> {
    let finding = |text: String| Finding {
        path: file.path.clone(),
        line: 0,
        rule: NAME,
        text,
    };
    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        findings.push(finding(format!("{lines} lines, at most {LINES_MAX}")));
    }
    let names = public_names(&code_only(file.without_tests()));
    if names > NAMES_MAX {
        findings.push(finding(format!(
            "{names} public names, at most {NAMES_MAX}"
        )));
    }
    findings
}

/// How many names the code makes public, a glob counting as more than any bound.
fn public_names(code: &str) -> usize {
    let mut names = 0;
    for item in code.split([';', '}']) {
        let Some((_, item)) = item.split_once("pub ") else {
            continue;
        };
        if !item.trim_start().starts_with("use ") {
            names += 1;
        } else if item.contains('*') {
            names += NAMES_MAX + 1;
        } else {
            let listed = item.split_once('{').map_or("one", |(_, listed)| listed);
            names += listed
                .split(',')
                .filter(|name| !name.trim().is_empty())
                .count();
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(code: &str, wanted: usize) {
        assert_eq!(public_names(code), wanted, "{code}");
    }

    #[test]
    fn names_are_counted() {
        names("mod a;\npub use a::B;\npub mod c;", 2);
        names(
            "pub use a::{\n    B, C,\n    D,\n};\npub const E: u8 = 1;",
            4,
        );
        names("pub fn f() {}\npub(crate) fn g() {}", 1);
        assert!(public_names("pub use a::*;") > NAMES_MAX);
    }

    #[test]
    fn a_long_one_is_found() {
        let long = "//! x\n".repeat(100);
        let wide = "pub mod a;\n".repeat(16);
        for text in [&long, &wide] {
            let tree = Tree::of(&[("crates/a/src/lib.rs", text)]);
            assert_eq!(check(&tree).len(), 1, "{text}");
        }
        let tree = Tree::of(&[("crates/a/src/lib.rs", "//! x\npub mod a;\n")]);
        assert!(check(&tree).is_empty());
    }
}
