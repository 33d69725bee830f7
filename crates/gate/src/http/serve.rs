//! The client's side of a connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use belljar_base::bounds::{
    HTTP_HEAD_BYTES_MAX, HTTP_HEAD_LINES_MAX, HTTP_HEAD_SECONDS_MAX, HTTP_LINGER_BYTES_MAX,
    HTTP_LINGER_MILLIS_MAX, HTTP_STREAMS_MAX, HTTP_WINDOW_BYTES,
};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::aim::Aim;
use super::exchange::Client;
use super::{Context, Target};
use crate::judge::{Attempt, Refused};

/// Serves a client that can be read: plain, or TLS that was terminated. Returns when the connection
/// is over.
pub(crate) async fn serve<I>(io: I, target: Target, http2: bool, context: Arc<Context>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A host that was parsed can be written into a header line.
    let Ok(aim) = Aim::new(target) else {
        return;
    };
    let client = Arc::new(Client::new(Some(aim), context));
    if http2 {
        second(io, &client).await;
    } else {
        first(io, &client).await;
    }
}

/// Serves a client that speaks to a proxy: each request names its own host, in the clear.
pub(crate) async fn forward<I>(io: I, context: Arc<Context>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    first(io, &Arc::new(Client::new(None, context))).await;
}

/// HTTP/1.
async fn first<I>(io: I, client: &Arc<Client>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| Box::pin(Arc::clone(client).answer(request)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HTTP_HEAD_SECONDS_MAX))
        .max_headers(HTTP_HEAD_LINES_MAX)
        .max_header_size(HTTP_HEAD_BYTES_MAX)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    let served = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let parts = connection.into_parts();
    let (io, read) = (parts.io.into_inner(), parts.read_buf);
    match (served, client.tunnel()) {
        (Ok(()), Some(tunnel)) => tunnel.run(io, read).await,
        (Ok(()), None) => linger(io).await,
        (Err(error), _) => {
            told(&error, client).await;
            linger(io).await;
        }
    }
}

/// HTTP/2. Each stream is a task of its own, as streams have to be.
async fn second<I>(io: I, client: &Arc<Client>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client_of_stream = Arc::clone(client);
    let service = service_fn(move |request| Arc::clone(&client_of_stream).answer(request));
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP_STREAMS_MAX)
        .max_header_list_size(HTTP_LIST_BYTES_MAX)
        .initial_stream_window_size(HTTP_WINDOW_BYTES)
        .initial_connection_window_size(HTTP_WINDOW_BYTES * 2)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(HTTP_HEAD_SECONDS_MAX))
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(error) = served {
        told(&error, client).await;
    }
}

/// Writes that something on the connection was no HTTP.
async fn told(error: &hyper::Error, client: &Client) {
    if !error.is_parse() {
        return;
    }
    let attempt = match client.aim() {
        Some(aim) => Attempt::connection(&aim.asked(false)),
        None => Attempt::to("http", String::new(), 0),
    };
    let refused = Refused::malformed("the request is not well-formed HTTP");
    // The client was answered by the parser.
    client.context.judge.refuse(attempt, refused).await;
}

/// Ends a connection so that a client that still sends can read the answer before it is reset.
async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) {
    let rest = async {
        io.shutdown().await?;
        let mut sink = [0; 4096];
        let mut read = 0;
        while read < HTTP_LINGER_BYTES_MAX {
            match io.read(&mut sink).await? {
                0 => break,
                some => read += some,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // The connection is over either way.
    timeout(Duration::from_millis(HTTP_LINGER_MILLIS_MAX), rest)
        .await
        .ok();
}

/// The head of a request over HTTP/2.
const HTTP_LIST_BYTES_MAX: u32 = 64 << 10;
