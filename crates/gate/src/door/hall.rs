//! What happens to one connection between the door and the way out: whom it means, what it speaks,
//! whether that may pass, and in which way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use belljar_policy::Decision;
use belljar_policy::egress::{Asked, Host, Scheme, decide_connection, is_observed};
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::farewell::{Alert, farewell};
use crate::dial::dial;
use crate::dns::Names;
use crate::http::{self, Context, Target};
use crate::judge::{Attempt, Judge, Refused};
use crate::proxy::{self, Voice, Wanted};
use crate::sniff::{Heard, Speech, sniff};
use crate::tunnel::Tunnel;

/// What all connections of a run share.
pub(super) struct Hall {
    pub(super) judge: Arc<Judge>,
    pub(super) names: Arc<Names>,
    pub(super) context: Arc<Context>,
}

/// By which door a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Redirected on its way to somebody else.
    Transparent,
    /// From a program that asks a proxy.
    Proxy,
}

/// Somebody's connection, and what they said of it.
pub(super) struct Caller {
    pub(super) stream: TcpStream,
    pub(super) said: Vec<u8>,
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Caller {
    fn asked(&self, scheme: Scheme) -> Asked<'_> {
        Asked {
            scheme,
            host: &self.host,
            port: self.port,
        }
    }

    fn target(&self, scheme: Scheme) -> Target {
        Target {
            host: self.host.clone(),
            port: self.port,
            scheme,
        }
    }
}

impl Hall {
    /// Leads a connection on. What is left when all is judged is at most a tunnel, so that what was
    /// needed for judging takes no room while bytes pass.
    pub(super) async fn enter(&self, stream: TcpStream, way: Way) -> Option<Tunnel> {
        // Without it everything works, later.
        stream.set_nodelay(true).ok();
        match way {
            Way::Transparent => self.redirected(stream).await,
            Way::Proxy => self.asked(stream).await,
        }
    }

    async fn redirected(&self, stream: TcpStream) -> Option<Tunnel> {
        let Some(meant) = destination(&stream) else {
            let attempt = Attempt::to("tcp", "the gate itself".to_owned(), 0);
            let refused = Refused::protocol("nobody but the gate is there");
            self.judge.refuse(attempt, refused).await;
            return None;
        };
        let caller = Caller {
            stream,
            said: Vec::new(),
            host: self.meant(meant.ip()),
            port: meant.port(),
        };
        self.pass(caller).await
    }

    async fn asked(&self, mut stream: TcpStream) -> Option<Tunnel> {
        match proxy::hear(&mut stream).await {
            Wanted::Gone => None,
            Wanted::Nothing(doubt) => {
                let attempt = Attempt::to("proxy", "not understood".to_owned(), 0);
                let refused = Refused::malformed(doubt.reason);
                let refused = self.judge.refuse(attempt, refused).await;
                farewell(stream, &doubt.voice.refused(&refused)).await;
                None
            }
            // Each request over this connection names its own host, and is judged by it.
            Wanted::Request { said } => {
                let context = Arc::clone(&self.context);
                http::forward(Heard::new(said, stream), context).await;
                None
            }
            Wanted::Connection {
                host,
                port,
                voice,
                said,
            } => {
                let host = self.named(host);
                let caller = Caller {
                    stream,
                    said,
                    host,
                    port,
                };
                self.connect(caller, voice).await
            }
        }
    }

    /// A proxy's client is told what the judge says before it says anything to the host.
    async fn connect(&self, mut caller: Caller, voice: Voice) -> Option<Tunnel> {
        if let Err(refused) = self.judge.entry(&caller.host, caller.port).await {
            farewell(caller.stream, &voice.refused(&refused)).await;
            return None;
        }
        caller.stream.write_all(&voice.granted()).await.ok()?;
        self.pass(caller).await
    }

    /// Finds out what a connection speaks, and leads it on accordingly.
    async fn pass(&self, mut caller: Caller) -> Option<Tunnel> {
        // Where bytes that nobody looks at are let through, the server may be the first to speak.
        let opaque = caller.asked(Scheme::Tcp);
        if let Decision::Allow { .. } = decide_connection(&self.judge.rules(), &opaque) {
            return self.tunnel(caller, Scheme::Tcp).await;
        }
        match sniff(&mut caller.stream, &mut caller.said).await {
            Speech::Gone => None,
            Speech::Http => {
                let target = caller.target(Scheme::Http);
                let heard = Heard::new(caller.said, caller.stream);
                http::serve(heard, target, false, Arc::clone(&self.context)).await;
                None
            }
            Speech::Tls(hello) => self.tls(caller, &hello).await,
            Speech::Unknown(reason) => self.unknown(caller, reason).await,
        }
    }

    async fn unknown(&self, caller: Caller, reason: &'static str) -> Option<Tunnel> {
        let opaque = caller.asked(Scheme::Tcp);
        let rules = self.judge.rules();
        if is_observed(&rules, &opaque, None) {
            drop(rules);
            return self.tunnel(caller, Scheme::Tcp).await;
        }
        // A host that is denied is denied whatever is spoken to it.
        let likely = caller.asked(Scheme::Https);
        let refused = match decide_connection(&rules, &likely) {
            Decision::Allow { .. } => Refused::protocol(reason),
            Decision::Hold(refusal) | Decision::Deny(refusal) => Refused::policy(refusal),
        };
        let attempt = Attempt::connection(&opaque);
        self.judge.refuse(attempt, refused).await;
        None
    }

    /// Writes the attempt, dials, and joins the two ends.
    pub(super) async fn tunnel(&self, caller: Caller, scheme: Scheme) -> Option<Tunnel> {
        let asked = caller.asked(scheme);
        let in_tls = scheme == Scheme::Https;
        let (passage, addresses) = match self.judge.connection(&asked).await {
            Ok(passage) => passage,
            Err(refused) => {
                if in_tls {
                    farewell(caller.stream, &Alert::denied(&refused).record()).await;
                }
                return None;
            }
        };
        let Ok(server) = dial(&addresses).await else {
            passage.ended("unreachable");
            if in_tls {
                farewell(caller.stream, &Alert::Internal.record()).await;
            }
            return None;
        };
        Some(Tunnel {
            client: caller.stream,
            server,
            first: caller.said,
            passage,
        })
    }

    /// The host that an address stands for: the name that was answered with it, or itself.
    fn meant(&self, address: IpAddr) -> Host {
        let address = address.to_canonical();
        let name = match address {
            IpAddr::V4(synthetic) => self.names.name_of(synthetic),
            IpAddr::V6(_) => None,
        };
        name.map_or(Host::Address(address), Host::Name)
    }

    fn named(&self, host: Host) -> Host {
        match host {
            Host::Address(address) => self.meant(address),
            Host::Name(name) => Host::Name(name),
        }
    }
}

/// Whom a redirected connection was opened to.
fn destination(stream: &TcpStream) -> Option<SocketAddr> {
    let local = stream.local_addr().ok()?;
    let meant: SocketAddr = match local {
        SocketAddr::V4(_) => ip_original_dst(stream).ok()?.into(),
        SocketAddr::V6(_) => ipv6_original_dst(stream).ok()?.into(),
    };
    // Whoever was not redirected means the door itself; behind it is nothing of that name.
    (meant.ip().to_canonical() != local.ip().to_canonical() || meant.port() != local.port())
        .then_some(meant)
}
