//! A small S3 server in this process, whose conditional puts have one winner.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{IF_MATCH, IF_NONE_MATCH};
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// A running server with the bucket [`S3::BUCKET`]; it ends, and its objects with it, when dropped.
#[derive(Debug)]
pub struct S3 {
    address: SocketAddr,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl S3 {
    /// The only bucket; clients name it as `s3://bucket`.
    pub const BUCKET: &'static str = "bucket";
    /// The only key that it takes.
    pub const KEY: &'static str = "key";
    /// The secret that goes with it.
    pub const SECRET: &'static str = "secret";

    /// Listens on a free port of this machine.
    pub async fn start() -> io::Result<Self> {
        let folder = TempDir::new()?;
        std::fs::create_dir(folder.path().join(Self::BUCKET))?;
        let files = s3s_fs::FileSystem::new(folder.path()).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(Self::KEY, Self::SECRET));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, service.build()));
        Ok(Self { address, task, _folder: folder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The variables that let a client reach this server at `address`: its own, or a proxy's in front of it.
    pub fn settings(address: SocketAddr) -> Vec<(String, String)> {
        let endpoint = format!("http://{address}");
        [("AWS_ENDPOINT", endpoint.as_str()), ("AWS_ACCESS_KEY_ID", Self::KEY), ("AWS_SECRET_ACCESS_KEY", Self::SECRET)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, service: S3Service) {
    let conditional = Arc::new(Mutex::new(()));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, service.clone(), Arc::clone(&conditional)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, service: S3Service, conditional: Arc<Mutex<()>>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let (service, conditional) = (service.clone(), Arc::clone(&conditional));
        async move {
            // s3s-fs looks first and writes then: of several conditional puts at once, all could find nothing.
            let decides = request.headers().contains_key(IF_MATCH) || request.headers().contains_key(IF_NONE_MATCH);
            let _one_at_a_time = if decides { Some(conditional.lock().await) } else { None };
            Service::call(&service, request).await
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
