//! Turns names into addresses, once per ask: what it answers is what gets judged and dialled. It asks
//! the name servers it was given, or the system's; never with search domains, and never the system's
//! own table of hosts, whose names are that host's private matter.

mod upstream; // who is asked, and what was answered
mod cache; // what was answered lately

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use belljar_base::bounds::{RESOLVE_MILLIS_MAX, RESOLVING_MAX};
use belljar_base::{HasKind, Kind};
use belljar_policy::egress::HostName;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use cache::Cache;
use upstream::Upstream;

/// Resolves names for all runs of this process.
pub(crate) struct Resolver {
    hosts: HashMap<HostName, Vec<IpAddr>>,
    upstream: Upstream,
    cache: Mutex<Cache>,
    places: Semaphore,
}

/// Why a name has no address. The text names nobody who was asked: it may be told inside a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// No such name.
    #[error("`{0}` does not exist")]
    NoName(HostName),
    /// The name exists and has no address.
    #[error("`{0}` has no address")]
    NoAddress(HostName),
    /// A name server was asked and could not tell.
    #[error("the name server could not resolve `{0}`")]
    Failed(HostName),
    /// What came back is no answer to the question.
    #[error("the name server's answer for `{0}` makes no sense")]
    Nonsense(HostName),
    /// Nobody answered in time.
    #[error("no name server answered for `{0}` in time")]
    Late(HostName),
    /// Nobody could be asked.
    #[error("no name server can be reached to resolve `{0}`")]
    Unreachable(HostName),
}

impl HasKind for ResolveError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoName(_) | Self::NoAddress(_) => Kind::NotFound,
            Self::Failed(_) | Self::Nonsense(_) | Self::Late(_) | Self::Unreachable(_) => {
                Kind::Unavailable
            }
        }
    }
}

/// An answer and for how long it may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resolved {
    addresses: Result<Arc<[IpAddr]>, ResolveError>,
    seconds: u32,
}

impl Resolver {
    /// Asks these name servers, or the system's if none are given; `hosts` are answered from here.
    pub(crate) fn new(nameservers: &[SocketAddr], hosts: Vec<(HostName, IpAddr)>) -> Self {
        let mut table: HashMap<HostName, Vec<IpAddr>> = HashMap::new();
        for (name, address) in hosts {
            table.entry(name).or_default().push(address);
        }
        Self {
            hosts: table,
            upstream: Upstream::new(nameservers),
            cache: Mutex::default(),
            places: Semaphore::new(RESOLVING_MAX),
        }
    }

    /// The addresses of a name, as it is written: no domain is ever put behind it.
    pub(crate) async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        if let Some(kept) = self.cache().get(name, Instant::now()) {
            return kept.map(|addresses| addresses.to_vec());
        }
        let most = Duration::from_millis(RESOLVE_MILLIS_MAX);
        let resolved = match timeout(most, self.ask(name)).await {
            Ok(resolved) => resolved,
            Err(_elapsed) => Resolved::failure(ResolveError::Late(name.clone())),
        };
        self.cache().put(name, &resolved, Instant::now());
        resolved.addresses.map(|addresses| addresses.to_vec())
    }

    async fn ask(&self, name: &HostName) -> Resolved {
        // The semaphore is never closed; if it were, nobody could be asked.
        match self.places.acquire().await {
            Ok(_place) => self.upstream.ask(name).await,
            Err(_closed) => Resolved::failure(ResolveError::Unreachable(name.clone())),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolved {
    /// What may be otherwise at the next try; kept for a moment all the same, so that a sandbox that
    /// asks in a loop asks nobody else in one.
    fn failure(error: ResolveError) -> Self {
        Self {
            addresses: Err(error),
            seconds: 0,
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name_server::{Answer, Asked, NameServer, address, alias};
    use belljar_base::bounds::{RESOLVE_ADDRESSES_MAX, RESOLVE_ALIASES_MAX};
    use hickory_proto::op::ResponseCode;

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(future)
    }

    fn resolver(server: &NameServer) -> Resolver {
        Resolver::new(&[server.address()], Vec::new())
    }

    /// What a lookup says, in words.
    fn said(result: Result<Vec<IpAddr>, ResolveError>) -> String {
        match result {
            Ok(addresses) => {
                let words: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                words.join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    /// What is said of `asked` by a resolver whose only name server follows the script.
    fn check(
        asked: &str,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
        expected: &str,
    ) -> Vec<Asked> {
        let server = NameServer::start(script);
        let resolver = resolver(&server);
        assert_eq!(said(run(resolver.lookup(&name(asked)))), expected);
        server.asked()
    }

    fn nothing() -> Answer {
        Answer::Absent(ResponseCode::NoError, 5)
    }

    /// Addresses of version 4 alone.
    fn v4(asked: &Asked, addresses: &[&str]) -> Answer {
        match asked.is_v4() {
            true => {
                let record = |one: &&str| address(&asked.name, 60, one);
                Answer::Records(addresses.iter().map(record).collect())
            }
            _ => nothing(),
        }
    }

    #[test]
    fn fixed_hosts_are_answered_without_asking() {
        let server = NameServer::start(|_| nothing());
        let hosts = [
            (name("a.example.com"), [192, 0, 2, 1].into()),
            (name("a.example.com"), [192, 0, 2, 2].into()),
        ];
        let resolver = Resolver::new(&[server.address()], hosts.to_vec());
        let found = run(resolver.lookup(&name("A.example.com")));
        assert_eq!(said(found), "192.0.2.1 192.0.2.2");
        assert!(server.asked().is_empty());
    }

    #[test]
    fn both_versions_are_found_and_each_address_once() {
        let asked = check(
            "a.example.com",
            |asked| {
                Answer::Records(match asked.is_v4() {
                    true => vec![
                        address(&asked.name, 60, "192.0.2.1"),
                        address(&asked.name, 60, "192.0.2.2"),
                        address(&asked.name, 60, "192.0.2.1"),
                    ],
                    _ => vec![address(&asked.name, 60, "2001:db8::1")],
                })
            },
            "192.0.2.1 192.0.2.2 2001:db8::1",
        );
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(asked.iter().all(|one| one.name == "a.example.com"));
    }

    #[test]
    fn a_name_is_asked_as_it_is_written() {
        let absent = |_: &Asked| Answer::Absent(ResponseCode::NXDomain, 5);
        let asked = check("intranet", absent, "`intranet` does not exist");
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|one| one.name == "intranet"), "{asked:?}");
    }

    #[test]
    fn what_came_along_is_not_taken() {
        check(
            "a.example.com",
            |asked| match asked.is_v4() {
                true => Answer::Records(vec![
                    address("b.example.com", 60, "192.0.2.66"),
                    address("a.example.com", 60, "192.0.2.1"),
                    address("a.example.com", 60, "2001:db8::66"),
                ]),
                _ => nothing(),
            },
            "192.0.2.1",
        );
        check(
            "a.example.com",
            |_| Answer::Records(vec![address("b.example.com", 60, "192.0.2.66")]),
            "`a.example.com` has no address",
        );
    }

    #[test]
    fn mixed_answers_are_told_whole() {
        check(
            "a.example.com",
            |asked| v4(asked, &["192.0.2.1", "169.254.169.254", "10.0.0.1"]),
            "192.0.2.1 169.254.169.254 10.0.0.1",
        );
    }

    #[test]
    fn so_many_addresses_and_no_more() {
        let server = NameServer::start(|asked| match asked.is_v4() {
            true => {
                let numbered = |at| address(&asked.name, 60, &format!("192.0.2.{at}"));
                // More than fit a datagram without EDNS.
                Answer::Records((1..=50).map(numbered).collect())
            }
            _ => nothing(),
        });
        let resolver = resolver(&server);
        let found = run(resolver.lookup(&name("a.example.com"))).unwrap();
        assert_eq!(found.len(), RESOLVE_ADDRESSES_MAX);
    }

    #[test]
    fn aliases_are_followed_in_one_answer_or_several() {
        check(
            "a.example.com",
            |asked| match asked.is_v4() {
                true => Answer::Records(vec![
                    address("c.example.com", 60, "192.0.2.1"),
                    alias("b.example.com", 60, "c.example.com"),
                    alias("a.example.com", 60, "b.example.com"),
                ]),
                _ => nothing(),
            },
            "192.0.2.1",
        );
        let asked = check(
            "a.example.com",
            |asked| match (asked.is_v4(), asked.name.as_str()) {
                (true, "a.example.com") => {
                    Answer::Records(vec![alias("a.example.com", 60, "b.example.net")])
                }
                (true, "b.example.net") => {
                    Answer::Records(vec![address("b.example.net", 60, "10.0.0.1")])
                }
                _ => nothing(),
            },
            "10.0.0.1",
        );
        assert!(asked.iter().any(|one| one.name == "b.example.net"));
    }

    #[test]
    fn aliases_that_never_end_are_given_up() {
        let round = |asked: &Asked| {
            Answer::Records(vec![
                alias(&asked.name, 60, "b.example.com"),
                alias("b.example.com", 60, &asked.name),
            ])
        };
        let server = NameServer::start(round);
        let found = run(resolver(&server).lookup(&name("a.example.com")));
        assert_eq!(found.unwrap_err().kind(), Kind::NotFound);
        assert!(server.asked().len() <= 2 * (RESOLVE_ALIASES_MAX + 2));

        let on_and_on = |asked: &Asked| {
            let next = format!("x{}", asked.name);
            Answer::Records(vec![alias(&asked.name, 60, &next)])
        };
        let server = NameServer::start(on_and_on);
        let found = run(resolver(&server).lookup(&name("a.example.com")));
        assert_eq!(found.unwrap_err().kind(), Kind::NotFound);
        assert!(server.asked().len() <= 2 * (RESOLVE_ALIASES_MAX + 2));

        let long = |asked: &Asked| {
            let (mut records, mut name) = (Vec::new(), asked.name.clone());
            for _ in 0..=RESOLVE_ALIASES_MAX {
                let next = format!("x{name}");
                records.push(alias(&name, 60, &next));
                name = next;
            }
            let end = match asked.is_v4() {
                true => "192.0.2.1",
                _ => "2001:db8::1",
            };
            records.push(address(&name, 60, end));
            Answer::Records(records)
        };
        check(
            "a.example.com",
            long,
            "the name server's answer for `a.example.com` makes no sense",
        );
    }

    #[test]
    fn a_truncated_answer_is_asked_for_over_tcp() {
        let asked = check(
            "a.example.com",
            |asked| match (asked.is_v4(), asked.tcp) {
                (true, false) => Answer::Truncated,
                _ => v4(asked, &["192.0.2.1"]),
            },
            "192.0.2.1",
        );
        assert!(asked.iter().any(|one| one.tcp));
    }

    #[test]
    fn absence_and_failure_are_told_apart() {
        let rows = [
            (ResponseCode::NXDomain, "`a.example.com` does not exist"),
            (ResponseCode::NoError, "`a.example.com` has no address"),
            (
                ResponseCode::ServFail,
                "the name server could not resolve `a.example.com`",
            ),
            (
                ResponseCode::Refused,
                "the name server could not resolve `a.example.com`",
            ),
        ];
        for (code, expected) in rows {
            check("a.example.com", move |_| Answer::Absent(code, 5), expected);
        }
    }

    #[test]
    fn one_version_is_enough() {
        check(
            "a.example.com",
            |asked| match asked.is_v4() {
                true => Answer::Absent(ResponseCode::ServFail, 0),
                _ => Answer::Records(vec![address(&asked.name, 60, "2001:db8::1")]),
            },
            "2001:db8::1",
        );
        let began = Instant::now();
        check(
            "a.example.com",
            |asked| match asked.is_v4() {
                true => v4(asked, &["192.0.2.1"]),
                _ => Answer::Silence,
            },
            "192.0.2.1",
        );
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn silence_and_nonsense_end_in_bounded_time() {
        let began = Instant::now();
        let late = "no name server answered for `a.example.com` in time";
        let silent = std::thread::spawn(|| check("a.example.com", |_| Answer::Silence, late));
        let nonsense = "the name server's answer for `a.example.com` makes no sense";
        check("a.example.com", |_| Answer::Bytes(vec![0xFF; 40]), nonsense);
        silent.join().unwrap();
        let most = Duration::from_millis(RESOLVE_MILLIS_MAX + 1_000);
        assert!(began.elapsed() < most, "{:?}", began.elapsed());
    }

    #[test]
    fn nobody_there_is_said() {
        let server = NameServer::start(|_| nothing());
        let gone = server.address();
        drop(server);
        let resolver = Resolver::new(&[gone], Vec::new());
        let error = run(resolver.lookup(&name("a.example.com"))).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    }

    #[test]
    fn the_system_is_asked_where_nobody_is_named() {
        // A name that no name server is asked for.
        let found = run(Resolver::new(&[], Vec::new()).lookup(&name("localhost")));
        let unreachable = ResolveError::Unreachable(name("localhost"));
        let here = Ok(vec![
            [127, 0, 0, 1].into(),
            std::net::Ipv6Addr::LOCALHOST.into(),
        ]);
        assert!(found == here || found == Err(unreachable), "{found:?}");
    }

    /// The second answer is another one, as soon as it may be: it is for the judge to refuse it.
    #[test]
    fn a_name_that_changes_is_asked_again_and_told_as_it_is() {
        let server = NameServer::start(|asked| match (asked.is_v4(), asked.before) {
            (true, 0) => Answer::Records(vec![address(&asked.name, 0, "192.0.2.1")]),
            (true, _) => Answer::Records(vec![address(&asked.name, 0, "169.254.169.254")]),
            _ => nothing(),
        });
        let resolver = resolver(&server);
        run(async {
            let name = name("a.example.com");
            assert_eq!(said(resolver.lookup(&name).await), "192.0.2.1");
            assert_eq!(said(resolver.lookup(&name).await), "192.0.2.1");
            assert_eq!(server.asked().len(), 2);
            tokio::time::sleep(Duration::from_millis(1_050)).await;
            assert_eq!(said(resolver.lookup(&name).await), "169.254.169.254");
        });
    }

    #[test]
    fn many_that_ask_for_one_name_at_once_ask_once() {
        let server = NameServer::start(|asked| v4(asked, &["192.0.2.1"]));
        let resolver = Arc::new(resolver(&server));
        run(async {
            let mut asking = tokio::task::JoinSet::new();
            for _ in 0..50 {
                let resolver = Arc::clone(&resolver);
                asking.spawn(async move { resolver.lookup(&name("a.example.com")).await });
            }
            for found in asking.join_all().await {
                assert_eq!(said(found), "192.0.2.1");
            }
        });
        assert!(server.asked().len() <= 4, "{:?}", server.asked());
    }
}
