//! One request, in order: read it in one way only, look for secrets, find a way, judge, write, and
//! only then send.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use belljar_base::bounds::HTTP_HEAD_SECONDS_MAX;
use belljar_policy::Decision;
use belljar_policy::egress::{Asked, Mode, Request as Judged, decide_request, judged_path};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::aim::Aim;
use super::body::{Allowed, Down};
use super::head::{self, Head};
use super::sending::Sending;
use super::upstream::{Lease, Way};
use super::websocket::Tunnel;
use super::{Context, hop, refusal};
use crate::judge::{Attempt, Refused, code};
use crate::secret::{Injected, Misuse, Outgoing, SecretName};

/// A client's connection, as its requests see it.
pub(super) struct Client {
    /// What it was opened to; nothing when the client speaks to a proxy and each request says.
    aim: Option<Aim>,
    pub(super) context: Arc<Context>,
    /// Set when the connection has become a WebSocket.
    tunnel: Mutex<Option<Tunnel>>,
}

/// What a request carries beside its head.
struct Load {
    /// The names of the secrets that go with it.
    secrets: Vec<String>,
    body: Carried,
}

/// A body before it is known whether it may pass.
pub(super) enum Carried {
    /// Still with the client.
    Client(Incoming, Box<Outgoing>),
    /// Taken in whole.
    Whole(Bytes),
}

impl Client {
    /// For a connection to this target, or to a proxy.
    pub(super) fn new(aim: Option<Aim>, context: Arc<Context>) -> Self {
        Self {
            aim,
            context,
            tunnel: Mutex::new(None),
        }
    }

    /// Answers one request; whatever goes wrong has an answer as well.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Down>, Infallible> {
        let closes = request.version() < Version::HTTP_2;
        let answer = self.pass(request).await;
        Ok(answer.unwrap_or_else(|refused| {
            refusal::answer(&refused, closes).map(|body| Down::Own(Full::new(body)))
        }))
    }

    /// What the connection has become, if it is no longer one of HTTP.
    pub(super) fn tunnel(&self) -> Option<Tunnel> {
        self.lock().take()
    }

    /// From now on the connection is a WebSocket.
    pub(super) fn becomes(&self, tunnel: Tunnel) {
        *self.lock() = Some(tunnel);
    }

    /// What the connection was opened to, if it was opened to one host alone.
    pub(super) fn aim(&self) -> Option<&Aim> {
        self.aim.as_ref()
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Down>, Refused> {
        let (parts, body) = request.into_parts();
        match &self.aim {
            Some(aim) => self.pass_to(aim, parts, body).await,
            None => match head::named(&parts) {
                Ok(aim) => self.pass_to(&aim, parts, body).await,
                Err(doubt) => {
                    let attempt = Attempt::to("http", String::new(), 0);
                    Err(self.context.judge.refuse(attempt, doubt.into()).await)
                }
            },
        }
    }

    async fn pass_to(
        &self,
        aim: &Aim,
        mut parts: Parts,
        body: Incoming,
    ) -> Result<Response<Down>, Refused> {
        let head = match head::judge(&parts, aim) {
            Ok(head) => head,
            Err(doubt) => return Err(self.refuse(aim, &parts, doubt.into()).await),
        };
        let asked = aim.asked(head.websocket);
        let path = match self.behind(&parts, &head, &asked) {
            Ok(path) => path,
            Err(refused) => return Err(self.refuse(aim, &parts, refused).await),
        };
        let method = parts.method.clone();
        let judged = Judged {
            asked,
            method: method.as_str(),
            path: &path,
        };
        hop::strip_request(&mut parts.headers);
        let injected = match self.context.injector.head(&asked, &mut parts) {
            Ok(injected) => injected,
            Err(misuse) => return Err(self.misused(&judged, misuse).await),
        };
        let load = self.load(&judged, &mut parts, injected, body).await?;
        let http2 = parts.version >= Version::HTTP_2;
        let way = match head.websocket {
            true => Way::New(self.context.new_way(&asked, None).await?),
            false => self.context.way(&asked, aim, http2).await?,
        };
        let judge = &self.context.judge;
        let passage = match judge.request(&judged, way.address(), &load.secrets).await {
            Ok(passage) => passage,
            Err(refused) => {
                // The connection is as good for the next request as before.
                if let Way::First(first) = way {
                    Lease::new(Some(first), &self.context).give_back();
                }
                return Err(refused);
            }
        };
        let sending = Sending {
            client: self,
            aim,
            allowed: Allowed::new(passage),
            judged,
            http2,
        };
        if head.websocket {
            return sending.open(way, parts, load.body).await;
        }
        sending.send(way, parts, load.body).await
    }

    /// What the request carries beside its head, and whose secrets go with it. A body that a value
    /// goes into, or that a signature covers, is taken in whole.
    async fn load(
        &self,
        judged: &Judged<'_>,
        parts: &mut Parts,
        injected: Injected,
        body: Incoming,
    ) -> Result<Load, Refused> {
        let named = |names: &[SecretName]| names.iter().map(ToString::to_string).collect();
        let Injected {
            secrets,
            body: mut outgoing,
        } = injected;
        let mut secrets: Vec<String> = named(&secrets);
        let Some(most) = outgoing.whole_bytes_max() else {
            let body = Carried::Client(body, Box::new(outgoing));
            return Ok(Load { secrets, body });
        };
        let limit = Duration::from_secs(HTTP_HEAD_SECONDS_MAX);
        let taken = timeout(limit, Limited::new(body, most).collect()).await;
        let taken = match taken {
            Ok(Ok(taken)) => taken.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => match outgoing.too_long() {
                Some(misuse) => return Err(self.misused(judged, misuse).await),
                None => return Err(Refused::protocol("the body is too long")),
            },
            Ok(Err(_)) | Err(_) => return Err(Refused::protocol("the body did not come")),
        };
        match outgoing.whole(parts, taken) {
            Ok((whole, more)) => {
                secrets.extend::<Vec<String>>(named(&more));
                Ok(Load {
                    secrets,
                    body: Carried::Whole(whole),
                })
            }
            Err(misuse) => Err(self.misused(judged, misuse).await),
        }
    }

    /// The path as rules speak of it, once it is sure that a server behind the first one cannot
    /// take the request for one that is not allowed.
    fn behind(&self, parts: &Parts, head: &Head, asked: &Asked<'_>) -> Result<String, Refused> {
        let rules = self.context.judge.rules();
        let path = judged_path(&rules, asked, parts.uri.path()).map_err(Refused::policy)?;
        let Some(method) = head.overridden.as_ref().map(Method::as_str) else {
            return Ok(path);
        };
        let judged = Judged {
            asked: *asked,
            method,
            path: &path,
        };
        match decide_request(&rules, &judged) {
            Decision::Hold(refusal) | Decision::Deny(refusal) if rules.mode == Mode::Enforce => {
                Err(Refused::policy(refusal))
            }
            Decision::Allow { .. } | Decision::Hold(_) | Decision::Deny(_) => Ok(path),
        }
    }

    /// Writes a request that goes nowhere for its form.
    async fn refuse(&self, aim: &Aim, parts: &Parts, refused: Refused) -> Refused {
        let method: String = parts.method.as_str().chars().take(SHOWN).collect();
        let path: String = parts.uri.path().chars().take(SHOWN).collect();
        let judged = Judged {
            asked: aim.asked(false),
            method: &method,
            path: &path,
        };
        let attempt = Attempt::request(&judged, None, &[]);
        self.context.judge.refuse(attempt, refused).await
    }

    /// Writes a request that goes nowhere for a secret that does not belong to it.
    pub(super) async fn misused(&self, judged: &Judged<'_>, misuse: Misuse) -> Refused {
        let judge = &self.context.judge;
        if let Some(event) = misuse.event() {
            // It goes nowhere whether or not it can be written.
            judge.incident(event).await.ok();
        }
        let attempt = Attempt::request(judged, None, &[]);
        let refused = Refused::by(code::SECRET_SCOPE, misuse.refusal);
        judge.refuse(attempt, refused).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Tunnel>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of what could not be judged is put on record, in characters.
const SHOWN: usize = 256;
