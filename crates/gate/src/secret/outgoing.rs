//! A request's body on its way out: looked through piece by piece, or taken whole where a value goes
//! into it or a signature covers it.

use std::sync::Arc;

use belljar_base::bounds::SECRET_BODY_BYTES_MAX;
use belljar_policy::egress::Asked;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use http::request::Parts;
use zeroize::Zeroizing;

use super::binding::Place;
use super::find::Finder;
use super::misuse::Misuse;
use super::name::SecretName;
use super::sigv4::{self, Claim};
use super::{Secret, json, swap};

/// What is to be done with a body.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Nothing if the run has no secrets.
    seen: Option<Seen>,
    /// Places in a JSON body, each with its secret.
    json: Vec<(usize, String)>,
    /// A signature that covers the body.
    signature: Option<(usize, Claim)>,
}

#[derive(Debug)]
struct Seen {
    secrets: Arc<[Secret]>,
    placeholders: Arc<Finder>,
    host: String,
    /// The end of the pieces so far, where a placeholder may have begun.
    tail: Vec<u8>,
}

impl Outgoing {
    /// A body that nothing is to be done with.
    pub(super) fn unseen() -> Self {
        Self {
            seen: None,
            json: Vec::new(),
            signature: None,
        }
    }

    /// What a head says of its body. `signer` is whose key signed, with what the signature said.
    pub(super) fn new(
        secrets: Arc<[Secret]>,
        placeholders: Arc<Finder>,
        asked: &Asked<'_>,
        parts: &mut Parts,
        signer: Option<(usize, Claim)>,
    ) -> Result<Self, Misuse> {
        let host = asked.host.to_string();
        let mut json = Vec::new();
        if is_json(&parts.headers) {
            for (number, secret) in (0..).zip(secrets.iter()) {
                if secret.binding.is_for(asked) && secret.binding.has_method(&parts.method) {
                    let pointers = secret.binding.places.iter().filter_map(Place::pointer);
                    json.extend(pointers.map(|pointer| (number, pointer.to_owned())));
                }
            }
        }
        let mut signature = None;
        if let Some((number, claim)) = signer
            && let Some(secret) = secrets.get(number)
        {
            let named = named(asked);
            match sigv4::stated_hash(secret, &host, &parts.headers)? {
                Some(hash) => sigv4::sign(secret, &claim, &named, &hash, parts)?,
                None => signature = Some((number, claim)),
            }
        }
        let host = if signature.is_some() {
            named(asked)
        } else {
            host
        };
        Ok(Self {
            seen: Some(Seen {
                secrets,
                placeholders,
                host,
                tail: Vec::new(),
            }),
            json,
            signature,
        })
    }

    /// How many bytes of body are to be collected for [`Self::whole`]; nothing if the body can go
    /// on piece by piece, each shown to [`Self::piece`] first.
    pub(crate) fn whole_bytes_max(&self) -> Option<usize> {
        let whole = !self.json.is_empty() || self.signature.is_some();
        whole.then_some(SECRET_BODY_BYTES_MAX)
    }

    /// The refusal of a body that is longer than can be collected.
    pub(crate) fn too_long(&self) -> Option<Misuse> {
        let seen = self.seen.as_ref()?;
        let first = self.json.first().map(|(number, _)| number);
        let number = first.or(self.signature.as_ref().map(|(number, _)| number))?;
        let reason = format!(
            "the body is longer than the {SECRET_BODY_BYTES_MAX} bytes that can be looked through for a secret"
        );
        let remedy = "send it in smaller requests";
        let secret = seen.secrets.get(*number)?;
        Some(Misuse::unusable(&secret.name, &seen.host, reason, remedy))
    }

    /// Looks at the next piece of a body before it goes on.
    pub(crate) fn piece(&mut self, piece: &[u8]) -> Result<(), Misuse> {
        self.seen.as_mut().map_or(Ok(()), |seen| seen.piece(piece))
    }

    /// Looks at trailers before they go on.
    pub(crate) fn trailers(&self, fields: &HeaderMap) -> Result<(), Misuse> {
        let Some(seen) = &self.seen else {
            return Ok(());
        };
        let names = fields.keys().map(|name| name.as_str().as_bytes());
        let values = fields.values().map(http::HeaderValue::as_bytes);
        names
            .chain(values)
            .try_for_each(|bytes| seen.refuse_in(bytes))
    }

    /// Puts values into a whole body and signs it; whose values went in. The head gets the new
    /// length, and the signature.
    pub(crate) fn whole(
        &mut self,
        parts: &mut Parts,
        body: Bytes,
    ) -> Result<(Bytes, Vec<SecretName>), Misuse> {
        let Some(seen) = &self.seen else {
            return Ok((body, Vec::new()));
        };
        let mut names = Vec::new();
        let mut new: Option<Zeroizing<Vec<u8>>> = None;
        for (number, pointer) in &self.json {
            let Some(secret) = seen.secrets.get(*number) else {
                continue;
            };
            if let Some(put) = into_json(secret, pointer, new.as_ref().map_or(&body, |new| new)) {
                new = Some(put);
                names.push(secret.name.clone());
            }
        }
        let body = match new {
            Some(mut new) => Bytes::from(std::mem::take(&mut *new)),
            None => body,
        };
        seen.refuse_in(&body)?;
        if !names.is_empty() {
            parts.headers.remove(TRANSFER_ENCODING);
            parts.headers.insert(CONTENT_LENGTH, body.len().into());
        }
        if let Some((number, claim)) = &self.signature
            && let Some(secret) = seen.secrets.get(*number)
        {
            sigv4::sign(secret, claim, &seen.host, &sigv4::hash(&body), parts)?;
        }
        Ok((body, names))
    }
}

impl Seen {
    fn refuse_in(&self, bytes: &[u8]) -> Result<(), Misuse> {
        self.placeholders
            .owner_in(bytes)
            .map_or(Ok(()), |owner| self.refuse(owner))
    }

    fn refuse(&self, owner: usize) -> Result<(), Misuse> {
        let secret = self.secrets.get(owner);
        secret.map_or(Ok(()), |secret| Err(secret.stray(&self.host)))
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Misuse> {
        if self.tail.is_empty() {
            return self.look(piece);
        }
        let mut joined = std::mem::take(&mut self.tail);
        joined.extend_from_slice(piece);
        self.look(&joined)
    }

    fn look(&mut self, bytes: &[u8]) -> Result<(), Misuse> {
        let mut at = 0;
        while let Some(place) = self.placeholders.candidate(bytes, at) {
            let here = self.placeholders.here(bytes, place);
            if let Some((_, owner)) = here.whole {
                return self.refuse(owner);
            }
            if here.more {
                // A placeholder has few bytes, however it is spelled.
                self.tail
                    .extend_from_slice(bytes.get(place..).unwrap_or_default());
                return Ok(());
            }
            at = place + 1;
        }
        Ok(())
    }
}

/// The body with a value in its place, if the placeholder stands there.
fn into_json(secret: &Secret, pointer: &str, body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut new: Option<Zeroizing<Vec<u8>>> = None;
    // From the end, so that the places before stay where they are.
    for range in json::strings_at(body, pointer).into_iter().rev() {
        let text: String = serde_json::from_slice(body.get(range.clone())?).ok()?;
        let Some(put) = swap::swapped(secret, text.as_bytes()) else {
            continue;
        };
        let put = std::str::from_utf8(&put).ok()?;
        let written = Zeroizing::new(serde_json::to_vec(put).ok()?);
        let old = new.as_ref().map_or(body, |new| new);
        let mut whole = Zeroizing::new(Vec::with_capacity(old.len() + written.len()));
        whole.extend_from_slice(old.get(..range.start)?);
        whole.extend_from_slice(&written);
        whole.extend_from_slice(old.get(range.end..)?);
        new = Some(whole);
    }
    new
}

/// Whether a body is JSON that can be read as it is.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let kind = kind.to_ascii_lowercase();
    let json =
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    json && !headers.contains_key(CONTENT_ENCODING)
}

/// A host as the header `Host` names it.
fn named(asked: &Asked<'_>) -> String {
    let bare = asked.host.to_string();
    let host = if bare.contains(':') {
        format!("[{bare}]")
    } else {
        bare
    };
    if asked.scheme.port() == Some(asked.port) {
        host
    } else {
        format!("{host}:{}", asked.port)
    }
}
