//! Puts values into requests: where a placeholder stands and belongs, and nowhere else.

use std::sync::Arc;

use belljar_policy::egress::{Asked, Scheme};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, IF_RANGE, RANGE,
    SEC_WEBSOCKET_EXTENSIONS,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, Uri};
use zeroize::Zeroizing;

use super::binding::Place;
use super::find::{Finder, Wanted};
use super::mask::Mask;
use super::misuse::Misuse;
use super::name::SecretName;
use super::outgoing::Outgoing;
use super::sigv4::Claim;
use super::swap;
use super::value::ValueError;
use super::{Keys, Secret};

/// The secrets of a run, at work.
#[derive(Debug)]
pub(crate) struct Injector {
    secrets: Arc<[Secret]>,
    placeholders: Arc<Finder>,
    values: Arc<Finder>,
}

/// What was done to a request's head, and what is to be done with its body.
#[derive(Debug)]
pub(crate) struct Injected {
    /// Whose values the head carries now: for the record.
    pub(crate) secrets: Vec<SecretName>,
    /// Looks through the body, or changes it.
    pub(crate) body: Outgoing,
}

impl Injector {
    /// Makes the secrets of a run ready.
    pub(crate) fn new(secrets: Vec<Secret>) -> Result<Self, ValueError> {
        let wanted: Vec<Wanted<'_>> = (0..)
            .zip(&secrets)
            .map(|(owner, secret)| Wanted {
                text: secret.mark.as_bytes(),
                any_case: true,
                owner,
            })
            .collect();
        let placeholders = Finder::new(&wanted).map_err(ValueError::Memory)?;
        let wanted: Vec<Wanted<'_>> = (0..)
            .zip(&secrets)
            .flat_map(|(owner, secret)| {
                secret.hidden().into_iter().map(move |text| Wanted {
                    text,
                    any_case: false,
                    owner,
                })
            })
            .collect();
        let values = Finder::new(&wanted).map_err(ValueError::Memory)?;
        Ok(Self {
            secrets: secrets.into(),
            placeholders: Arc::new(placeholders),
            values: Arc::new(values),
        })
    }

    /// Whether TLS to this host must be looked into. With a secret in the run that is every host:
    /// a placeholder on its way to a stranger could not be seen otherwise.
    pub(crate) fn concerns(&self, asked: &Asked<'_>) -> bool {
        !self.secrets.is_empty() && matches!(asked.scheme, Scheme::Https | Scheme::Wss)
    }

    /// Refuses text that carries a placeholder where none can belong: a host name, a server name.
    pub(crate) fn text(&self, text: &[u8], host: &str) -> Result<(), Misuse> {
        match self.stray(text) {
            Some(secret) => Err(secret.stray(host)),
            None => Ok(()),
        }
    }

    /// Looks through a request's head. Placeholders that belong become values; one that does not
    /// refuses the request, and then `parts` is as it was.
    ///
    /// From here on the head must not be written anywhere but to the host it is for.
    pub(crate) fn head(&self, asked: &Asked<'_>, parts: &mut Parts) -> Result<Injected, Misuse> {
        if self.secrets.is_empty() {
            return Ok(Injected {
                secrets: Vec::new(),
                body: Outgoing::unseen(),
            });
        }
        let host = asked.host.to_string();
        self.text(parts.method.as_str().as_bytes(), &host)?;
        let mut names = Vec::new();
        let mut signer = None;
        if self.stray_in(&parts.uri, &parts.headers).is_some() {
            let (mut uri, mut headers) = (parts.uri.clone(), parts.headers.clone());
            for (number, secret) in (0..).zip(self.secrets.iter()) {
                if !secret.binding.is_for(asked) || !secret.binding.has_method(&parts.method) {
                    continue;
                }
                if inject(secret, &mut uri, &mut headers) {
                    names.push(secret.name.clone());
                }
                if let Some(claim) = Claim::of(&headers).filter(|claim| claim.is_for(secret)) {
                    names.push(secret.name.clone());
                    signer = Some((number, claim.take(&mut headers)));
                }
            }
            if let Some(secret) = self.stray_in(&uri, &headers) {
                return Err(secret.stray(&host));
            }
            parts.uri = uri;
            parts.headers = headers;
        }
        if self.echoes(asked).is_some() {
            readable(&mut parts.headers);
        }
        let body = Outgoing::new(
            Arc::clone(&self.secrets),
            Arc::clone(&self.placeholders),
            asked,
            parts,
            signer,
        )?;
        Ok(Injected {
            secrets: names,
            body,
        })
    }

    /// Masks what comes back from a host; nothing if the run has no secrets.
    pub(crate) fn mask(&self, asked: &Asked<'_>) -> Option<Mask> {
        if self.values.is_empty() {
            return None;
        }
        let unreadable = self.echoes(asked).map(|secret| {
            Misuse::unusable(
                &secret.name,
                &asked.host.to_string(),
                format!(
                    "the answer came compressed unasked, so that it cannot be looked through for the secret `{}`",
                    secret.name
                ),
                "ask for something that is sent as it is",
            )
        });
        Some(Mask::new(Arc::clone(&self.values), unreadable))
    }

    /// A secret whose value this host may get, and so may repeat.
    fn echoes(&self, asked: &Asked<'_>) -> Option<&Secret> {
        let echoes = |secret: &&Secret| {
            secret.binding.is_for(asked) && (secret.binding.travels() || secret.has_session())
        };
        self.secrets.iter().find(echoes)
    }

    fn stray(&self, bytes: &[u8]) -> Option<&Secret> {
        self.secrets.get(self.placeholders.owner_in(bytes)?)
    }

    fn stray_in(&self, uri: &Uri, headers: &HeaderMap) -> Option<&Secret> {
        let authority = uri.authority().map(|authority| authority.as_str());
        let path = uri.path_and_query().map(PathAndQuery::as_str);
        let texts = [authority, path].into_iter().flatten().map(str::as_bytes);
        let names = headers.keys().map(|name| name.as_str().as_bytes());
        let values = headers.values().map(HeaderValue::as_bytes);
        texts
            .chain(names)
            .chain(values)
            .find_map(|bytes| self.stray(bytes))
    }
}

/// Asks for an answer that can be looked through: whole, and as it is.
fn readable(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // A value asked for in pieces would come back in pieces that nobody knows again.
    for name in [RANGE, IF_RANGE, SEC_WEBSOCKET_EXTENSIONS] {
        headers.remove(name);
    }
}

/// Puts one value wherever its placeholder stands and belongs; whether there was such a place.
fn inject(secret: &Secret, uri: &mut Uri, headers: &mut HeaderMap) -> bool {
    let mut put = false;
    for place in &secret.binding.places {
        put |= match place {
            Place::Header { name, format } => into_header(secret, name, format, headers),
            Place::Basic { user } => into_basic(secret, user, headers),
            Place::Query { name } => swap::query(secret, name, uri),
            // The body comes later, and signing is done over the whole head.
            Place::Json { .. } | Place::Sigv4 { .. } => false,
        };
    }
    put
}

fn into_header(secret: &Secret, name: &str, format: &str, headers: &mut HeaderMap) -> bool {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return false;
    };
    let http::header::Entry::Occupied(mut entry) = headers.entry(name) else {
        return false;
    };
    let mut put = false;
    for value in entry.iter_mut() {
        put |= replace(value, swap::header(secret, format, value.as_bytes()));
    }
    put
}

fn into_basic(secret: &Secret, user: &str, headers: &mut HeaderMap) -> bool {
    let Some(value) = headers.get_mut(AUTHORIZATION) else {
        return false;
    };
    let text = swap::basic(secret, user, value.as_bytes());
    replace(value, text)
}

/// Puts a new value into a header field; it is never shown, and never kept for later requests.
fn replace(value: &mut HeaderValue, text: Option<Zeroizing<Vec<u8>>>) -> bool {
    let Some(mut new) = text.and_then(|text| HeaderValue::from_bytes(&text).ok()) else {
        return false;
    };
    new.set_sensitive(true);
    *value = new;
    true
}

impl Secret {
    pub(super) fn stray(&self, host: &str) -> Misuse {
        Misuse::stray(&self.name, host, &self.binding.belongs())
    }

    /// What must not come back.
    fn hidden(&self) -> Vec<&[u8]> {
        match Keys::of(self) {
            Some(keys) => [Some(keys.secret), keys.session]
                .into_iter()
                .flatten()
                .collect(),
            None => vec![self.value.bytes()],
        }
    }

    fn has_session(&self) -> bool {
        Keys::of(self).is_some_and(|keys| keys.session.is_some())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use http::Request;
    use http::header::{AUTHORIZATION, COOKIE};
    use proptest::prelude::*;

    use super::*;
    use crate::secret::{Binding, Value};
    use belljar_policy::egress::Host;

    const VALUE: &str = "sk-live/0123+456\"789 é";

    /// A run with one secret for `api.example.com`.
    fn injector(places: Vec<Place>, methods: &[&str]) -> Injector {
        injector_of(VALUE, places, methods)
    }

    fn injector_of(value: &str, places: Vec<Place>, methods: &[&str]) -> Injector {
        let hosts = vec!["api.example.com".parse().unwrap()];
        let methods: Vec<String> = methods.iter().map(|&method| method.to_owned()).collect();
        let binding = Binding::new(hosts, &methods, places).unwrap();
        let value = Value::copy(value.as_bytes()).unwrap();
        let secret = Secret::new("API_KEY".parse().unwrap(), binding, value).unwrap();
        Injector::new(vec![secret]).unwrap()
    }

    fn bearer() -> Injector {
        injector(vec![Place::header("Authorization", None).unwrap()], &[])
    }

    /// A head with each `{}` as the placeholder.
    fn request(injector: &Injector, method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let placeholder = injector.secrets[0].placeholder();
        let mut request = Request::builder()
            .method(method)
            .uri(uri.replace("{}", placeholder));
        for (name, value) in fields {
            request = request.header(*name, value.replace("{}", placeholder));
        }
        request.body(()).unwrap().into_parts().0
    }

    fn send(injector: &Injector, host: &str, parts: &mut Parts) -> Result<Injected, Misuse> {
        let host: Host = host.parse().unwrap();
        let asked = Asked {
            scheme: Scheme::Https,
            host: &host,
            port: 443,
        };
        injector.head(&asked, parts)
    }

    #[track_caller]
    fn refused(injector: &Injector, host: &str, method: &str, uri: &str, fields: &[(&str, &str)]) {
        let mut parts = request(injector, method, uri, fields);
        let before = format!("{parts:?}");
        let misuse = send(injector, host, &mut parts).unwrap_err();
        assert!(misuse.is_incident);
        assert_eq!(misuse.secret.as_str(), "API_KEY");
        assert_eq!(
            format!("{parts:?}"),
            before,
            "a refused request is as it was"
        );
        let told = format!("{misuse:?}");
        assert!(
            !told.contains("sk-live") && !told.contains("belljar-secret"),
            "{told}"
        );
    }

    fn field<'a>(parts: &'a Parts, name: &str) -> &'a [u8] {
        parts.headers[name].as_bytes()
    }

    #[test]
    fn a_header_gets_the_value() {
        let injector = bearer();
        for (given, wanted) in [
            ("{}", format!("Bearer {VALUE}")),
            ("Bearer {}", format!("Bearer {VALUE}")),
            ("token {}", format!("token {VALUE}")),
        ] {
            let mut parts = request(&injector, "GET", "/x", &[("authorization", given)]);
            let injected = send(&injector, "api.example.com", &mut parts).unwrap();
            assert_eq!(field(&parts, "authorization"), wanted.as_bytes());
            assert_eq!(injected.secrets.len(), 1);
            assert!(parts.headers[AUTHORIZATION].is_sensitive());
            assert_eq!(field(&parts, "accept-encoding"), b"identity");
        }
        let placeholder = injector.secrets[0].placeholder();
        let given = format!("Basic {}", STANDARD.encode(format!("x:{placeholder}")));
        let mut parts = request(&injector, "GET", "/x", &[("authorization", &given)]);
        send(&injector, "api.example.com", &mut parts).unwrap();
        let wanted = format!("Basic {}", STANDARD.encode(format!("x:{VALUE}")));
        assert_eq!(field(&parts, "authorization"), wanted.as_bytes());
    }

    #[test]
    fn a_head_without_a_placeholder_gets_nothing() {
        let injector = bearer();
        let mut parts = request(&injector, "GET", "/x", &[("authorization", "Bearer other")]);
        let injected = send(&injector, "api.example.com", &mut parts).unwrap();
        assert!(injected.secrets.is_empty());
        assert_eq!(field(&parts, "authorization"), b"Bearer other");
    }

    #[test]
    fn strangers_get_nothing() {
        let injector = bearer();
        let header: &[_] = &[("authorization", "Bearer {}")];
        refused(&injector, "evil.example.com", "GET", "/x", header);
        refused(&injector, "example.com", "GET", "/x", header);
        refused(&injector, "127.0.0.1", "GET", "/x", header);
        let host: Host = "api.example.com".parse().unwrap();
        for (scheme, port) in [
            (Scheme::Http, 80),
            (Scheme::Http, 443),
            (Scheme::Https, 8443),
        ] {
            let mut parts = request(&injector, "GET", "/x", header);
            let asked = Asked {
                scheme,
                host: &host,
                port,
            };
            assert!(
                injector.head(&asked, &mut parts).is_err(),
                "{scheme} {port}"
            );
        }
        let misuse = injector
            .text(injector.secrets[0].mark.to_uppercase().as_bytes(), "h")
            .unwrap_err();
        assert_eq!(misuse.event().unwrap().name(), "secret.misused");
    }

    #[test]
    fn other_places_get_nothing() {
        let injector = bearer();
        let refused = |method: &str, uri: &str, fields: &[(&str, &str)]| {
            refused(&injector, "api.example.com", method, uri, fields);
        };
        let placeholder = injector.secrets[0].placeholder();
        refused("GET", "/{}", &[]);
        refused("GET", "/x?key={}", &[]);
        refused("GET", "/x", &[("x-other", "{}")]);
        refused(
            "GET",
            "/x",
            &[("authorization", "Bearer {}"), ("x-other", "{}")],
        );
        refused("GET", "/x", &[(COOKIE.as_str(), "a=1; b={}")]);
        refused("GET", "/x", &[("x-other", &placeholder.to_uppercase())]);
        refused("GET", "/x", &[(placeholder, "1")]);
        let percent: String = placeholder.bytes().map(|b| format!("%{b:02x}")).collect();
        refused("GET", &format!("/{percent}"), &[]);
        for before in ["", "a", "ab"] {
            let text = STANDARD.encode(format!("{before}{placeholder}{before}"));
            refused(
                "GET",
                &format!("/?q={}", text.replace('=', "%3D").replace('+', "%2B")),
                &[],
            );
            refused("GET", "/x", &[("authorization", &format!("Custom {text}"))]);
        }
        let limited = bearer_for(&["GET"]);
        super::tests::refused(
            &limited,
            "api.example.com",
            "POST",
            "/x",
            &[("authorization", "{}")],
        );
        let mut parts = request(&limited, "GET", "/x", &[("authorization", "{}")]);
        assert!(send(&limited, "api.example.com", &mut parts).is_ok());
    }

    fn bearer_for(methods: &[&str]) -> Injector {
        injector(vec![Place::header("Authorization", None).unwrap()], methods)
    }

    #[test]
    fn basic_is_for_one_user() {
        let injector = injector(vec![Place::basic("deploy").unwrap()], &[]);
        let placeholder = injector.secrets[0].placeholder().to_owned();
        let given =
            |user: &str| format!("basic {}", STANDARD.encode(format!("{user}:{placeholder}")));
        for given in [given("deploy"), "{}".to_owned()] {
            let mut parts = request(&injector, "GET", "/x", &[("authorization", &given)]);
            send(&injector, "api.example.com", &mut parts).unwrap();
            let wanted = format!("Basic {}", STANDARD.encode(format!("deploy:{VALUE}")));
            assert_eq!(field(&parts, "authorization"), wanted.as_bytes());
        }
        refused(
            &injector,
            "api.example.com",
            "GET",
            "/x",
            &[("authorization", &given("root"))],
        );
        refused(
            &injector,
            "api.example.com",
            "GET",
            "/x",
            &[("authorization", "Bearer {}")],
        );
    }

    #[test]
    fn a_query_parameter_gets_the_value() {
        let injector = injector(vec![Place::query("api key").unwrap()], &[]);
        let uri = "https://example.com/x?a=1&api%20key={}&b=%7e&api+key=k:{}";
        let mut parts = request(&injector, "GET", uri, &[]);
        send(&injector, "api.example.com", &mut parts).unwrap();
        let value = "sk-live%2F0123%2B456%22789%20%C3%A9";
        assert_eq!(
            parts.uri.to_string(),
            format!("https://example.com/x?a=1&api%20key={value}&b=%7e&api+key=k%3A{value}")
        );
        refused(&injector, "api.example.com", "GET", "/x?a=1&b={}", &[]);
        refused(&injector, "api.example.com", "GET", "/{}?api%20key={}", &[]);
    }

    #[test]
    fn a_json_string_gets_the_value() {
        let injector = injector(vec![Place::json("/auth/token").unwrap()], &[]);
        let placeholder = injector.secrets[0].placeholder().to_owned();
        let json = [
            ("content-type", "application/json; charset=utf-8"),
            ("content-length", "1"),
        ];
        let mut parts = request(&injector, "POST", "/x", &json);
        let mut body = send(&injector, "api.example.com", &mut parts).unwrap().body;
        assert!(body.whole_bytes_max().is_some());
        let given = format!(r#"{{ "n": 1.50, "auth": {{"token":"Bearer {placeholder}"}} }}"#);
        let (out, names) = body.whole(&mut parts, Bytes::from(given)).unwrap();
        let wanted = r#"{ "n": 1.50, "auth": {"token":"Bearer sk-live/0123+456\"789 é"} }"#;
        assert_eq!(out, wanted.as_bytes());
        assert_eq!(names.len(), 1);
        assert_eq!(
            field(&parts, "content-length"),
            wanted.len().to_string().as_bytes()
        );
        for stray in [
            r#"{"auth":{"other":"{}"}}"#,
            r#"["{}"]"#,
            r#"{"auth":{"token":"{}","x":"{}"}}"#,
            "{} {",
        ] {
            let stray = stray.replace("{}", &placeholder);
            assert!(
                body.whole(&mut parts, Bytes::from(stray))
                    .unwrap_err()
                    .is_incident
            );
        }
        let mut parts = request(&injector, "POST", "/x", &[("content-type", "text/plain")]);
        let body = send(&injector, "api.example.com", &mut parts).unwrap().body;
        assert!(body.whole_bytes_max().is_none());
    }

    #[test]
    fn a_body_gives_a_placeholder_away() {
        let injector = bearer();
        let placeholder = injector.secrets[0].placeholder();
        let spelled = [
            placeholder.to_owned(),
            STANDARD.encode(format!("ab{placeholder}")),
        ];
        for text in spelled {
            let text = format!("some bytes {text} some more");
            for size in [1, 7, 16, 1000] {
                let mut parts = request(&injector, "POST", "/x", &[]);
                let mut body = send(&injector, "evil.example.com", &mut parts)
                    .unwrap()
                    .body;
                let end = text
                    .as_bytes()
                    .chunks(size)
                    .try_for_each(|piece| body.piece(piece));
                assert!(end.unwrap_err().is_incident, "{size}");
            }
        }
        let mut parts = request(&injector, "POST", "/x", &[]);
        let mut body = send(&injector, "evil.example.com", &mut parts)
            .unwrap()
            .body;
        assert!(body.piece(&[b'%'; 100_000]).is_ok());
        assert!(body.piece(b"belljar-secret-API-KEY-").is_ok());
    }

    #[test]
    fn pieces_of_an_answer_cannot_be_asked_for() {
        let injector = bearer();
        let fields = [("range", "bytes=0-3"), ("accept-encoding", "gzip")];
        let mut parts = request(&injector, "GET", "/x", &fields);
        send(&injector, "api.example.com", &mut parts).unwrap();
        assert!(!parts.headers.contains_key(RANGE));
        let mut parts = request(&injector, "GET", "/x", &fields);
        send(&injector, "other.example.com", &mut parts).unwrap();
        assert!(parts.headers.contains_key(RANGE));
        assert_eq!(field(&parts, "accept-encoding"), b"gzip");
    }

    /// How often a value is in some bytes, in any spelling.
    fn count(injector: &Injector, bytes: &[u8]) -> usize {
        let (mut at, mut count) = (0, 0);
        while let Some(place) = injector.values.candidate(bytes, at) {
            let whole = injector.values.here(bytes, place).whole;
            count += usize::from(whole.is_some());
            at = whole.map_or(place + 1, |(end, _)| end);
        }
        count
    }

    proptest! {
        #[test]
        fn a_value_is_where_it_is_bound_and_nowhere_else(
            value in "[ -~é€]{12,60}",
            noise in "[a-z]{0,20}",
            place in 0_usize..4,
            stray in 0_usize..6,
        ) {
            prop_assume!(value.trim() == value);
            let places = [
                Place::header("X-Key", Some("key={}")).unwrap(),
                Place::basic("deploy").unwrap(),
                Place::query("key").unwrap(),
                Place::json("token").unwrap(),
            ];
            let injector = injector_of(&value, vec![places[place].clone()], &[]);
            let placeholder = injector.secrets[0].placeholder().to_owned();
            let basic = format!("Basic {}", STANDARD.encode(format!("deploy:{placeholder}")));
            let fields: Vec<(&str, &str)> = match place {
                0 => vec![("x-key", "{}"), ("x-noise", &noise)],
                1 => vec![("authorization", &basic)],
                _ => vec![("content-type", "application/json")],
            };
            let uri = if place == 2 { format!("/x?{noise}=1&key={{}}") } else { "/x".to_owned() };
            let body = if place == 3 {
                format!(r#"{{"a{noise}": 1, "token": "{placeholder}"}}"#)
            } else {
                format!(r#"{{"a{noise}": 1}}"#)
            };
            let mut parts = request(&injector, "POST", &uri, &fields);
            let mut injected = send(&injector, "api.example.com", &mut parts).unwrap();
            let mut body = Bytes::from(body);
            if injected.body.whole_bytes_max().is_some() {
                body = injected.body.whole(&mut parts, body).unwrap().0;
            }
            // Every header by itself: `Debug` hides what is sensitive.
            let headers: usize = parts.headers.values().map(|one| count(&injector, one.as_bytes())).sum();
            let (uri, body) = (count(&injector, parts.uri.to_string().as_bytes()), count(&injector, &body));
            let wanted = [(1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)][place];
            prop_assert_eq!((headers, uri, body), wanted);
            let shown = format!("{injected:?} {injector:?} {:?}", parts.headers);
            prop_assert!(!shown.contains(&value));
            // Anywhere else the request is refused.
            let (method, host) = ("POST", ["api.example.com", "evil.example.com"][stray % 2]);
            let strays: [(&str, &[(&str, &str)]); 3] = [
                ("/{}", &[]),
                ("/x?other={}", &[]),
                ("/x", &[("x-other", "{}")]),
            ];
            let (uri, fields) = strays[stray / 2];
            refused(&injector, host, method, uri, fields);
        }
    }
}
