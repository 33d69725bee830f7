//! Every number in `docs/specification.md` names the measurement that prints it, promises what the
//! measurement judges by, and every measurement has its row.

use std::collections::BTreeSet;

use super::tree::Tree;
use super::{Finding, backticked, markdown};
use crate::bench::PROMISES;

pub(super) const NAME: &str = "numbers";
const DOCUMENT: &str = "docs/specification.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.file(DOCUMENT) else {
        return vec![finding(0, "does not exist".to_owned())];
    };
    let mut findings = Vec::new();
    let mut named = BTreeSet::new();
    for row in markdown::rows(&document.text) {
        let id = backticked(row.last()).next().unwrap_or_default();
        let Some(promise) = PROMISES.iter().find(|promise| promise.id == id) else {
            let text = format!(
                "`{}` names no measurement of `cargo xtask bench`",
                row.cell(0)
            );
            findings.push(finding(row.line, text));
            continue;
        };
        named.insert(promise.id);
        let bounds = [promise.at_least(), promise.aim()];
        for (cell, bound) in [row.cell(1), row.cell(2)].into_iter().zip(bounds) {
            if cell != bound {
                let text = format!("says `{cell}` where `{id}` is judged by `{bound}`");
                findings.push(finding(row.line, text));
            }
        }
    }
    for promise in PROMISES.iter().filter(|p| !named.contains(p.id)) {
        findings.push(finding(0, format!("`{}` has no row", promise.id)));
    }
    for (line, text) in (1..).zip(document.text.lines()) {
        let is_prose = !text.starts_with(['|', '#']);
        let has_id = || backticked(text).any(|id| PROMISES.iter().any(|p| p.id == id));
        if is_prose && text.contains(|c: char| c.is_ascii_digit()) && !has_id() {
            let text = "a number outside of the tables names no measurement".to_owned();
            findings.push(finding(line, text));
        }
    }
    findings
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

    fn texts(document: &str) -> Vec<String> {
        let findings = check(&Tree::of(&[(DOCUMENT, document)]));
        findings.into_iter().map(|finding| finding.text).collect()
    }

    fn whole() -> String {
        let mut document =
            "| what | at least | aim | last | by |\n| - | - | - | - | - |\n".to_owned();
        for promise in PROMISES {
            let (what, least, aim, id) =
                (promise.what, promise.at_least(), promise.aim(), promise.id);
            document.push_str(&format!(
                "| {what} | {least} | {aim} | not yet measured | `{id}` |\n"
            ));
        }
        document
    }

    #[test]
    fn a_document_with_every_row_holds() {
        assert!(texts(&whole()).is_empty(), "{:?}", texts(&whole()));
    }

    #[test]
    fn a_bare_number_a_lie_and_a_gap_are_found() {
        let bare = whole() + "\nIt takes 3 ms.\n";
        assert_eq!(texts(&bare).len(), 1);
        let unknown = whole() + "| x | 1 | 1 | 1 | `nothing` |\n";
        assert_eq!(texts(&unknown).len(), 1);
        let lie = whole().replacen("≤ ", "≤ 9", 1);
        assert_eq!(texts(&lie).len(), 1);
        assert_eq!(texts("").len(), PROMISES.len());
    }
}
