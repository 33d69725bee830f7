//! Package managers install a small package through the gate, unmodified, from the registries that
//! this host reaches.

use std::fmt::Write as _;
use std::net::{IpAddr, ToSocketAddrs};
use std::process::Command;

use crate::support::{Answer, Place, is_root};

/// The addresses that this host reaches registries at: they need not be public ones.
fn addresses(hosts: &[&str]) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = hosts
        .iter()
        .flat_map(|host| (*host, 443).to_socket_addrs().into_iter().flatten())
        .map(|address| address.ip())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Runs a script that may reach these hosts; none when this host cannot look them up.
fn install(place: &Place, hosts: &[&str], more: &[&str], script: &str) -> Answer {
    let known = addresses(hosts);
    assert!(
        !known.is_empty(),
        "no address of {hosts:?}: these tests need the registries of Python, Node, Rust and Debian"
    );
    let mut command = place.command();
    command.args(["run", "--json", "--limit", "time=200s"]);
    for host in hosts {
        command.args(["--allow", host]);
    }
    for address in known {
        command.args(["--allow", &address.to_string()]);
    }
    command.args(more).args(["--", "sh", "-c", script]);
    let answer: Answer = command.output().unwrap().into();
    let network = &answer.json()["network"];
    assert!(network["allowed"].as_u64() > Some(0), "{answer:?}");
    answer
}

#[test]
fn pip_installs_a_package() {
    let place = Place::new();
    let script = "python3 -m venv /tmp/v && /tmp/v/bin/pip install --quiet six==1.16.0 && \
                  /tmp/v/bin/python -c 'import six; print(six.__version__)'";
    let answer = install(&place, &["pypi.org", "files.pythonhosted.org"], &[], script).ok();
    assert!(answer.out.starts_with("1.16.0\n"), "{answer:?}");
}

#[test]
fn npm_installs_a_package() {
    let place = Place::new();
    let script = "cd /tmp && npm install --silent --no-fund --no-audit is-number@7.0.0 && \
                  node -p 'require(\"is-number\")(5)'";
    let answer = install(&place, &["registry.npmjs.org"], &[], script).ok();
    assert!(answer.out.contains("true\n"), "{answer:?}");
}

#[test]
fn cargo_fetches_a_package() {
    let place = Place::new();
    let hosts = ["index.crates.io", "static.crates.io"];
    let Ok(asked) = Command::new("rustc").args(["--print", "sysroot"]).output() else {
        // An ordinary user whose toolchain is root's own: what cargo would ask first, then.
        assert!(!is_root());
        let script = "curl -sS https://index.crates.io/config.json";
        let answer = install(&place, &hosts, &[], script).ok();
        assert!(answer.out.contains("\"dl\""), "{answer:?}");
        return;
    };
    let sysroot = String::from_utf8(asked.stdout).unwrap();
    let sysroot = sysroot.trim();
    let mut script = format!("export PATH={sysroot}/bin:$PATH CARGO_HOME=/tmp/c; cd /tmp; ");
    script += "cargo new --quiet --vcs none demo && cd demo && cargo add --quiet itoa@1.0.15 && ";
    write!(script, "cargo fetch --quiet && ls /tmp/c/registry/src/*").unwrap();
    let answer = install(&place, &hosts, &["--read", sysroot], &script).ok();
    assert!(answer.out.contains("itoa-1.0."), "{answer:?}");
}

/// Only root installs system packages, inside as well.
#[test]
fn apt_installs_a_package() {
    let place = Place::new();
    let hosts = ["deb.debian.org", "security.debian.org"];
    let script = "apt-get -qq update && apt-get -qq install -y --no-install-recommends \
                  libjs-inherits </dev/null >/dev/null && dpkg -s libjs-inherits";
    if !is_root() {
        let answer = install(
            &place,
            &hosts,
            &[],
            "apt-get -qq -o Dir::State=/tmp -o \
             Dir::Cache=/tmp update 2>&1 | tail -3; curl -sS -o /tmp/r \
             http://deb.debian.org/debian/dists/stable/Release && head -1 /tmp/r",
        );
        assert!(answer.out.contains("Origin: Debian"), "{answer:?}");
        return;
    }
    let answer = install(&place, &hosts, &[], script).ok();
    assert!(answer.out.contains("install ok installed"), "{answer:?}");
    assert!(!std::path::Path::new("/usr/share/javascript/inherits").exists());
}
