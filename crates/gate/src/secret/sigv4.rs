//! Signs requests to AWS anew (Signature Version 4): the sandbox signed with a placeholder, which
//! proves nothing; the gate signs the same request with the real key.

use std::collections::BTreeMap;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use ring::{digest, hmac};
use zeroize::Zeroizing;

use super::misuse::Misuse;
use super::swap::{percent, unescaped};
use super::{Keys, Place, Secret};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: &str = "x-amz-date";
const HASH: &str = "x-amz-content-sha256";
const TOKEN: &str = "x-amz-security-token";

/// What the sandbox's own signature said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Who signed: the key's id, which is the placeholder.
    pub(super) access: String,
    date: String,
    region: String,
    service: String,
    signed: Vec<String>,
}

impl Claim {
    /// Reads the signature of a request; nothing if it has none.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let fields: BTreeMap<&str, &str> = text
            .trim()
            .strip_prefix(ALGORITHM)?
            .split(',')
            .filter_map(|field| field.trim().split_once('='))
            .collect();
        let mut scope = fields.get("Credential")?.split('/').map(str::to_owned);
        Some(Self {
            access: scope.next()?,
            date: scope.next()?,
            region: scope.next()?,
            service: scope
                .next()
                .filter(|_| scope.next().as_deref() == Some("aws4_request"))?,
            signed: fields
                .get("SignedHeaders")?
                .split(';')
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Whether the signature is for what the secret is bound to.
    pub(super) fn is_for(&self, secret: &Secret) -> bool {
        let same = |place: &Place| match place {
            Place::Sigv4 { region, service } => *region == self.region && *service == self.service,
            Place::Header { .. }
            | Place::Basic { .. }
            | Place::Query { .. }
            | Place::Json { .. } => false,
        };
        self.access == secret.placeholder() && secret.binding.places.iter().any(same)
    }

    /// Takes the sandbox's signature away; what is left of it is this claim.
    pub(super) fn take(self, headers: &mut HeaderMap) -> Self {
        headers.remove(AUTHORIZATION);
        headers.remove(TOKEN);
        self
    }
}

/// The hash of the body that a request states; nothing if the body must be read for it.
pub(super) fn stated_hash(
    secret: &Secret,
    host: &str,
    headers: &HeaderMap,
) -> Result<Option<String>, Misuse> {
    let Some(hash) = headers.get(HASH).and_then(|hash| hash.to_str().ok()) else {
        return Ok(None);
    };
    // Each chunk of such a body carries a signature of its own.
    if hash.starts_with("STREAMING-AWS4-") {
        return Err(Misuse::unusable(
            &secret.name,
            host,
            "the body is signed chunk by chunk, which the gate does not sign anew".to_owned(),
            "let the client send UNSIGNED-PAYLOAD or the hash of the whole body",
        ));
    }
    Ok(Some(hash.to_owned()))
}

/// The hash of a body, as a signature has it.
pub(super) fn hash(body: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, body).as_ref())
}

/// Signs a request. Its host is the one it is sent to, whatever it says itself.
pub(super) fn sign(
    secret: &Secret,
    claim: &Claim,
    host: &str,
    payload: &str,
    parts: &mut Parts,
) -> Result<(), Misuse> {
    let refuse = |reason: &str| {
        let remedy = "let the client sign as usual, with a header `x-amz-date`";
        Misuse::unusable(&secret.name, host, reason.to_owned(), remedy)
    };
    let keys = Keys::of(secret).ok_or_else(|| refuse("the secret is no key pair"))?;
    if let Some(session) = keys.session {
        let mut token = HeaderValue::from_bytes(session)
            .map_err(|_no_header| refuse("the session token fits no header"))?;
        token.set_sensitive(true);
        parts.headers.insert(TOKEN, token);
    }
    let time = parts.headers.get(DATE).and_then(|time| time.to_str().ok());
    let time = time.map(str::to_owned).unwrap_or_default();
    if time.len() != 16 || !time.starts_with(&claim.date) || claim.date.len() != 8 {
        return Err(refuse("the request does not say when it was signed"));
    }
    let (names, fields) = canonical_headers(claim, host, &parts.headers);
    let canonical = [
        parts.method.as_str(),
        &canonical_path(parts.uri.path(), &claim.service),
        &canonical_query(parts.uri.query().unwrap_or_default()),
        &fields,
        &names,
        payload,
    ]
    .join("\n");
    let scope = [&claim.date, &claim.region, &claim.service, "aws4_request"].join("/");
    let hash = hash(canonical.as_bytes());
    let text = [ALGORITHM, &time, &scope, &hash].join("\n");
    let signature = hexadecimal(key(keys.secret, claim, text.as_bytes()).as_ref());
    let access = String::from_utf8_lossy(keys.access);
    let value = format!(
        "{ALGORITHM} Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    );
    let mut value =
        HeaderValue::try_from(value).map_err(|_no_header| refuse("the key's id fits no header"))?;
    value.set_sensitive(true);
    parts.headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// Signs a text with the key of one day, region and service.
fn key(secret: &[u8], claim: &Claim, text: &[u8]) -> hmac::Tag {
    let mut first = Zeroizing::new(Vec::with_capacity(secret.len() + 4));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret);
    let step = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let day = step(&first, claim.date.as_bytes());
    let region = step(day.as_ref(), claim.region.as_bytes());
    let service = step(region.as_ref(), claim.service.as_bytes());
    let key = step(service.as_ref(), b"aws4_request");
    step(key.as_ref(), text)
}

/// Of the headers that the sandbox signed, those that reach AWS as they are.
fn is_kept(name: &str) -> bool {
    matches!(name, "content-type" | "content-md5" | "date" | "range") || name.starts_with("x-amz-")
}

/// The names of the signed headers, and the headers in canonical form.
fn canonical_headers(claim: &Claim, host: &str, headers: &HeaderMap) -> (String, String) {
    let mut fields = BTreeMap::from([("host".to_owned(), host.to_owned())]);
    let amazons = headers.keys().map(HeaderName::as_str);
    let amazons = amazons
        .filter(|name| name.starts_with("x-amz-"))
        .map(str::to_owned);
    for name in claim.signed.iter().cloned().chain(amazons) {
        let values: Vec<String> = headers.get_all(&name).iter().map(trimmed).collect();
        if is_kept(&name) && !values.is_empty() {
            fields.insert(name, values.join(","));
        }
    }
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    let lines = fields
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"));
    (names.join(";"), lines.collect())
}

/// A header's value with single spaces.
fn trimmed(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// S3 takes a path as it is, the others without dot segments and encoded once more.
fn canonical_path(path: &str, service: &str) -> String {
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split('/') {
        match segment {
            _ if service == "s3" => segments.push(escaped(&unescaped(segment))),
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(escaped(other.as_bytes())),
        }
    }
    if service == "s3" {
        return segments.join("/");
    }
    let end = if path.len() > 1 && path.ends_with('/') && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", segments.join("/"))
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (escaped(&unescaped(key)), escaped(&unescaped(value))))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join("&")
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len());
    percent(bytes, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{Binding, Value};
    use http::Request;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn secret(value: &str, region: &str, service: &str) -> Secret {
        let hosts = vec!["*.amazonaws.com".parse().unwrap()];
        let places = vec![Place::sigv4(region, service).unwrap()];
        let binding = Binding::new(hosts, &[], places).unwrap();
        let value = Value::copy(value.as_bytes()).unwrap();
        Secret::new("AWS".parse().unwrap(), binding, value).unwrap()
    }

    /// Signs a request that a sandbox had signed with its placeholder, as AWS publishes it.
    fn signed(
        secret: &Secret,
        scope: &str,
        names: &str,
        host: &str,
        request: http::request::Builder,
        payload: &str,
    ) -> String {
        let claim = format!(
            "{ALGORITHM} Credential={}/{scope}/aws4_request, SignedHeaders={names}, Signature=00",
            secret.placeholder()
        );
        let mut parts = request
            .header("authorization", claim)
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let claim = Claim::of(&parts.headers).unwrap();
        assert!(claim.is_for(secret), "{claim:?}");
        let claim = claim.take(&mut parts.headers);
        sign(secret, &claim, host, payload, &mut parts).unwrap();
        let text = parts.headers[AUTHORIZATION].to_str().unwrap();
        assert!(parts.headers[AUTHORIZATION].is_sensitive());
        text.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn published_signatures_are_met() {
        let example = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let suite = secret(&format!("AKIDEXAMPLE:{example}"), "us-east-1", "service");
        let scope = "20150830/us-east-1/service";
        let get = |uri: &str| Request::get(uri.to_owned()).header(DATE, "20150830T123600Z");
        let of = |request, payload: &str| {
            signed(
                &suite,
                scope,
                "host;x-amz-date",
                "example.amazonaws.com",
                request,
                payload,
            )
        };
        let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(of(get("/"), EMPTY), vanilla);
        assert_eq!(of(get("/./"), EMPTY), vanilla);
        assert_eq!(of(get("/example/.."), EMPTY), vanilla);
        assert_eq!(
            of(get("/?Param2=value2&Param1=value1"), EMPTY),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
        );
        assert_eq!(
            of(Request::post("/").header(DATE, "20150830T123600Z"), EMPTY),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        let iam = secret(&format!("AKIDEXAMPLE:{example}"), "us-east-1", "iam");
        let list = get("/?Action=ListUsers&Version=2010-05-08").header(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        );
        let names = "content-type;host;x-amz-date";
        assert_eq!(
            signed(
                &iam,
                "20150830/us-east-1/iam",
                names,
                "iam.amazonaws.com",
                list,
                EMPTY
            ),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn published_signatures_of_s3_are_met() {
        let value = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let s3 = secret(value, "us-east-1", "s3");
        let of = |names: &str, request: http::request::Builder, payload: &str| {
            let request = request
                .header(DATE, "20130524T000000Z")
                .header(HASH, payload);
            let host = "examplebucket.s3.amazonaws.com";
            signed(&s3, "20130524/us-east-1/s3", names, host, request, payload)
        };
        let names = "host;range;x-amz-content-sha256;x-amz-date";
        assert_eq!(
            of(
                names,
                Request::get("/test.txt").header("range", "bytes=0-9"),
                EMPTY
            ),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let names = "host;x-amz-content-sha256;x-amz-date";
        assert_eq!(
            of(names, Request::get("/?lifecycle"), EMPTY),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            of(names, Request::get("/?max-keys=2&prefix=J"), EMPTY),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
        let put = Request::put("/test%24file.text")
            .header("date", "Fri, 24 May 2013 00:00:00 GMT")
            .header("x-amz-storage-class", "REDUCED_REDUNDANCY");
        let names = "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class";
        assert_eq!(
            of(names, put, &hash(b"Welcome to Amazon S3.")),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn a_session_goes_along() {
        let s3 = secret(
            "AKIAIOSFODNN7EXAMPLE:secret-key:session-token",
            "us-east-1",
            "s3",
        );
        let claim = format!(
            "{ALGORITHM} Credential={}/20130524/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=00",
            s3.placeholder()
        );
        let request = Request::get("/")
            .header("authorization", claim)
            .header(DATE, "20130524T000000Z");
        let mut parts = request
            .header(TOKEN, "of the sandbox")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let claim = Claim::of(&parts.headers).unwrap().take(&mut parts.headers);
        sign(
            &s3,
            &claim,
            "s3.amazonaws.com",
            "UNSIGNED-PAYLOAD",
            &mut parts,
        )
        .unwrap();
        assert_eq!(parts.headers[TOKEN], "session-token");
        let text = parts.headers[AUTHORIZATION].to_str().unwrap();
        assert!(
            text.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"),
            "{text}"
        );
        assert!(text.contains("Credential=AKIAIOSFODNN7EXAMPLE/"), "{text}");
    }

    #[test]
    fn a_signature_for_something_else_is_left_alone() {
        let s3 = secret("AKIAIOSFODNN7EXAMPLE:secret-key", "us-east-1", "s3");
        for (access, scope) in [
            ("AKIAOTHER", "20130524/us-east-1/s3/aws4_request"),
            (s3.placeholder(), "20130524/eu-west-1/s3/aws4_request"),
            (s3.placeholder(), "20130524/us-east-1/iam/aws4_request"),
        ] {
            let text = format!(
                "{ALGORITHM} Credential={access}/{scope}, SignedHeaders=host, Signature=00"
            );
            let headers =
                HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(text).unwrap())]);
            assert!(!Claim::of(&headers).unwrap().is_for(&s3));
        }
        for text in [
            "",
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host",
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(text))]);
            assert_eq!(Claim::of(&headers), None);
        }
    }
}
