//! TLS whose greeting has been read: refused, looked into, or passed through as it is.

use std::sync::Arc;
use std::time::Duration;

use belljar_base::bounds::EGRESS_HEAD_MILLIS_MAX;
use belljar_policy::egress::{Asked, Host, Scheme, terminates};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::farewell::{Alert, farewell};
use super::hall::{Caller, Hall};
use crate::hello::Hello;
use crate::http::{self, Target};
use crate::judge::{Attempt, Refused, code};
use crate::sniff::Heard;
use crate::tunnel::Tunnel;

impl Hall {
    /// Leads a connection on that speaks TLS.
    pub(super) async fn tls(&self, caller: Caller, hello: &Hello) -> Option<Tunnel> {
        let asked = Asked {
            scheme: Scheme::Https,
            host: &caller.host,
            port: caller.port,
        };
        if let Err(refused) = self.judge.admit(&asked).await {
            farewell(caller.stream, &Alert::denied(&refused).record()).await;
            return None;
        }
        if let Err(refused) = check(hello, &caller.host) {
            let attempt = Attempt::connection(&asked);
            let refused = self.judge.refuse(attempt, refused).await;
            farewell(caller.stream, &Alert::doubted(&refused).record()).await;
            return None;
        }
        let rules = self.judge.rules();
        if terminates(&rules, &asked) || self.context.injector.concerns(&asked) {
            drop(rules);
            self.terminate(caller).await;
            return None;
        }
        drop(rules);
        self.tunnel(caller, Scheme::Https).await
    }

    /// Answers as the host, with a certificate of the run's authority, and serves what is inside.
    async fn terminate(&self, caller: Caller) {
        let target = Target {
            host: caller.host.clone(),
            port: caller.port,
            scheme: Scheme::Https,
        };
        let asked = Asked {
            scheme: Scheme::Https,
            host: &target.host,
            port: target.port,
        };
        let Ok(settings) = self.context.authority.server(&caller.host) else {
            farewell(caller.stream, &Alert::Internal.record()).await;
            return;
        };
        let acceptor = TlsAcceptor::from(settings);
        let heard = Heard::new(caller.said, caller.stream);
        let limit = Duration::from_millis(EGRESS_HEAD_MILLIS_MAX);
        let Ok(Ok(stream)) = timeout(limit, acceptor.accept(heard)).await else {
            let reason = "the program did not complete TLS with the run's certificate";
            let remedy = "let the program trust the run's certificate authority";
            let refused = Refused::new(code::PROTO_DENIED, reason, remedy);
            self.judge
                .refuse(Attempt::connection(&asked), refused)
                .await;
            return;
        };
        let http2 = speaks_http2(&stream);
        http::serve(stream, target, http2, Arc::clone(&self.context)).await;
    }
}

fn speaks_http2(stream: &TlsStream<Heard<TcpStream>>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// Whether a greeting means the host of its connection, and nothing but HTTP.
fn check(hello: &Hello, host: &Host) -> Result<(), Refused> {
    if hello.encrypted {
        return Err(mismatch("the TLS greeting hides the name it means"));
    }
    match (&hello.name, host) {
        (Some(name), Host::Name(host)) if name == host => {}
        // An address has no place in a TLS greeting: a client that means one says nothing.
        (None, Host::Address(_)) => {}
        (None, Host::Name(_)) => return Err(mismatch("the TLS greeting names no host")),
        (Some(_), Host::Name(_) | Host::Address(_)) => {
            return Err(mismatch("the TLS greeting names another host"));
        }
    }
    let known = |protocol: &Vec<u8>| HTTP.contains(&protocol.as_slice());
    if hello.protocols.iter().all(known) {
        return Ok(());
    }
    Err(Refused::protocol("what is offered in TLS is not only HTTP"))
}

const HTTP: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

fn mismatch(reason: &str) -> Refused {
    let remedy = "let TLS name the host that the connection is for";
    Refused::new(code::SNI_MISMATCH, reason, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(
        name: Option<&str>,
        protocols: &[&str],
        encrypted: bool,
        host: &str,
    ) -> &'static str {
        let hello = Hello {
            name: name.map(|name| name.parse().unwrap()),
            protocols: protocols.iter().map(|p| p.as_bytes().to_vec()).collect(),
            encrypted,
        };
        check(&hello, &host.parse().unwrap()).map_or_else(|refused| refused.code, |()| "passes")
    }

    #[test]
    fn the_name_is_the_host() {
        let host = "api.example.com";
        assert_eq!(
            checked(Some(host), &["h2", "http/1.1"], false, host),
            "passes"
        );
        assert_eq!(checked(Some("API.example.com"), &[], false, host), "passes");
        assert_eq!(checked(None, &[], false, "1.1.1.1"), "passes");
        let mismatch = "egress.sni_mismatch";
        assert_eq!(checked(None, &[], false, host), mismatch);
        assert_eq!(checked(Some("www.example.com"), &[], false, host), mismatch);
        assert_eq!(checked(Some(host), &[], true, host), mismatch);
        assert_eq!(checked(Some(host), &[], false, "1.1.1.1"), mismatch);
        assert_eq!(
            checked(Some(host), &["h2", "ssh"], false, host),
            "egress.proto_denied"
        );
    }
}
