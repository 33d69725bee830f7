//! A field of a secret in a key-value store that speaks HTTP as HashiCorp's Vault does (version 2 of
//! its key-value engine): `GET /v1/MOUNT/data/PATH` answers `{"data": {"data": {FIELD: …}}}`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use belljar_base::Kind;
use belljar_base::bounds::{SECRET_ANSWER_BYTES_MAX, SECRET_SOURCE_MILLIS_MAX};
use belljar_policy::egress::{Host, Scheme};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::{Origin, Source, SourceError, Surroundings};
use crate::secret::{Value, json};
use crate::trust::{Trust, server_name};

/// Where in a vault a value is, and where the token is that may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    place: Place,
    token: Box<Source>,
}

/// An address with TLS, then `/v1/MOUNT/data/PATH#FIELD`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Place {
    scheme: Scheme,
    host: Host,
    port: u16,
    path: String,
    field: String,
}

impl Vault {
    /// A field in a vault, with where its token is read.
    ///
    /// # Errors
    /// With the nearest valid form, when the address is none.
    pub fn new(address: &str, token: Source) -> Result<Self, SourceError> {
        if matches!(token, Source::Vault(_)) {
            let text = "the token for a vault is read from a file, a variable or a command";
            return Err(SourceError::new(Kind::Invalid, text));
        }
        Ok(Self {
            place: address.parse()?,
            token: Box::new(token),
        })
    }
}

impl FromStr for Place {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: &str| {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(128).collect();
            let example = "https://example.com:8200/v1/secret/data/app#token";
            let text = format!(
                "`{shown}` is not a place in a vault: {reason}; write for example `{example}`"
            );
            SourceError::new(Kind::Invalid, text)
        };
        let (address, field) = text
            .split_once('#')
            .filter(|(_, field)| !field.is_empty() && field.len() <= 256)
            .ok_or_else(|| refuse("it names no field"))?;
        let uri: Uri = address.parse().ok().ok_or_else(|| refuse("it is no URL"))?;
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("a URL with a user in it is not taken"));
        }
        let host: Host = authority
            .host()
            .parse()
            .ok()
            .ok_or_else(|| refuse("it names no host"))?;
        let near = match &host {
            Host::Address(address) => address.is_loopback(),
            Host::Name(name) => name.as_str() == "localhost",
        };
        let (scheme, port) = match uri.scheme_str() {
            Some("https") => (Scheme::Https, 443),
            Some("http") if near => (Scheme::Http, 80),
            Some("http") => return Err(refuse("without TLS a vault must be on this host")),
            Some(_) | None => return Err(refuse("it does not begin with https://")),
        };
        if !uri.path().starts_with("/v1/") || uri.query().is_some() {
            return Err(refuse("its path begins with /v1/ and has no query"));
        }
        Ok(Self {
            scheme,
            host,
            port: authority.port_u16().unwrap_or(port),
            path: uri.path().to_owned(),
            field: field.to_owned(),
        })
    }
}

impl TryFrom<String> for Place {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority();
        write!(
            f,
            "{}://{authority}{}#{}",
            self.scheme, self.path, self.field
        )
    }
}

impl fmt::Display for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl Place {
    fn host_name(&self) -> String {
        self.host.to_string()
    }

    fn authority(&self) -> String {
        match &self.host {
            Host::Address(address) if address.is_ipv6() => format!("[{address}]:{}", self.port),
            Host::Address(_) | Host::Name(_) => format!("{}:{}", self.host, self.port),
        }
    }
}

impl Origin for &Vault {
    fn read(&self, around: &Surroundings<'_>) -> Result<Value, SourceError> {
        let token = self.token.read(around)?;
        let roots = around.roots.as_slice();
        // A thread of its own: whoever calls may already be inside of a runtime.
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| self.ask(&token, roots));
            asked
                .join()
                .unwrap_or_else(|_panic| Err(self.failed("it could not be asked")))
        })
    }
}

impl Vault {
    fn failed(&self, reason: &str) -> SourceError {
        let host = self.place.authority();
        SourceError::new(
            Kind::Unavailable,
            format!("the vault `{host}` gives no value: {reason}"),
        )
    }

    fn ask(&self, token: &Value, roots: &[CertificateDer<'static>]) -> Result<Value, SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.failed(&error.to_string()))?;
        let limit = Duration::from_millis(SECRET_SOURCE_MILLIS_MAX);
        runtime.block_on(async {
            let asked = tokio::time::timeout(limit, self.fetch(token, roots)).await;
            asked.unwrap_or_else(|_late| Err(self.failed("it did not answer in time")))
        })
    }

    async fn fetch(
        &self,
        token: &Value,
        roots: &[CertificateDer<'static>],
    ) -> Result<Value, SourceError> {
        let host = self.place.host_name();
        let stream = TcpStream::connect((host.as_str(), self.place.port)).await;
        let stream = stream.map_err(|error| self.failed(&error.to_string()))?;
        if self.place.scheme == Scheme::Http {
            return self.exchange(stream, token).await;
        }
        let trust = Trust::new(roots).map_err(|error| self.failed(&error.to_string()))?;
        let name =
            server_name(&self.place.host).map_err(|error| self.failed(&error.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(trust.client(false));
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| self.failed(&error.to_string()))?;
        self.exchange(stream, token).await
    }

    async fn exchange<S>(&self, stream: S, token: &Value) -> Result<Value, SourceError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error: hyper::Error| self.failed(&error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut token = HeaderValue::from_bytes(token.bytes())
            .map_err(|_no_header| self.failed("its token fits no header"))?;
        token.set_sensitive(true);
        let request = Request::get(self.place.path.as_str())
            .header(header::HOST, self.place.authority())
            .header("x-vault-request", "true")
            .header("x-vault-token", token)
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.failed(&error.to_string()))?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            if status != StatusCode::OK {
                return Err(self.failed(&denied(status)));
            }
            let body = Limited::new(answer.into_body(), SECRET_ANSWER_BYTES_MAX)
                .collect()
                .await;
            let body = body.map_err(|_long| self.failed("its answer is broken or too long"))?;
            Ok(Zeroizing::new(Vec::from(body.to_bytes())))
        };
        // What breaks the connection breaks the exchange, which then says so.
        let driven = async {
            connection.await.ok();
            std::future::pending::<()>().await;
        };
        let body = tokio::select! {
            body = asked => body?,
            () = driven => return Err(self.failed("it hung up")),
        };
        self.field(&body)
    }

    fn field(&self, body: &[u8]) -> Result<Value, SourceError> {
        let field = &self.place.field;
        let pointer = format!("/data/data/{}", field.replace('~', "~0").replace('/', "~1"));
        let range = json::strings_at(body, &pointer).into_iter().next();
        let text = range
            .and_then(|range| body.get(range))
            .and_then(|text| serde_json::from_slice::<String>(text).ok())
            .map(Zeroizing::new)
            .ok_or_else(|| {
                self.failed(&format!("its answer has no text `{field}` in data.data"))
            })?;
        Value::copy(text.as_bytes()).map_err(|source| {
            SourceError::value(
                format!("the field `{field}` of the vault has no value"),
                source,
            )
        })
    }
}

fn denied(status: StatusCode) -> String {
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            format!("it answers {status}; its token may not read the secret")
        }
        StatusCode::NOT_FOUND => format!("it answers {status}; there is no secret at the path"),
        _ if status.is_redirection() => {
            format!("it answers {status}; name the address that it leads to")
        }
        _ => format!("it answers {status}"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use expect_test::{Expect, expect};

    /// What a vault gives that answers so; and what it was asked.
    fn answered(answer: &str) -> (Result<String, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = answer.replace('\n', "\r\n");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut piece = [0; 4096];
            while !asked.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut piece).unwrap();
                asked.extend_from_slice(&piece[..count]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        let place = format!("http://127.0.0.1:{port}/v1/secret/data/app#api key");
        let vault = Vault::new(&place, Source::Env("TOKEN".into())).unwrap();
        assert_eq!(vault.to_string(), place);
        let around = Surroundings {
            variable: &|_name| Some(OsString::from("token-of-ours")),
            roots: Vec::new(),
        };
        let read = (&vault).read(&around);
        let told = |error: SourceError| match &error.source {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let read = read
            .map(|value| String::from_utf8(value.bytes().to_vec()).unwrap())
            .map_err(|error| told(error).replace(&port.to_string(), "PORT"));
        (read, server.join().unwrap())
    }

    fn check(head: &str, body: &str, expected: &Expect) {
        let answer = format!("HTTP/1.1 {head}\ncontent-length: {}\n\n{body}", body.len());
        let (Ok(shown) | Err(shown)) = answered(&answer).0;
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_field_is_read() {
        let body = r#"{"data": {"data": {"api key": "sk-\"live\"-1", "n": 1}, "metadata": {}}}"#;
        let answer = format!("HTTP/1.1 200 OK\ncontent-length: {}\n\n{body}", body.len());
        let (value, asked) = answered(&answer);
        assert_eq!(value.unwrap(), "sk-\"live\"-1");
        assert!(
            asked.starts_with("GET /v1/secret/data/app HTTP/1.1\r\n"),
            "{asked}"
        );
        assert!(
            asked.contains("x-vault-token: token-of-ours\r\n"),
            "{asked}"
        );
    }

    #[test]
    fn what_is_no_value_is_said() {
        check(
            "200 OK",
            "{}",
            &expect![
                "the vault `127.0.0.1:PORT` gives no value: its answer has no text `api key` in data.data"
            ],
        );
        check(
            "200 OK",
            "{",
            &expect![
                "the vault `127.0.0.1:PORT` gives no value: its answer has no text `api key` in data.data"
            ],
        );
        check(
            "200 OK",
            r#"{"data":{"data":{"api key":""}}}"#,
            &expect![
                "the field `api key` of the vault has no value: the value is empty; give it on standard input, or name a source with --from-file"
            ],
        );
        check(
            "403 Forbidden",
            "{}",
            &expect![
                "the vault `127.0.0.1:PORT` gives no value: it answers 403 Forbidden; its token may not read the secret"
            ],
        );
        check(
            "404 Not Found",
            "",
            &expect![
                "the vault `127.0.0.1:PORT` gives no value: it answers 404 Not Found; there is no secret at the path"
            ],
        );
        check(
            "307 Temporary Redirect",
            "",
            &expect![
                "the vault `127.0.0.1:PORT` gives no value: it answers 307 Temporary Redirect; name the address that it leads to"
            ],
        );
        let long = "x".repeat(SECRET_ANSWER_BYTES_MAX + 1);
        check(
            "200 OK",
            &long,
            &expect!["the vault `127.0.0.1:PORT` gives no value: its answer is broken or too long"],
        );
    }

    #[test]
    fn places_are_checked() {
        let place = |text: &str| {
            let vault = Vault::new(text, Source::Env("TOKEN".into()));
            vault.map_or_else(|error| error.to_string(), |vault| vault.to_string())
        };
        assert_eq!(
            place("https://example.com/v1/kv/data/a#f"),
            "https://example.com:443/v1/kv/data/a#f"
        );
        for bad in [
            "",
            "https://example.com/v1/kv/data/a",
            "https://example.com/v1/kv/data/a#",
            "http://example.com/v1/kv/data/a#f",
            "ftp://localhost/v1/a#f",
            "/v1/a#f",
            concat!("https:", "//me:pw@example.com/v1/a#f"),
            "https://example.com/a#f",
            "https://example.com/v1/a?b#f",
        ] {
            let told = place(bad);
            assert!(
                told.contains("is not a place in a vault: "),
                "{bad}: {told}"
            );
        }
    }
}
