//! Every source file begins by saying what it is.

use super::Finding;
use super::tree::Tree;

pub(super) const NAME: &str = "heads";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| Finding {
            path: file.path.clone(),
            line: 1,
            rule: NAME,
            text: "begins without `//!` and a sentence on what it is".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_head_is_found() {
        let tree = Tree::of(&[("a.rs", "//! Says.\n"), ("b.rs", "use a;\n//! Late.\n")]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, "b.rs");
    }
}
