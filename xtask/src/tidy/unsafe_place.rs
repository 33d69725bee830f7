//! Unsafe code lives in `sys.rs` of the rooms that need it, and nowhere else.

use super::Finding;
use super::code::code_only;
use super::has_word;
use super::tree::{File, Tree};

pub(super) const NAME: &str = "unsafe_place";
/// The rooms that may have one.
const ROOMS: &[&str] = &[
    "crates/sandbox/",
    "crates/guest/",
    "crates/vmm/",
    "crates/gate/src/secret/",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| !may_have(file))
        .filter_map(|file| {
            let code = code_only(&file.text);
            let at = (1..)
                .zip(code.lines())
                .find(|(_, line)| has_word(line, "unsafe") && !line.contains("unsafe_"));
            at.map(|(line, _)| Finding {
                path: file.path.clone(),
                line,
                rule: NAME,
                text:
                    "unsafe code outside of a `sys.rs` of sandbox, guest, vmm or the gate's secrets"
                        .to_owned(),
            })
        })
        .collect()
}

fn may_have(file: &File) -> bool {
    let in_room = ROOMS.iter().any(|room| file.path.starts_with(room));
    in_room && (file.path.ends_with("/sys.rs") || file.path.contains("/sys/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_and_only_elsewhere() {
        let code = "//! x\nfn f() { unsafe { g() } }\n";
        let tree = Tree::of(&[
            ("crates/sandbox/src/sys.rs", code),
            ("crates/sandbox/src/life.rs", code),
            ("crates/branch/src/sys.rs", code),
            ("crates/gate/src/secret/sys.rs", code),
            ("crates/gate/src/sys.rs", code),
            (
                "crates/base/src/lib.rs",
                "//! unsafe\n#![forbid(unsafe_code)]\n",
            ),
        ]);
        let findings = check(&tree);
        let places: Vec<_> = findings.iter().map(|f| (f.path.as_str(), f.line)).collect();
        assert_eq!(
            places,
            [
                ("crates/sandbox/src/life.rs", 2),
                ("crates/branch/src/sys.rs", 2),
                ("crates/gate/src/sys.rs", 2)
            ]
        );
    }
}
