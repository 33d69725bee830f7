//! The pure rooms do no IO, read no clock and draw no chance: by their sources and by what they
//! depend on.

use super::Finding;
use super::code::code_only;
use super::has_word;
use super::tree::{File, Tree};

pub(super) const NAME: &str = "purity";

/// The pure rooms, each with every foreign package it may depend on outside of its tests.
const ROOMS: &[(&str, &str, &[&str])] = &[
    (
        "belljar-base",
        "crates/base/",
        &["postcard", "serde", "thiserror"],
    ),
    (
        "belljar-policy",
        "crates/policy/",
        &[
            "belljar-base",
            "idna",
            "ipnet",
            "psl",
            "serde",
            "serde_json",
            "strsim",
            "thiserror",
            "toml",
        ],
    ),
];
/// Modules of the standard library that touch the world.
const MODULES: &[&str] = &["fs", "net", "process", "env", "io", "os", "thread"];
/// Names that read a clock or draw chance.
const NAMES: &[&str] = &["SystemTime", "Instant", "RandomState", "getrandom", "rand"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (package, folder, allowed) in ROOMS {
        let sources = format!("{folder}src/");
        for file in tree.rust().filter(|file| file.path.starts_with(&sources)) {
            findings.extend(look(file));
        }
        let dependencies = tree
            .metadata
            .ours()
            .filter(|ours| ours.name == *package)
            .flat_map(|ours| &ours.dependencies)
            .filter(|needs| needs.kind.as_deref() != Some("dev"))
            .filter(|needs| !allowed.contains(&needs.name.as_str()));
        for dependency in dependencies {
            findings.push(Finding {
                path: format!("{folder}Cargo.toml"),
                line: 0,
                rule: NAME,
                text: format!(
                    "`{package}` is pure and may not depend on `{}`",
                    dependency.name
                ),
            });
        }
    }
    findings
}

fn look(file: &File) -> Vec<Finding> {
    let code = code_only(file.without_tests());
    let mut findings = Vec::new();
    let mut found = |line: usize, what: &str| {
        findings.push(Finding {
            path: file.path.clone(),
            line,
            rule: NAME,
            text: format!("`{what}` in a pure room; hand it in from above"),
        });
    };
    for (line, text) in (1..).zip(code.lines()) {
        for name in NAMES.iter().filter(|name| has_word(text, name)) {
            found(line, name);
        }
    }
    for (at, _) in code.match_indices("std::") {
        let (before, rest) = code.split_at_checked(at).unwrap_or((&code, ""));
        let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
        for module in modules(rest.trim_start_matches("std::")) {
            if MODULES.contains(&module) {
                found(line, &format!("std::{module}"));
            }
        }
    }
    findings
}

/// The modules named after `std::`: one, or the outermost of a list in braces.
fn modules(rest: &str) -> Vec<&str> {
    let Some(list) = rest.strip_prefix('{') else {
        return vec![first_word(rest)];
    };
    let mut depth = 0_usize;
    let mut names = vec![first_word(list)];
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(first_word(list.get(at + 1..).unwrap_or_default())),
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Dependency, Package};

    fn check_source(text: &str, wanted: &[(usize, &str)]) {
        let tree = Tree::of(&[("crates/policy/src/decide.rs", text)]);
        let found: Vec<_> = check(&tree)
            .into_iter()
            .map(|finding| (finding.line, finding.text))
            .collect();
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(line, what)| {
                let text = format!("`{what}` in a pure room; hand it in from above");
                (*line, text)
            })
            .collect();
        assert_eq!(found, wanted, "{text}");
    }

    #[test]
    fn the_world_is_found_in_every_spelling() {
        check_source("//! std::fs\nuse std::fmt;\n", &[]);
        check_source("//! x\nuse std::fs;\n", &[(2, "std::fs")]);
        check_source(
            "//! x\n\nuse std::{collections::{BTreeMap, HashSet}, env, fmt};\n",
            &[(3, "std::env")],
        );
        check_source("fn f() { std::process::exit(1) }\n", &[(1, "std::process")]);
        check_source("//! x\nuse std::time::Instant;\n", &[(2, "Instant")]);
        check_source("//! x\n#[cfg(test)]\nmod tests { use std::fs; }\n", &[]);
    }

    #[test]
    fn other_rooms_are_free() {
        let tree = Tree::of(&[("crates/ledger/src/store.rs", "use std::fs;\n")]);
        assert!(check(&tree).is_empty());
    }

    #[test]
    fn a_new_dependency_is_found() {
        let mut tree = Tree::of(&[]);
        let needs = |name: &str, kind: Option<&str>| Dependency {
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
        };
        tree.metadata.packages.push(Package {
            name: "belljar-policy".to_owned(),
            dependencies: vec![
                needs("serde", None),
                needs("proptest", Some("dev")),
                needs("rustix", None),
            ],
            ..Package::default()
        });
        let findings = check(&tree);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].text.contains("`rustix`"));
    }
}
