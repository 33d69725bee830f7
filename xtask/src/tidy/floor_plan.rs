//! Who may depend on whom: a crate names only crates on lower floors, siblings do not see each other.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::Tree;

pub(super) const NAME: &str = "floor_plan";
/// Crates on the longest way down.
const CHAIN_MAX: usize = 5;

/// Each package with its folder and the packages of ours that it may name.
const PLAN: &[(&str, &str, &[&str])] = &[
    ("belljar-base", "crates/base", &[]),
    ("belljar-guest", "crates/guest", &["belljar-base"]),
    ("belljar-vmm", "crates/vmm", &["belljar-base"]),
    ("belljar-policy", "crates/policy", &["belljar-base"]),
    ("belljar-ledger", "crates/ledger", &["belljar-base"]),
    ("belljar-sandbox", "crates/sandbox", &["belljar-base"]),
    ("belljar-branch", "crates/branch", &["belljar-base"]),
    (
        "belljar-gate",
        "crates/gate",
        &["belljar-base", "belljar-policy", "belljar-ledger"],
    ),
    (
        "belljar-server",
        "crates/server",
        &[
            "belljar-base",
            "belljar-policy",
            "belljar-ledger",
            "belljar-sandbox",
            "belljar-branch",
            "belljar-gate",
        ],
    ),
    (
        "belljar",
        "crates/cli",
        &[
            "belljar-base",
            "belljar-policy",
            "belljar-ledger",
            "belljar-sandbox",
            "belljar-branch",
            "belljar-gate",
            "belljar-server",
        ],
    ),
    ("xtask", "xtask", &[]),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let ours: Vec<_> = tree.metadata.ours().collect();
    for package in &ours {
        let name = package.name.as_str();
        let Some((_, folder, allowed)) = PLAN.iter().find(|(planned, ..)| *planned == name) else {
            findings.push(finding(
                "Cargo.toml",
                format!("`{name}` is not on the plan"),
            ));
            continue;
        };
        let manifest = format!("{folder}/Cargo.toml");
        if !package.manifest_path.ends_with(&format!("/{manifest}")) {
            let text = format!("`{name}` belongs in `{folder}`");
            findings.push(finding(&manifest, text));
        }
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            if !ours.iter().any(|package| package.name == other) || other == name {
                continue;
            }
            if !allowed.contains(&other) {
                let text = format!("`{name}` may not depend on `{other}`");
                findings.push(finding(&manifest, text));
            }
            if dependency.kind.as_deref() != Some("dev") {
                edges.entry(name).or_default().push(other);
            }
        }
    }
    for name in edges.keys() {
        let length = chain(&edges, name, 1);
        if length > CHAIN_MAX {
            let text = format!("`{name}` stands on a chain of {length}, at most {CHAIN_MAX}");
            findings.push(finding("Cargo.toml", text));
        }
    }
    findings
}

/// Crates on the longest way down from `name`; `depth` stops a circle.
fn chain(edges: &BTreeMap<&str, Vec<&str>>, name: &str, depth: usize) -> usize {
    if depth > PLAN.len() {
        return 1;
    }
    let below = edges.get(name).map(Vec::as_slice).unwrap_or_default();
    let longest = below.iter().map(|next| chain(edges, next, depth + 1)).max();
    1 + longest.unwrap_or(0)
}

fn finding(path: &str, text: String) -> Finding {
    Finding {
        path: path.to_owned(),
        line: 0,
        rule: NAME,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Dependency, Metadata, Package};

    fn tree(packages: &[(&str, &str, &[&str])]) -> Tree {
        let packages = packages.iter().map(|(name, folder, needs)| Package {
            name: (*name).to_owned(),
            manifest_path: format!("/x/{folder}/Cargo.toml"),
            dependencies: needs
                .iter()
                .map(|need| Dependency {
                    name: (*need).to_owned(),
                    kind: None,
                })
                .collect(),
            ..Package::default()
        });
        let mut tree = Tree::of(&[]);
        tree.metadata = Metadata {
            packages: packages.collect(),
        };
        tree
    }

    fn texts(packages: &[(&str, &str, &[&str])]) -> Vec<String> {
        let findings = check(&tree(packages));
        findings.into_iter().map(|finding| finding.text).collect()
    }

    const BASE: (&str, &str, &[&str]) = ("belljar-base", "crates/base", &["serde"]);

    #[test]
    fn the_plan_holds() {
        let ledger: (&str, &str, &[&str]) = ("belljar-ledger", "crates/ledger", &["belljar-base"]);
        assert!(texts(&[BASE, ledger]).is_empty());
    }

    #[test]
    fn siblings_strangers_and_moved_crates_are_found() {
        let policy: (&str, &str, &[&str]) = ("belljar-policy", "crates/policy", &[]);
        let ledger: (&str, &str, &[&str]) = ("belljar-ledger", "ledger", &["belljar-policy"]);
        assert_eq!(
            texts(&[BASE, policy, ledger, ("belljar-extra", "x", &[])]),
            [
                "`belljar-ledger` belongs in `crates/ledger`",
                "`belljar-ledger` may not depend on `belljar-policy`",
                "`belljar-extra` is not on the plan",
            ]
        );
    }

    #[test]
    fn a_long_chain_is_measured() {
        let edges = BTreeMap::from([("a", vec!["b", "c"]), ("b", vec!["c"])]);
        assert_eq!(chain(&edges, "a", 1), 3);
        let circle = BTreeMap::from([("a", vec!["a"])]);
        assert!(chain(&circle, "a", 1) > CHAIN_MAX);
    }
}
