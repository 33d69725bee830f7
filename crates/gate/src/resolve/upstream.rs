//! The name servers, and what of their answers is taken: the addresses at the end of the chain of
//! aliases that begins with the name asked, and nothing else that came along.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use belljar_base::bounds::{
    NAME_SERVERS_KEPT_SECONDS, NAME_SERVERS_MAX, RESOLVE_ADDRESSES_MAX, RESOLVE_ALIASES_MAX,
    RESOLVE_LATE_MILLIS_MAX, RESOLVE_TRY_MILLIS_MAX,
};
use belljar_policy::egress::HostName;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::time::{Instant, timeout};

use super::{ResolveError, Resolved};

/// Where the system says whom it asks.
const SYSTEM: &str = "/etc/resolv.conf";

/// Who is asked.
pub(super) enum Upstream {
    /// These name servers.
    Given(Option<TokioResolver>),
    /// The system's, which may become others while this process lives.
    System(Mutex<System>),
}

/// The system's name servers as they were found.
pub(super) struct System {
    file: PathBuf,
    resolver: Option<TokioResolver>,
    changed: Option<SystemTime>,
    looked: Instant,
}

/// Addresses of one version, for how many seconds, or why there are none.
type Found = Result<(Vec<IpAddr>, u32), (ResolveError, u32)>;

impl Upstream {
    pub(super) fn new(nameservers: &[SocketAddr]) -> Self {
        if nameservers.is_empty() {
            Self::System(Mutex::new(System::look(PathBuf::from(SYSTEM))))
        } else {
            Self::Given(build(nameservers.iter().map(server).collect()))
        }
    }

    /// Asks for both versions at once. Those of version 4 are waited for; those of version 6 only
    /// for a moment longer, since a name server that drops such questions is not rare.
    pub(super) async fn ask(&self, name: &HostName) -> Resolved {
        let Some(resolver) = self.resolver() else {
            return Resolved::failure(ResolveError::Unreachable(name.clone()));
        };
        let v4 = look_up(&resolver, name, RecordType::A);
        let v6 = look_up(&resolver, name, RecordType::AAAA);
        tokio::pin!(v4, v6);
        let mut early = None;
        let first = loop {
            tokio::select! {
                found = &mut v4 => break found,
                found = &mut v6, if early.is_none() => early = Some(found),
            }
        };
        let second = match (early, &first) {
            (Some(found), _) => Some(found),
            // A name that does not exist does so for every type (RFC 8020).
            (None, Err((ResolveError::NoName(_), _))) => None,
            (None, Err(_)) => Some(v6.await),
            (None, Ok(_)) => {
                let late = Duration::from_millis(RESOLVE_LATE_MILLIS_MAX);
                // What comes too late is asked for again soon.
                let unknown = Err((ResolveError::Late(name.clone()), 0));
                Some(timeout(late, v6).await.unwrap_or(unknown))
            }
        };
        together(first, second)
    }

    fn resolver(&self) -> Option<TokioResolver> {
        match self {
            Self::Given(resolver) => resolver.clone(),
            Self::System(system) => {
                let mut system = system.lock().unwrap_or_else(PoisonError::into_inner);
                system.refresh();
                system.resolver.clone()
            }
        }
    }
}

impl System {
    fn look(file: PathBuf) -> Self {
        // Before it is read: what changes in between is seen the next time.
        let changed = changed(&file);
        let text = fs::read(&file).unwrap_or_default();
        Self {
            file,
            resolver: build(servers(&text)),
            changed,
            looked: Instant::now(),
        }
    }

    /// Looks again if the file is another one than it was.
    fn refresh(&mut self) {
        let kept = Duration::from_secs(NAME_SERVERS_KEPT_SECONDS);
        if self.looked.elapsed() < kept {
            return;
        }
        self.looked = Instant::now();
        if changed(&self.file) != self.changed {
            *self = Self::look(self.file.clone());
        }
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).ok()?.modified().ok()
}

/// The name servers, and nothing else: domains to search and options are the system's own matter.
fn servers(text: &[u8]) -> Vec<NameServerConfig> {
    parse_resolv_conf(text).map_or_else(|_none| Vec::new(), |(config, _)| config.name_servers)
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![
        at_port(ConnectionConfig::udp()),
        at_port(ConnectionConfig::tcp()),
    ];
    NameServerConfig::new(address.ip(), true, connections)
}

fn build(mut servers: Vec<NameServerConfig>) -> Option<TokioResolver> {
    servers.truncate(NAME_SERVERS_MAX);
    if servers.is_empty() {
        return None;
    }
    let config = ResolverConfig::from_name_servers(servers);
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    *builder.options_mut() = options();
    builder.build().ok()
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_millis(RESOLVE_TRY_MILLIS_MAX);
    options.attempts = 1;
    options.use_hosts_file = ResolveHosts::Never;
    // Answers are kept by `Cache`, whose size is bounded in addresses and not in messages.
    options.cache_size = 0;
    // Aliases are followed here from their beginning, so they have to be in the answer.
    options.preserve_intermediates = true;
    // Somebody who is not asked has to guess the letters' case as well.
    options.case_randomization = true;
    options
}

async fn look_up(resolver: &TokioResolver, name: &HostName, kind: RecordType) -> Found {
    let Ok(mut asked) = Name::from_ascii(name.as_str()) else {
        return Err((ResolveError::NoName(name.clone()), 0));
    };
    asked.set_fqdn(true);
    match resolver.lookup(asked.clone(), kind).await {
        Ok(lookup) => at_the_end(name, asked, kind, lookup.answers()),
        Err(error) => Err(reason(name, &error)),
    }
}

/// The addresses at the end of the chain of aliases, and for how long the whole chain holds.
fn at_the_end(name: &HostName, asked: Name, kind: RecordType, records: &[Record]) -> Found {
    let (mut owner, mut seconds, mut aliases) = (asked, u32::MAX, 0);
    while let Some((target, ttl)) = alias(&owner, records) {
        aliases += 1;
        if aliases > RESOLVE_ALIASES_MAX {
            return Err((ResolveError::Nonsense(name.clone()), 0));
        }
        (owner, seconds) = (target, seconds.min(ttl));
    }
    let mut addresses = Vec::new();
    for record in records {
        let Some(address) = record.data.ip_addr() else {
            continue;
        };
        let wanted = record.name == owner && record.record_type() == kind;
        if wanted && !addresses.contains(&address) && addresses.len() < RESOLVE_ADDRESSES_MAX {
            addresses.push(address);
            seconds = seconds.min(record.ttl);
        }
    }
    if addresses.is_empty() {
        return Err((ResolveError::NoAddress(name.clone()), 0));
    }
    Ok((addresses, seconds))
}

fn alias(owner: &Name, records: &[Record]) -> Option<(Name, u32)> {
    let mut owned = records.iter().filter(|record| record.name == *owner);
    owned.find_map(|record| {
        if let RData::CNAME(target) = &record.data {
            Some((target.0.clone(), record.ttl))
        } else {
            None
        }
    })
}

fn reason(name: &HostName, error: &NetError) -> (ResolveError, u32) {
    let name = name.clone();
    if let NetError::Dns(DnsError::NoRecordsFound(NoRecords { negative_ttl, .. })) = error {
        let seconds = negative_ttl.unwrap_or(0);
        if error.is_nx_domain() {
            return (ResolveError::NoName(name), seconds);
        }
        return (ResolveError::NoAddress(name), seconds);
    }
    let error = if matches!(error, NetError::Dns(_)) {
        ResolveError::Failed(name)
    } else if matches!(error, NetError::Timeout) {
        ResolveError::Late(name)
    } else if matches!(error, NetError::Io(_) | NetError::NoConnections) {
        ResolveError::Unreachable(name)
    } else {
        ResolveError::Nonsense(name)
    };
    (error, 0)
}

/// Addresses of either version are enough; of two reasons the first is told.
fn together(first: Found, second: Option<Found>) -> Resolved {
    let (addresses, seconds) = match (first, second) {
        (Ok((mut addresses, seconds)), Some(Ok((more, others)))) => {
            addresses.extend(more);
            (addresses, seconds.min(others))
        }
        (Ok(found), None) => found,
        (Ok((addresses, seconds)), Some(Err((error, _))))
        | (Err((error, _)), Some(Ok((addresses, seconds)))) => {
            // What failed may be there at the next try.
            let whole = matches!(error, ResolveError::NoAddress(_));
            (addresses, if whole { seconds } else { 0 })
        }
        (Err((error, seconds)), Some(Err(_)) | None) => {
            return Resolved {
                addresses: Err(error),
                seconds,
            };
        }
    };
    Resolved {
        addresses: Ok(addresses.into()),
        seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_systems_settings_only_the_name_servers_count() {
        let addresses = |text: &str| {
            let servers = servers(text.as_bytes()).into_iter();
            servers.map(|one| one.ip.to_string()).collect::<Vec<_>>()
        };
        let text = "# ours\nsearch corp.example.com\noptions ndots:5 timeout:1\n\
                    nameserver 192.0.2.53\nnameserver 2001:db8::53\n";
        assert_eq!(addresses(text), ["192.0.2.53", "2001:db8::53"]);
        for none in [
            "",
            "search corp.example.com\n",
            "nameserver nobody\n",
            "\u{0}\n",
        ] {
            assert!(addresses(none).is_empty(), "{none:?}");
        }
    }

    #[test]
    fn name_servers_that_change_are_seen() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("resolv.conf");
        let mut system = System::look(file.clone());
        assert!(system.resolver.is_none());
        fs::write(&file, "nameserver 192.0.2.53\n").unwrap();
        system.refresh();
        assert!(system.resolver.is_none(), "looked again too soon");
        let kept = Duration::from_secs(NAME_SERVERS_KEPT_SECONDS);
        system.looked = Instant::now().checked_sub(kept).unwrap();
        system.refresh();
        assert!(system.resolver.is_some());
        fs::remove_file(&file).unwrap();
        system.looked = Instant::now().checked_sub(kept).unwrap();
        system.refresh();
        assert!(system.resolver.is_none());
    }
}
