//! A request that was allowed, on its way; and its answer, on its way back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use belljar_policy::egress::Request as Judged;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use tokio::time::sleep;

use super::aim::Aim;
use super::body::{Allowed, Down, Up};
use super::exchange::{Carried, Client};
use super::hop;
use super::upstream::{First, Lease, Made, Way, broken};
use super::websocket::Tunnel;
use crate::judge::{Refused, code};
use crate::secret::Mask;

/// A request that was allowed and is on record.
pub(super) struct Sending<'a> {
    pub(super) client: &'a Client,
    pub(super) aim: &'a Aim,
    pub(super) allowed: Arc<Allowed>,
    pub(super) judged: Judged<'a>,
    /// Whether the client speaks HTTP/2.
    pub(super) http2: bool,
}

/// What came of trying to send a request: the head of an answer and the connection its body comes
/// over; or the request, when no server has taken anything in and it can be sent anew.
type Tried = Result<(Response<Incoming>, Option<First>), Box<Request<Up>>>;

impl Sending<'_> {
    /// Sends the request and begins its answer.
    pub(super) async fn send(
        self,
        way: Way,
        mut parts: Parts,
        body: Carried,
    ) -> Result<Response<Down>, Refused> {
        self.weigh(&parts)?;
        let body = match body {
            Carried::Client(body, outgoing) => Up::new(body, outgoing, &self.allowed, self.http2),
            Carried::Whole(whole) => {
                self.allowed.passage.up(whole.len() as u64)?;
                if !whole.is_empty() {
                    parts
                        .headers
                        .insert(header::CONTENT_LENGTH, whole.len().into());
                }
                Up::Whole(Full::new(whole))
            }
        };
        let made = self.made(way).await?;
        let spare = spare(&made, &parts, &body);
        let request = Request::from_parts(parts, body);
        let unsent = match self.try_over(made, request, spare).await? {
            Ok((answer, first)) => return self.answer(answer, first).await,
            Err(request) => *request,
        };
        // The server had closed a connection that waited: once more, over one that did not.
        let asked = &self.judged.asked;
        let way = self.client.context.new_way(asked, None).await?;
        let made = self.made(Way::New(way)).await?;
        match self.try_over(made, unsent, None).await? {
            Ok((answer, first)) => self.answer(answer, first).await,
            Err(_unsent) => Err(broken(self.aim)),
        }
    }

    /// Sends the opening of a WebSocket; the connection becomes one when the server agrees.
    pub(super) async fn open(
        self,
        way: Way,
        mut parts: Parts,
        body: Carried,
    ) -> Result<Response<Down>, Refused> {
        let context = &self.client.context;
        let secrets = context.injector.concerns(&self.aim.asked_in_tls());
        if secrets {
            // What is squeezed cannot be looked through.
            parts.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        }
        self.weigh(&parts)?;
        let Made::First(mut first) = self.made(way).await? else {
            return Err(broken(self.aim));
        };
        let mut request = self.written(Request::from_parts(parts, Up::None), false);
        upgrade(request.headers_mut());
        let Ok(answer) = self.guarded(first.open(request)).await? else {
            return Err(broken(self.aim));
        };
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.answer(answer, Some(first)).await;
        }
        let agreed = answer.headers().get(header::UPGRADE);
        if !agreed.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Err(broken(self.aim));
        }
        let (mut parts, _empty) = answer.into_parts();
        let mask = self.returned(&mut parts).await?;
        upgrade(&mut parts.headers);
        let Some((stream, read)) = first.into_stream() else {
            return Err(broken(self.aim));
        };
        let outgoing = match body {
            Carried::Client(_none, outgoing) if secrets => Some(outgoing),
            Carried::Client(..) | Carried::Whole(_) => None,
        };
        self.client.becomes(Tunnel {
            stream,
            read,
            allowed: Arc::clone(&self.allowed),
            mask,
            outgoing,
            judge: Arc::clone(&context.judge),
        });
        Ok(Response::from_parts(parts, Down::none()))
    }

    /// Counts the head, which carries bytes out as well as a body does.
    fn weigh(&self, parts: &Parts) -> Result<(), Refused> {
        let path = parts
            .uri
            .path_and_query()
            .map_or(0, |path| path.as_str().len());
        let weight = hop::weight(&parts.headers).saturating_add(path as u64);
        self.allowed.passage.up(weight)
    }

    /// The connection that the way leads to.
    async fn made(&self, way: Way) -> Result<Made, Refused> {
        let context = &self.client.context;
        match way {
            Way::First(first) => Ok(Made::First(first)),
            Way::Second(second) => Ok(Made::Second(second)),
            Way::New(new) => context.make(new, self.aim, self.http2).await,
        }
    }

    async fn try_over(
        &self,
        made: Made,
        request: Request<Up>,
        spare: Option<Parts>,
    ) -> Result<Tried, Refused> {
        let second = matches!(made, Made::Second(_));
        let request = self.written(request, second);
        let (sent, first) = match made {
            Made::First(mut first) => (self.guarded(first.send(request)).await?, Some(first)),
            Made::Second(mut second) => (self.guarded(second.send(request)).await?, None),
        };
        let mut error = match sent {
            Ok(answer) => return Ok(Ok((answer, first))),
            Err(error) => error,
        };
        if let Some(misuse) = self.allowed.misuse() {
            return Err(self.client.misused(&self.judged, misuse).await);
        }
        if let Some(refused) = self.allowed.refused() {
            return Err(refused);
        }
        let spare = spare.map(|parts| Request::from_parts(parts, Up::None));
        match error.take_message().or(spare) {
            Some(request) => Ok(Err(Box::new(request))),
            None => {
                self.allowed.passage.ended("broken");
                Err(broken(self.aim))
            }
        }
    }

    /// The request as it is written for a server: to exactly this host, with one length.
    fn written(&self, request: Request<Up>, second: bool) -> Request<Up> {
        let (mut parts, body) = request.into_parts();
        let aim = self.aim;
        let path = parts.uri.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(path);
        if second {
            uri.scheme = Some(aim.scheme());
            uri.authority = aim.written().parse().ok();
            parts.headers.remove(header::HOST);
            parts.version = Version::HTTP_2;
        } else {
            parts.headers.insert(header::HOST, aim.line());
            parts.version = Version::HTTP_11;
            hop::join_cookies(&mut parts.headers);
            let chunked =
                !body.is_end_stream() && !parts.headers.contains_key(header::CONTENT_LENGTH);
            if chunked {
                // Said aloud, because without it the body of a GET would be left out.
                let value = HeaderValue::from_static("chunked");
                parts.headers.insert(header::TRANSFER_ENCODING, value);
            }
        }
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
        parts.extensions.clear();
        Request::from_parts(parts, body)
    }

    /// Waits for an answer as long as the request has the right to pass and anything passes.
    async fn guarded<T>(&self, answer: impl Future<Output = T>) -> Result<T, Refused> {
        let passage = &self.allowed.passage;
        let stalled = async {
            let mut passed = passage.passed();
            loop {
                sleep(passage.idle_limit()).await;
                let now = passage.passed();
                if now == passed {
                    return;
                }
                passed = now;
            }
        };
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            refused = passage.lost() => Err(refused),
            () = stalled => {
                passage.ended("timed out");
                let host = &self.judged.asked.host;
                let reason = format!("`{host}` did not answer in time");
                Err(Refused::new(code::UNREACHABLE, reason, "try again later"))
            }
        }
    }

    /// The answer, as the client gets it.
    async fn answer(
        &self,
        answer: Response<Incoming>,
        first: Option<First>,
    ) -> Result<Response<Down>, Refused> {
        let (mut parts, body) = answer.into_parts();
        // hyper has read the lengths: what is not one length or `chunked` alone would be passed on
        // with a coding that nobody undoes.
        let coded = parts
            .headers
            .get_all(header::TRANSFER_ENCODING)
            .iter()
            .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if coded || parts.status.is_informational() {
            self.allowed.passage.ended("broken");
            return Err(broken(self.aim));
        }
        let mask = self.returned(&mut parts).await?;
        let mut lease = Lease::new(first, &self.client.context);
        if body.is_end_stream() {
            lease.give_back();
            return Ok(Response::from_parts(parts, Down::none()));
        }
        let body = Down::new(body, Arc::clone(&self.allowed), lease, mask);
        Ok(Response::from_parts(parts, body))
    }

    /// Looks at the head of an answer: counted, masked, stripped.
    async fn returned(&self, parts: &mut http::response::Parts) -> Result<Option<Mask>, Refused> {
        let passage = &self.allowed.passage;
        passage.status(parts.status.as_u16());
        hop::strip_response(&mut parts.headers);
        let mut mask = self.client.context.injector.mask(&self.judged.asked);
        if let Some(mask) = &mut mask
            && let Err(misuse) = mask.head(parts)
        {
            passage.ended("unreadable");
            return Err(self.client.misused(&self.judged, misuse).await);
        }
        parts.extensions.clear();
        parts.version = Version::HTTP_11;
        passage.down(hop::weight(&parts.headers))?;
        Ok(mask)
    }
}

/// The head of a request that can be sent anew when a connection that waited turns out to be closed:
/// the server may have begun to read it, so it must be one that may be asked twice.
fn spare(made: &Made, parts: &Parts, body: &Up) -> Option<Parts> {
    let Made::First(first) = made else {
        return None;
    };
    let again = first.waited().is_some_and(|waited| waited > HOT)
        && body.is_end_stream()
        && matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    again.then(|| parts.clone())
}

/// Says that the connection becomes a WebSocket.
fn upgrade(headers: &mut http::HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// For how long a connection that has just carried a request is sure not to be closed for idleness.
const HOT: Duration = Duration::from_millis(250);
