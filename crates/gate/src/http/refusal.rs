//! A refusal as an answer of HTTP.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::judge::Refused;

/// The answer to a request that goes nowhere. A client of HTTP/1 has to come back on a connection
/// of its own, for what it still sends on this one has not been looked at.
pub(super) fn answer(refused: &Refused, closes: bool) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(refused.body()));
    *answer.status_mut() = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::FORBIDDEN);
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if closes {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// The same as bytes of HTTP/1.1, for a client whose request is answered without being served.
pub(crate) fn answer_bytes(refused: &Refused) -> Vec<u8> {
    let body = refused.body();
    let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::FORBIDDEN);
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Refused"),
        body.len(),
    )
    .into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}
