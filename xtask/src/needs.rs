//! What the tests need on the machine, as Debian packages: installed when we may, named when not.

use std::path::Path;

use crate::shell::{Failure, is_root, program, run, say};

/// A file that must exist, the package that brings it, and what for.
struct Need {
    file: &'static str,
    package: &'static str,
    why: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        file: "/usr/bin/cc",
        package: "gcc",
        why: "links the programs and compiles SQLite",
    },
    Need {
        file: "/usr/include/stdlib.h",
        package: "libc6-dev",
        why: "links the static guest",
    },
    Need {
        file: "/usr/bin/python3",
        package: "python3",
        why: "the incidents and many escapes are Python programs",
    },
    Need {
        file: "/usr/bin/sqlite3",
        package: "sqlite3",
        why: "an SQLite that is not ours checks what ours merged",
    },
    Need {
        file: "/usr/bin/git",
        package: "git",
        why: "the incident with git-tracked files",
    },
    Need {
        file: "/usr/bin/setfattr",
        package: "attr",
        why: "an extended attribute set by a program that is not ours",
    },
    Need {
        file: "/usr/bin/bwrap",
        package: "bubblewrap",
        why: "the peer of the measurements",
    },
    Need {
        file: "/usr/bin/setpriv",
        package: "util-linux",
        why: "runs tests as an ordinary user",
    },
    Need {
        file: "/usr/sbin/useradd",
        package: "passwd",
        why: "makes that ordinary user",
    },
    Need {
        file: "/usr/sbin/mkfs.btrfs",
        package: "btrfs-progs",
        why: "a file system with reflinks",
    },
    Need {
        file: "/usr/sbin/mkfs.xfs",
        package: "xfsprogs",
        why: "another file system with reflinks",
    },
];

/// Installs what is missing.
///
/// # Errors
/// When something is missing and we are not root, or the installation fails.
pub(crate) fn install() -> Result<(), Failure> {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| !Path::new(need.file).exists())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        say(format!("the tests need `{}`: {}", need.package, need.why));
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !is_root() {
        let list = packages.join(" ");
        return Err(Failure::new(format!(
            "the tests need packages that are not installed: run `sudo apt-get install {list}`"
        )));
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    run(program("apt-get", &["update", "--quiet"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    run(program("apt-get", &arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_is_a_file_a_package_and_a_reason() {
        for need in NEEDS {
            assert!(need.file.starts_with('/'), "{}", need.file);
            assert!(!need.package.contains(' '), "{}", need.package);
            assert!(need.why.split(' ').count() > 2, "{}", need.why);
        }
    }
}
