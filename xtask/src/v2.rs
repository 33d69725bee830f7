//! Control groups of version 2, on a stock Debian kernel that QEMU emulates.
//!
//! The machine that tests run on may have version 1, or a delegation that differs from what users
//! have; here the guest makes each case itself, as systemd would. apt fetches the kernel and a small
//! Debian tree into `target/v2` once (remove the directory to fetch again); nothing is installed.
//! The guest runs the sandbox crate's tests and whole commands, and says line by line what held.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use crate::ordinary;
use crate::shell::{Failure, capture, has, program, root, run as start, say};

/// Programs that must be there, and the package of each.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("mkfs.ext4", "e2fsprogs"),
    ("unshare", "util-linux"),
    ("timeout", "coreutils"),
];
/// The Debian release whose kernel and tree are booted. Overlay marks on tmpfs need Linux 6.6.
const SUITE: &str = "trixie";
/// What the guest has; apt adds what these need.
const PACKAGES: &[&str] = &[
    "linux-image-cloud-amd64",
    "busybox-static",
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "mount",
    "python3",
    "sed",
    "util-linux",
];
/// Seconds after which the guest is ended from outside.
const BOOT_SECONDS_MAX: &str = "900";
/// The guest's last words begin with this, and go on with how many checks failed.
const VERDICT: &str = "v2: failed ";

/// Fetches, builds, boots, and judges by the guest's last words.
///
/// # Errors
/// When a program is missing, nothing can be fetched, the guest does not come to its end, or a check
/// fails in it.
pub(crate) fn run() -> Result<(), Failure> {
    let begin = Instant::now();
    needs()?;
    let place = root().join("target/v2");
    fetch(&place)?;
    image(&place)?;
    let ready = begin.elapsed();
    let failed = boot(&place)?;
    let (ready, all) = (ready.as_secs(), begin.elapsed().as_secs());
    say(format!("v2: {all} s, of which {ready} s until the boot"));
    match failed.as_deref() {
        Some("0") => Ok(()),
        Some(count) => Err(Failure::new(format!("{count} checks failed in the guest"))),
        None => Err(Failure::new("the guest did not come to its end")),
    }
}

fn needs() -> Result<(), Failure> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Failure::new(
            "`cargo xtask v2` emulates an x86-64 machine for programs of one",
        ));
    }
    let missing = |(name, _): &&(&str, &str)| !has(name);
    let packages: Vec<&str> = PROGRAMS
        .iter()
        .filter(missing)
        .map(|(_, from)| *from)
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    Err(Failure::new(format!(
        "`cargo xtask v2` needs programs that are not installed: {list} (Debian's names)"
    )))
}

/// Has apt download the packages, with lists and a cache of our own and no package taken for
/// installed.
fn fetch(place: &Path) -> Result<(), Failure> {
    let done = place.join("fetched");
    if done.exists() {
        return Ok(());
    }
    for folder in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(place.join(folder)).map_err(cannot("make a directory"))?;
    }
    let keys = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [{keys}] {} {SUITE} main\n", mirror()?);
    std::fs::write(place.join("sources"), source).map_err(cannot("write apt's sources"))?;
    std::fs::write(place.join("status"), "").map_err(cannot("write apt's status"))?;
    start(apt(place).args(["update", "--quiet"]))?;
    start(
        apt(place)
            .args(["install", "--quiet", "--yes", "--download-only"])
            .arg("--no-install-recommends")
            .args(PACKAGES),
    )?;
    std::fs::write(done, "").map_err(cannot("note what was fetched"))
}

/// apt, with everything that it keeps below `place`.
fn apt(place: &Path) -> std::process::Command {
    let mut command = program("apt-get", &[]);
    for (name, below) in [
        ("Dir::Etc::sourcelist", "sources"),
        ("Dir::Etc::sourceparts", "none"),
        ("Dir::State", "."),
        ("Dir::State::lists", "lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "cache"),
    ] {
        let path = place.join(below);
        command.arg("-o").arg(format!("{name}={}", path.display()));
    }
    // The user that apt becomes for downloads may not write here.
    command.args(["-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"]);
    command.args(["-o", "Debug::NoLocking=true"]);
    command
}

/// Where apt finds Debian on this machine.
fn mirror() -> Result<String, Failure> {
    let format = "$(ORIGIN) $(REPO_URI)";
    let answer = capture(&mut program(
        "apt-get",
        &["indextargets", "--format", format],
    ))?;
    let debian = |line: &str| line.strip_prefix("Debian ").map(str::to_owned);
    // The archive itself carries every suite; security updates lie elsewhere.
    let mut found: Vec<String> = answer.lines().filter_map(debian).collect();
    found.sort_by_key(|uri| uri.contains("security"));
    found.into_iter().next().ok_or_else(|| {
        Failure::new(
            "`cargo xtask v2` needs a Debian archive among apt's sources (`apt-get update`)",
        )
    })
}

/// Builds what is tested, and a disk with it.
fn image(place: &Path) -> Result<(), Failure> {
    start(&mut program("cargo", ordinary::BUILD))?;
    let built = ordinary::built()?;
    let named = |path: &&PathBuf| path.file_name().is_some_and(|name| name == "belljar");
    let test = |(package, path): &&(String, PathBuf)| {
        let file = path.file_name().map(|name| name.to_string_lossy());
        package == "belljar-sandbox" && file.is_some_and(|name| name.starts_with("it-"))
    };
    let belljar = built.programs.iter().find(named);
    let tests = built.tests.iter().find(test);
    let (Some(belljar), Some((_, tests))) = (belljar, tests) else {
        return Err(Failure::new(
            "the build made no `belljar` or no tests of the sandbox",
        ));
    };
    let mut script = program("sh", &["-e", "xtask/src/v2/image.sh"]);
    start(script.arg(place).args([belljar, tests]))
}

/// Boots the disk, showing what the guest says; its verdict, if it came so far.
fn boot(place: &Path) -> Result<Option<String>, Failure> {
    let mut machine = program("timeout", &[BOOT_SECONDS_MAX, "qemu-system-x86_64"]);
    // Emulation everywhere, so that it is the same everywhere. QEMU 7.2 emulates cmpxchg16b wrongly
    // and the kernel crashes of it; without that feature the kernel does not use it.
    machine.args(["-machine", "q35", "-accel", "tcg", "-cpu", "max,cx16=off"]);
    machine.args(["-smp", "2", "-m", "2048", "-nodefaults", "-no-reboot"]);
    machine.args(["-display", "none", "-serial", "stdio"]);
    machine.arg("-kernel").arg(place.join("vmlinuz"));
    machine.arg("-initrd").arg(place.join("initrd"));
    machine.args(["-append", "console=ttyS0 loglevel=1 panic=-1"]);
    let disk = place.join("disk");
    machine.arg("-drive").arg(format!(
        "file={},if=virtio,format=raw,snapshot=on",
        disk.display()
    ));
    let mut machine = machine
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot("start QEMU"))?;
    let mut verdict = None;
    for line in machine
        .stdout
        .take()
        .into_iter()
        .flat_map(|out| BufReader::new(out).split(b'\n'))
    {
        let line = line.map_err(cannot("read what the guest says"))?;
        let line = plain(&line);
        if let Some(count) = line.strip_prefix(VERDICT) {
            verdict = Some(count.to_owned());
        }
        say(line);
    }
    let status = machine.wait().map_err(cannot("wait for QEMU"))?;
    if !status.success() {
        return Err(Failure::new(format!("QEMU ended with {status}")));
    }
    Ok(verdict)
}

/// A line of a console, without what would move a cursor.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().filter(|c| !c.is_control()).collect()
}

fn cannot(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::new(format!("cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_line_is_shown_as_text() {
        assert_eq!(plain(b"\x1b[2Jv2: failed 0\r"), "[2Jv2: failed 0");
        assert_eq!(plain(b"v2: failed 3\r").strip_prefix(VERDICT), Some("3"));
    }
}
