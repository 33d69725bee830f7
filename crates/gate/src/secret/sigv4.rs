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
