//! What programs inside trust: the host's certificates and the run's own authority, at the places
//! and in the variables where programs look.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use belljar_base::Timestamp;
use belljar_gate::{Authority, Settings, java_store, pem_bundle};
use belljar_sandbox::Shown;

/// The folder of a run in which the files lie.
pub(super) const FOLDER: &str = "trust";
/// Where the bundle is inside, whatever the host's own places are.
const BUNDLE: &str = "/belljar/trust/bundle.pem";
/// Where the run's authority alone is inside.
const AUTHORITY: &str = "/belljar/trust/authority.pem";
/// Where distributions keep their bundle.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where distributions keep Java's.
const JAVA_STORES: [&str; 2] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
];
/// Variables that name what may be trusted, all of it or beside a program's own list: a host
/// behind a proxy of its company trusts that one as well.
const VARIABLES: [&str; 12] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// What was written.
pub(super) struct Files {
    pub(super) shows: Vec<Shown>,
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// Writes the files into the run's folder, and says where they are to be shown.
pub(super) fn write(
    authority: &Authority,
    settings: &Settings,
    folder: &Path,
    now: Timestamp,
) -> io::Result<Files> {
    let folder = folder.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let system = system_bundle()?;
    let own = authority.pem();
    let bundle = pem_bundle(&system, &settings.roots, &own);
    let (bundle_file, own_file) = (folder.join("bundle.pem"), folder.join("authority.pem"));
    fs::write(&bundle_file, &bundle)?;
    fs::write(&own_file, own)?;
    let show = |source: &Path, at: &str| Shown {
        source: source.to_path_buf(),
        at: PathBuf::from(at),
    };
    let mut shows = vec![show(&bundle_file, BUNDLE), show(&own_file, AUTHORITY)];
    let there = |path: &&&str| Path::new(path).exists();
    shows.extend(
        SYSTEM_BUNDLES
            .iter()
            .filter(there)
            .map(|at| show(&bundle_file, at)),
    );
    if let Some(at) = JAVA_STORES.iter().find(there) {
        let file = folder.join("cacerts");
        fs::write(&file, java_store(&bundle, now.as_millis()))?;
        shows.push(show(&file, at));
    }
    let set = |name: &&str, value: &str| (OsString::from(name), OsString::from(value));
    let environment = VARIABLES.iter().map(|name| set(name, BUNDLE));
    Ok(Files {
        shows,
        environment: environment.collect(),
    })
}

/// The host's own bundle; empty where it has none.
fn system_bundle() -> io::Result<Vec<u8>> {
    for path in SYSTEM_BUNDLES {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    Ok(Vec::new())
}
