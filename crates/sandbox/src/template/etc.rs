//! `/etc` inside: some files of the host that programs need and that hold no secret, the rest
//! written anew. What is not named here does not exist inside.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::host::Host;

/// Files and directories of the host's `/etc` that are copied. Each is world-readable data that
/// programs of `/usr` need; none holds a credential.
pub(super) const TAKEN: [&str; 36] = [
    "/etc/alternatives", // which program a generic name means
    "/etc/bash.bashrc",
    "/etc/bash_completion.d",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/default/locale",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/inputrc",
    "/etc/java-11-openjdk",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/java-25-openjdk",
    "/etc/ld.so.cache", // where libraries are
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/perl",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/python3",
    "/etc/python3.11",
    "/etc/services",
    "/etc/shells",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
];

/// Writes `/etc` below `root`.
pub(super) fn write(root: &Path, host: &Host) -> io::Result<()> {
    let etc = root.join("etc");
    fs::create_dir(&etc)?;
    fs::set_permissions(&etc, fs::Permissions::from_mode(0o755))?;
    for path in TAKEN {
        let inside = root.join(path.trim_start_matches('/'));
        if let Some(parent) = inside.parent() {
            fs::create_dir_all(parent)?;
        }
        copy(Path::new(path), &inside)?;
    }
    let (user, group) = (host.user_inside(), host.group);
    let mut users = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
    let mut groups = "root:x:0:\n".to_owned();
    if user != 0 {
        users += &format!("agent:x:{user}:{group}:agent:/home/agent:/bin/sh\n");
        groups += &format!("agent:x:{group}:\n");
    }
    users += "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    groups += "tty:x:5:\nnogroup:x:65534:\n";
    for (name, text) in [
        ("passwd", users.as_str()),
        ("group", groups.as_str()),
        (
            "hosts",
            "127.0.0.1 localhost belljar\n::1 localhost ip6-localhost\n",
        ),
        ("hostname", "belljar\n"),
        (
            "resolv.conf",
            // Where the gate answers; without a network nobody does.
            "nameserver 127.0.0.1\n",
        ),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
        ),
        ("profile", "# Empty: a login shell starts at once.\n"),
        ("machine-id", "00000000000000000000000000000000\n"),
    ] {
        fs::write(etc.join(name), text)?;
    }
    std::os::unix::fs::symlink("/proc/self/mounts", etc.join("mtab"))
}

/// Copies a file, a link or a directory; what is missing or unreadable is left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(from) else {
        return Ok(());
    };
    if meta.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if meta.is_file() {
        // Only what everyone may read anyway; a private key beside certificates stays out.
        if meta.permissions().mode() & 0o004 != 0 {
            fs::copy(from, to)?;
        }
        return Ok(());
    }
    if meta.is_dir() {
        fs::create_dir_all(to)?;
        let Ok(entries) = fs::read_dir(from) else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
