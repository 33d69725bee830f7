//! Every threat in `docs/threats.md` names a test that exists, and every escape test is named by a
//! threat: a wall without a proof and a proof without a wall are both findings.

use std::collections::BTreeSet;

use super::tree::{File, Tree};
use super::{Finding, backticked, markdown};

pub(super) const NAME: &str = "threats";
const DOCUMENT: &str = "docs/threats.md";
const PREFIX: &str = "escape_";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.file(DOCUMENT) else {
        return vec![finding(DOCUMENT, 0, "does not exist".to_owned())];
    };
    let tests: BTreeSet<String> = tree
        .rust()
        .flat_map(File::tests)
        .map(|(_, name)| name)
        .collect();
    let mut findings = Vec::new();
    let mut named = BTreeSet::new();
    for row in markdown::rows(&document.text) {
        let mut any = false;
        for test in backticked(row.last()) {
            any = true;
            named.insert(test.to_owned());
            if !tests.contains(test) {
                let text = format!("no test is called `{test}`");
                findings.push(finding(DOCUMENT, row.line, text));
            }
        }
        if !any {
            let text = format!("`{}` names no test", row.cell(0));
            findings.push(finding(DOCUMENT, row.line, text));
        }
    }
    for file in tree.rust() {
        for (line, test) in file.tests() {
            if test.starts_with(PREFIX) && !named.contains(&test) {
                let text = format!("`{test}` is named by no row of `{DOCUMENT}`");
                findings.push(finding(&file.path, line, text));
            }
        }
        let names_any = || file.tests().iter().any(|(_, test)| named.contains(test));
        if is_escape_file(&file.path) && !file.tests().is_empty() && !names_any() {
            let text = format!("none of its tests is named by `{DOCUMENT}`");
            findings.push(finding(&file.path, 0, text));
        }
    }
    findings
}

/// Whether a file holds escape tests by where it lies.
fn is_escape_file(path: &str) -> bool {
    let mut parts = path.split('/').skip_while(|part| *part != "tests");
    parts.any(|part| part.starts_with("escape"))
}

fn finding(path: &str, line: usize, text: String) -> Finding {
    Finding {
        path: path.to_owned(),
        line,
        rule: NAME,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str = "//! x\n#[test]\nfn escape_a() {}\n";
    const PLACE: &str = "crates/cli/tests/it/escape_proc.rs";

    fn texts(rows: &str, tests: &str) -> Vec<String> {
        let document = format!("| attack | wall | test |\n| - | - | - |\n{rows}");
        let tree = Tree::of(&[(DOCUMENT, &document), (PLACE, tests)]);
        let findings = check(&tree);
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn threats_and_tests_meet() {
        assert!(texts("| a | w | `escape_a` |\n", TESTS).is_empty());
        assert_eq!(
            texts("| a | w | `escape_a`, `escape_b` |\n| c | w | |\n", TESTS),
            ["no test is called `escape_b`", "`c` names no test"]
        );
        assert_eq!(
            texts("", TESTS),
            [
                "`escape_a` is named by no row of `docs/threats.md`",
                "none of its tests is named by `docs/threats.md`",
            ]
        );
        let stray = "//! x\n#[test]\nfn other() {}\n";
        assert_eq!(texts("", stray).len(), 1);
    }

    #[test]
    fn the_document_must_exist() {
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }
}
