//! Licences, sources and duplicates of what is linked, by the lists in `deny.toml`.
//!
//! Our own check over `cargo metadata` always runs, so that it is never silently skipped; where
//! `cargo deny` is installed it judges by the same lists once more.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::metadata::Metadata;
use crate::shell::{Failure, has, program, root, run as start, say};

/// What every foreign source ends with: the index that cargo uses by itself.
const INDEX: &str = "/crates.io-index";

/// The part of `deny.toml` that both checks read.
#[derive(Debug, Deserialize)]
struct Lists {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    #[serde(default)]
    skip: Vec<Skip>,
}

#[derive(Debug, Deserialize)]
struct Skip {
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

/// Checks the packages of the lock file.
///
/// # Errors
/// When a licence, a source or a duplicate is not on the lists, or an entry of the lists is stale.
pub(crate) fn run() -> Result<(), Failure> {
    let text = std::fs::read_to_string(root().join("deny.toml"))
        .map_err(|error| Failure::new(format!("cannot read `deny.toml`: {error}")))?;
    let lists: Lists = toml::from_str(&text)
        .map_err(|error| Failure::new(format!("`deny.toml` does not parse: {error}")))?;
    let metadata = Metadata::load()?;
    let found = check(&lists, &metadata);
    found.iter().for_each(say);
    if !found.is_empty() {
        return Err(Failure::new(format!(
            "dependencies: {} findings",
            found.len()
        )));
    }
    let foreign = metadata.packages.len() - metadata.ours().count();
    say(format!(
        "dependencies: {foreign} packages by the lists of `deny.toml`"
    ));
    if has("cargo-deny") {
        let arguments = ["deny", "--offline", "check", "bans", "licenses", "sources"];
        return start(&mut program("cargo", &arguments));
    }
    say("`cargo deny` is not installed: our own check alone (no advisories)");
    Ok(())
}

fn check(lists: &Lists, metadata: &Metadata) -> Vec<String> {
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for package in &metadata.packages {
        let name = format!("`{}` {}", package.name, package.version);
        versions
            .entry(&package.name)
            .or_default()
            .insert(&package.version);
        let Some(source) = &package.source else {
            continue;
        };
        if !(source.starts_with("registry+") && source.ends_with(INDEX)) {
            found.push(format!("{name} comes from elsewhere: `{source}`"));
        }
        let license = package.license.as_deref().unwrap_or_default();
        match allowed(license, &lists.licenses.allow) {
            Some(by) => used.extend(by),
            None => found.push(format!(
                "{name} has a licence that is not listed: `{license}`"
            )),
        }
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        if !lists.bans.skip.iter().any(|skip| skip.package == *name) {
            let list: Vec<_> = versions.iter().copied().collect();
            found.push(format!(
                "`{name}` is linked more than once: {}",
                list.join(", ")
            ));
        }
    }
    for skip in &lists.bans.skip {
        let doubled = |set: &BTreeSet<_>| set.len() > 1;
        if !versions.get(skip.package.as_str()).is_some_and(doubled) {
            found.push(format!(
                "`{}` is excused as a duplicate and is none",
                skip.package
            ));
        }
        if skip.reason.is_empty() {
            found.push(format!("`{}` is excused without a reason", skip.package));
        }
    }
    let stale = lists
        .licenses
        .allow
        .iter()
        .filter(|one| !used.contains(*one));
    found.extend(stale.map(|license| format!("`{license}` is allowed and nothing has it")));
    found
}

/// The listed licences that satisfy an SPDX expression, or nothing. Reads `OR`, `AND`, `WITH` and
/// one pair of brackets around each alternative, which is all that packages write.
fn allowed(expression: &str, list: &[String]) -> Option<Vec<String>> {
    if expression.is_empty() {
        return None;
    }
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // `A AND (B OR C)` reads as `A AND B OR C`: each part of an `AND` is an `OR` of its own there.
    let (outer, inner) = if expression.contains(") AND") || expression.contains("AND (") {
        (" AND ", " OR ")
    } else {
        (" OR ", " AND ")
    };
    let one = |id: &str| list.iter().find(|known| *known == id.trim()).cloned();
    let parts = plain.split(outer);
    if outer == " AND " {
        parts.map(|any| any.split(inner).find_map(one)).collect()
    } else {
        parts
            .map(|all| all.split(inner).map(one).collect::<Option<Vec<_>>>())
            .find_map(|found| found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    fn lists(text: &str) -> Lists {
        toml::from_str(text).unwrap()
    }

    fn package(name: &str, version: &str, license: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some(license.to_owned()),
            source: Some(format!("registry+x{INDEX}")),
            ..Package::default()
        }
    }

    #[test]
    fn expressions_are_read() {
        let list = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        let check = |text, wanted: bool| {
            assert_eq!(allowed(text, &list).is_some(), wanted, "{text}");
        };
        check("MIT", true);
        check("MIT OR GPL-3.0", true);
        check("MIT/GPL-3.0", true);
        check("MIT AND GPL-3.0", false);
        check("(MIT OR GPL-3.0) AND Unicode-3.0", true);
        check("(GPL-3.0 OR LGPL-3.0) AND Unicode-3.0", false);
        check("MIT AND Apache-2.0 OR GPL-3.0", true);
        check("Apache-2.0 WITH LLVM-exception", false);
        check("", false);
    }

    #[test]
    fn each_breach_is_found() {
        let lists = lists(
            "[licenses]\nallow = [\"MIT\", \"ISC\"]\n[bans]\nskip = [{ crate = \"x\", reason = \"\" }]",
        );
        let mut stranger = package("stranger", "1.0.0", "MIT");
        stranger.source = Some("git+somewhere".to_owned());
        let metadata = Metadata {
            packages: vec![
                package("a", "1.0.0", "MIT"),
                package("a", "2.0.0", "MIT"),
                package("b", "1.0.0", "GPL-3.0"),
                stranger,
            ],
        };
        assert_eq!(
            check(&lists, &metadata),
            [
                "`b` 1.0.0 has a licence that is not listed: `GPL-3.0`",
                "`stranger` 1.0.0 comes from elsewhere: `git+somewhere`",
                "`a` is linked more than once: 1.0.0, 2.0.0",
                "`x` is excused as a duplicate and is none",
                "`x` is excused without a reason",
                "`ISC` is allowed and nothing has it",
            ]
        );
    }
}
