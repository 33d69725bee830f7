//! `/etc` inside: some files of the host that programs need and that hold no secret, the rest
//! written anew. What is not named here does not exist inside.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::host::Host;

/// Files and directories of the host's `/etc` that are copied. Each is world-readable data that
/// programs of `/usr` need; none holds a credential.
pub(super) const TAKEN: [&str; 43] = [
    "/etc/alternatives",   // which program a generic name means
    "/etc/apt/apt.conf.d", // not auth.conf: that is passwords
    "/etc/apt/keyrings",   // public keys of package sources
    "/etc/apt/preferences.d",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/trusted.gpg",
    "/etc/apt/trusted.gpg.d",
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
    fs::create_dir_all(etc.join("apt/apt.conf.d"))?;
    let (user, group) = (host.user_inside(), host.group);
    let mut users = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
    let mut groups = "root:x:0:\n".to_owned();
    users += &accounts("/etc/passwd", |[name, id, group, ..]| {
        format!("{name}:x:{id}:{group}:{name}:/nonexistent:/usr/sbin/nologin\n")
    });
    groups += &accounts("/etc/group", |[name, id, ..]| format!("{name}:x:{id}:\n"));
    if user != 0 {
        users += &format!("agent:x:{user}:{group}:agent:/home/agent:/bin/sh\n");
        groups += &format!("agent:x:{group}:\n");
    }
    users += "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    groups += "nogroup:x:65534:\n";
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
        // Inside there is no other user to become.
        (
            "apt/apt.conf.d/99-belljar",
            "APT::Sandbox::User \"root\";\n",
        ),
        ("profile", "# Empty: a login shell starts at once.\n"),
        ("machine-id", "00000000000000000000000000000000\n"),
    ] {
        fs::write(etc.join(name), text)?;
    }
    std::os::unix::fs::symlink("/proc/self/mounts", etc.join("mtab"))
}

/// The names and numbers of the system's own accounts, which packages ask for; people's are left
/// out. What is no line of such a file is passed over.
fn accounts(path: &str, line: impl Fn([&str; 3]) -> String) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let system = text.lines().filter_map(|entry| {
        let mut parts = entry.split(':');
        let name = parts.next()?;
        let (id, group) = (parts.nth(1)?, parts.next().unwrap_or_default());
        let number = id.parse::<u32>().ok()?;
        let known = (1..SYSTEM_IDS_END).contains(&number);
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        (known && plain && !name.is_empty()).then(|| line([name, id, group]))
    });
    system.collect()
}

/// Below this number are accounts of the system, from it on those of people.
const SYSTEM_IDS_END: u32 = 1000;

/// Whether a package manager's file has an address with a password in it.
fn names_a_password(path: &Path) -> io::Result<bool> {
    if !path.starts_with("/etc/apt") {
        return Ok(false);
    }
    let text = fs::read(path)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.split_whitespace().any(password_in))
}

/// Whether a word is an address with a user in it.
fn password_in(word: &str) -> bool {
    let authority = word.split_once("://").map_or("", |(_, rest)| rest);
    authority
        .split('/')
        .next()
        .unwrap_or_default()
        .contains('@')
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
        if meta.permissions().mode() & 0o004 != 0 && !names_a_password(from)? {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_password_is_known() {
        for (text, expected) in [
            ("deb https://deb.example/debian stable main", false),
            ("deb https://me:secret@deb.example/debian stable main", true),
            (
                "Acquire::http::Proxy \"http://me:secret@proxy.example:3128\";",
                true,
            ),
            ("# mail somebody@example.org", false),
        ] {
            let authority = text.split_whitespace().any(password_in);
            assert_eq!(authority, expected, "{text}");
        }
    }
}
