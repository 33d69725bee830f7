//! The rules that a compiler does not know, one file each.
//!
//! A rule looks at the tree of files, never at its history, and returns findings. An exception
//! stands in `xtask/exceptions.toml` with its reason; one that excuses nothing is itself a finding.

mod floor_plan; // who may depend on whom
mod contents; // `lib.rs` is a short table of contents
mod heads; // every file says what it is
mod length; // files stay readable
mod unsafe_place; // unsafe lives in `sys.rs`
mod purity; // the pure rooms do no IO, read no clock, draw no chance
mod threats; // every threat has its test, every escape test its threat
mod numbers; // every promised number has its measurement
mod invariants; // every stated invariant names a check that exists
mod glossary; // one word per concept
mod places; // no path of a machine, no unknown host
mod unfinished; // nothing unfinished, nothing ignored
mod code; // a source text without comments and literals
mod markdown; // the tables of a document
mod tree; // the files the rules look at
mod exceptions; // the list of excuses

use crate::shell::{Failure, root, say};
use tree::Tree;

/// Something a rule does not accept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Where: a path from the repository's root.
    path: String,
    /// The line, from 1; 0 when it is about the whole file.
    line: usize,
    /// The rule.
    rule: &'static str,
    /// What is wrong and what to do.
    text: String,
}

/// A rule: its name and what it finds in a tree.
type Rule = (&'static str, fn(&Tree) -> Vec<Finding>);

const RULES: &[Rule] = &[
    (floor_plan::NAME, floor_plan::check),
    (contents::NAME, contents::check),
    (heads::NAME, heads::check),
    (length::NAME, length::check),
    (unsafe_place::NAME, unsafe_place::check),
    (purity::NAME, purity::check),
    (threats::NAME, threats::check),
    (numbers::NAME, numbers::check),
    (invariants::NAME, invariants::check),
    (glossary::NAME, glossary::check),
    (places::NAME, places::check),
    (unfinished::NAME, unfinished::check),
];

/// Checks the repository.
///
/// # Errors
/// When a rule finds something; every finding is said first.
pub(crate) fn run() -> Result<(), Failure> {
    let tree = Tree::load(&root())?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|(_, check)| check(&tree)).collect();
    findings = exceptions::apply(&tree, findings);
    findings.sort();
    for finding in &findings {
        let Finding {
            path,
            line,
            rule,
            text,
        } = finding;
        say(format!("{path}:{line}: {rule}: {text}"));
    }
    let (rules, files) = (RULES.len(), tree.files.len());
    if findings.is_empty() {
        say(format!("tidy: {rules} rules hold in {files} files"));
        return Ok(());
    }
    Err(Failure::new(format!("tidy: {} findings", findings.len())))
}

/// Whether `word` stands in `line` as a word of its own.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, found)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line
            .get(at + found.len()..)
            .and_then(|text| text.chars().next());
        let bounds = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        bounds(before) && bounds(after)
    })
}

/// The names in backticks of a text.
fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_edges() {
        assert!(has_word("the side-door of", "side-door"));
        assert!(has_word("hatch", "hatch") && has_word("a_hatch(", "hatch"));
        assert!(!has_word("hatched", "hatch") && !has_word("thatch", "hatch"));
        assert_eq!(backticked("a `b` c `d`").collect::<Vec<_>>(), ["b", "d"]);
    }

    #[test]
    fn every_rule_has_its_own_name() {
        let mut names: Vec<_> = RULES.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
    }
}
