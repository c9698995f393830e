//! An HTTP proxy in front of one server.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::http::uri::{Authority, Scheme};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::body::{Answer, End, cut, whole};
use crate::{Fault, Forecast};

/// What [`Fault::Late`] waits.
const LATE: Duration = Duration::from_secs(10);

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    forecast: Arc<Mutex<Forecast>>,
    task: JoinHandle<()>,
}

/// What each connection needs.
#[derive(Clone)]
struct Way {
    client: Client<HttpConnector, Full<Bytes>>,
    to: Authority,
    forecast: Arc<Mutex<Forecast>>,
}

impl Proxy {
    /// Listens on `address` (port 0: any free one) for the HTTP server at `to`.
    pub async fn start(address: SocketAddr, to: Authority, forecast: Forecast) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let forecast = Arc::new(Mutex::new(forecast));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let way = Way { client, to, forecast: Arc::clone(&forecast) };
        Ok(Self { address, forecast, task: tokio::spawn(accept(listener, way)) })
    }

    /// As [`Proxy::start`], on a free port of this machine, in front of a server on this machine, the weather fair.
    pub async fn before(server: SocketAddr) -> io::Result<Self> {
        let to = server.to_string().parse().map_err(io::Error::other)?;
        Self::start(([127, 0, 0, 1], 0).into(), to, Forecast::fair(1)).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The weather, to be read and changed.
    pub fn forecast(&self) -> MutexGuard<'_, Forecast> {
        locked(&self.forecast)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Nothing that holds it can panic half-way.
fn locked(forecast: &Mutex<Forecast>) -> MutexGuard<'_, Forecast> {
    forecast.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, way: Way) {
    // Ends its connections with itself.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, way.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, way: Way) {
    // Without it each small answer waits for an acknowledgement, 40 ms.
    let _ = stream.set_nodelay(true);
    // A second handle, by which the connection can be made to end with a reset.
    let Ok(stream) = stream.into_std() else { return };
    let Ok(twin) = stream.try_clone().map(Arc::new) else { return };
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let service = service_fn(move |request| {
        let (way, twin) = (way.clone(), Arc::clone(&twin));
        async move {
            let outcome = way.pass(request).await;
            if outcome.is_err() {
                let _ = SockRef::from(twin.as_ref()).set_linger(Some(Duration::ZERO));
            }
            outcome
        }
    });
    // An error of one connection is what this program is for.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Way {
    /// An error resets the connection.
    async fn pass(&self, request: Request<Incoming>) -> io::Result<Response<Answer>> {
        let (latency, fault) = {
            let mut forecast = locked(&self.forecast);
            (forecast.latency, forecast.strike())
        };
        if fault == Some(Fault::Late) {
            tokio::time::sleep(LATE).await;
        }
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match fault {
            None | Some(Fault::Late) => {
                Ok(self.forward(request).await?.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
            Some(Fault::InternalError) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Some(Fault::SlowDown) => refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
            Some(Fault::NotFound) => refusal(StatusCode::NOT_FOUND, "NoSuchKey"),
            Some(Fault::Reset) => Err(io::Error::other("reset on purpose")),
            Some(fault) => {
                let (parts, body) = self.forward(request).await?.into_parts();
                let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                spoil(fault, Response::from_parts(parts, body))
            }
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> io::Result<Response<Incoming>> {
        let (mut parts, body) = request.into_parts();
        let mut uri = parts.uri.into_parts();
        (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(self.to.clone()));
        parts.uri = Uri::from_parts(uri).map_err(io::Error::other)?;
        // The header `Host` stays as it came: it is signed.
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.client.request(Request::from_parts(parts, Full::new(body))).await.map_err(io::Error::other)
    }
}

fn refusal(status: StatusCode, code: &str) -> io::Result<Response<Answer>> {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    Response::builder().status(status).body(whole(text)).map_err(io::Error::other)
}

/// What is left of a good answer.
fn spoil(fault: Fault, answer: Response<Bytes>) -> io::Result<Response<Answer>> {
    let (mut parts, body) = answer.into_parts();
    if body.is_empty() {
        return Err(io::Error::other("an answer without a body is lost on purpose"));
    }
    let half = body.slice(..body.len() / 2);
    let (length, body) = match fault {
        Fault::LostAnswer => return Err(io::Error::other("the answer is lost on purpose")),
        Fault::Stall => (body.len(), cut(half, End::Silence)),
        Fault::ShortLength => (half.len(), whole(half)),
        Fault::LongLength => (body.len() + 50, cut(body, End::Broken)),
        _ => (body.len(), cut(half, End::Broken)),
    };
    parts.headers.insert(CONTENT_LENGTH, length.into());
    Ok(Response::from_parts(parts, body))
}
