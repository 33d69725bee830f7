//! No path of a machine and no host that is not on the list: the repository reads the same wherever
//! it lies, and nothing in it sends a reader or a program to a place nobody looked at.

use super::tree::Tree;
use super::{Finding, tree};

pub(super) const NAME: &str = "places";

/// Hosts that a document may point to: standards, licences, and names that lead nowhere.
const HOSTS: &[&str] = &[
    "www.apache.org",
    "c2sp.org",
    "docs.kernel.org",
    "man7.org",
    "sqlite.org",
    "www.sqlite.org",
    "www.rfc-editor.org",
    "spdx.org",
    "keepachangelog.com",
    "semver.org",
    "json-schema.org",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .flat_map(|file| look(file, &tree.place))
        .collect()
}

fn look(file: &tree::File, place: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in (1..).zip(file.text.lines()) {
        let mut found = |what: String| {
            findings.push(Finding {
                path: file.path.clone(),
                line,
                rule: NAME,
                text: what,
            });
        };
        // A checkout at `/x` would find its own path in every sentence about `/x`.
        if place.matches('/').count() > 1 && text.contains(place) {
            found(format!("`{place}` is a path of this machine"));
        }
        for host in hosts(text).filter(|host| !leads_nowhere(host)) {
            found(format!("the host `{host}` is not on the list of hosts"));
        }
    }
    findings
}

/// Hosts of the registries that package managers ask, for the test that they do so by the gate.
const REGISTRIES: &[&str] = &["deb.debian.org", "index.crates.io"];
/// Names that are reserved for examples and tests, with everything below them.
const RESERVED: &[&str] = &["example", "invalid", "test", "example.com", "example.org"];

/// Whether a host is on the list, a word without a dot, a reserved name or an address.
fn leads_nowhere(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let known = |list: &[&str]| list.contains(&host.as_str());
    let reserved = |name: &&str| {
        let above = host
            .strip_suffix(*name)
            .and_then(|rest| rest.strip_suffix('.'));
        host == **name || above.is_some()
    };
    let number = |label: &str| label.starts_with("0x") || label.bytes().all(|b| b.is_ascii_digit());
    known(HOSTS)
        || known(REGISTRIES)
        || !host.contains('.')
        || RESERVED.iter().any(reserved)
        || host.split('.').next_back().is_some_and(number)
}

/// The hosts of the addresses in a line.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    let parts = line.split("://").zip(line.split("://").skip(1));
    parts
        .filter(|(before, _)| before.ends_with("http") || before.ends_with("https"))
        .filter_map(|(_, after)| {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-');
            after.get(..end.unwrap_or(after.len()))
        })
        .map(|host: &str| host.trim_end_matches('.'))
        .filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_hosts_are_found() {
        let scheme = "https:";
        let text = format!(
            "in /machine/checkout/target\nsee {scheme}//c2sp.org/tlog-tiles and \
             {scheme}//mirror.example.net/x.\nfile:///etc is not a host, nor is {scheme}//{{host}}\n"
        );
        let texts: Vec<_> = check(&Tree::of(&[("a.md", &text)]))
            .into_iter()
            .map(|finding| (finding.line, finding.text))
            .collect();
        assert_eq!(
            texts,
            [
                (
                    1,
                    "`/machine/checkout` is a path of this machine".to_owned()
                ),
                (
                    2,
                    "the host `mirror.example.net` is not on the list of hosts".to_owned()
                ),
            ]
        );
    }
}
