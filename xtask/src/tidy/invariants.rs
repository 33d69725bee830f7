//! Every invariant that `ARCHITECTURE.md` states names a check that exists: a rule of ours, a lint
//! that the workspace turns on, or a test.

use super::tree::{File, Tree};
use super::{Finding, RULES, backticked, markdown};

pub(super) const NAME: &str = "invariants";
const DOCUMENT: &str = "ARCHITECTURE.md";
/// Rows of the table of invariants have this many cells: the invariant, and what holds it.
const CELLS: usize = 2;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.file(DOCUMENT) else {
        return vec![finding(0, "does not exist".to_owned())];
    };
    let (_, section) = document
        .text
        .split_once("## Invariants")
        .unwrap_or(("", ""));
    let before = document.text.lines().count() - section.lines().count();
    let mut findings = Vec::new();
    let rows = markdown::rows(section);
    if rows.is_empty() {
        findings.push(finding(0, "states no invariants".to_owned()));
    }
    for row in rows {
        let line = before + row.line;
        let names: Vec<&str> = backticked(row.last()).collect();
        if names.is_empty() || row.cells.len() != CELLS {
            let text = format!("`{}` names no check", row.cell(0));
            findings.push(finding(line, text));
        }
        for name in names.iter().filter(|name| !exists(tree, name)) {
            findings.push(finding(line, format!("no check is called `{name}`")));
        }
    }
    findings
}

fn exists(tree: &Tree, name: &str) -> bool {
    let is_lint = || {
        let head = format!("{name} = ");
        let manifest = tree.file("Cargo.toml").map_or("", |file| &file.text);
        manifest.lines().any(|line| line.starts_with(&head))
    };
    let is_test = || {
        tree.rust()
            .flat_map(File::tests)
            .any(|(_, test)| test == name)
    };
    RULES.iter().any(|(rule, _)| *rule == name) || is_lint() || is_test()
}

fn finding(line: usize, text: String) -> Finding {
    Finding {
        path: DOCUMENT.to_owned(),
        line,
        rule: NAME,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(rows: &str) -> Vec<String> {
        let document = format!("# A\n## Invariants\n| i | held by |\n| - | - |\n{rows}");
        let tree = Tree::of(&[
            (DOCUMENT, &document),
            ("Cargo.toml", "unsafe_code = \"deny\"\n"),
            ("a.rs", "#[test]\nfn holds() {}\n"),
        ]);
        let findings = check(&tree);
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn checks_must_exist() {
        assert!(texts("| i | `purity`, `unsafe_code`, `holds` |\n").is_empty());
        assert_eq!(texts("| i | `hope` |\n"), ["no check is called `hope`"]);
        assert_eq!(texts("| i | review |\n"), ["`i` names no check"]);
        assert_eq!(texts(""), ["states no invariants"]);
    }
}
