//! Source files stay readable: fewer than 500 lines without their tests. (Functions: clippy.)

use super::Finding;
use super::tree::Tree;

pub(super) const NAME: &str = "length";
const LINES_MAX: usize = 499;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| !file.is_test())
        .map(|file| (file, file.without_tests().lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| Finding {
            path: file.path.clone(),
            line: 0,
            rule: NAME,
            text: format!("{lines} lines without tests, at most {LINES_MAX}; divide it"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_but_tests_are_free() {
        let long = "x\n".repeat(500);
        let tested = format!("x\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let tree = Tree::of(&[
            ("crates/a/src/long.rs", &long),
            ("crates/a/src/tested.rs", &tested),
            ("crates/a/tests/it/main.rs", &long),
        ]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, "crates/a/src/long.rs");
    }
}
