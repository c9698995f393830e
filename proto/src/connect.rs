//! Channels to other processes: lazy, reconnecting, with keep-alive and a deadline for every connection attempt.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Server};

use crate::MAX_MESSAGE_BYTES;
use crate::coordinator::coordinator_client::CoordinatorClient;
use crate::coordinator::coordinator_server::{Coordinator, CoordinatorServer};
use crate::coordinator::rendezvous_client::RendezvousClient;
use crate::coordinator::rendezvous_server::{Rendezvous, RendezvousServer};
use crate::loader::loader_client::LoaderClient;
use crate::loader::loader_server::{Loader, LoaderServer};

/// Why a URL can't be dialled. Nothing was sent yet.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The text is no URL.
    #[error("\"{url}\" is not an address: use http://HOST:PORT ({cause})")]
    Malformed {
        /// As given.
        url: String,
        /// What the parser missed.
        cause: String,
    },
    /// A URL, but not one this system dials.
    #[error("\"{url}\" has the scheme \"{scheme}\": use http://HOST:PORT")]
    Scheme {
        /// As given.
        url: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// A URL without a port: there is no default one.
    #[error("\"{url}\" names no port: use http://HOST:PORT")]
    NoPort {
        /// As given.
        url: String,
    },
}

/// A channel that dials on its first call and again after a break. Each attempt fails after `patience`, and a peer
/// that stops answering keep-alives is given up after `patience` too.
///
/// There is no deadline on the calls themselves: streams live long. Unary calls set their own, see [`within`].
/// Must be called inside a tokio runtime.
pub fn lazy(url: &str, patience: Duration) -> Result<Channel, ConnectError> {
    Ok(endpoint(url, patience)?.connect_lazy())
}

/// The settings behind [`lazy`], for who wants to dial at once.
pub fn endpoint(url: &str, patience: Duration) -> Result<Endpoint, ConnectError> {
    check(url)?;
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| ConnectError::Malformed { url: url.to_owned(), cause: error.to_string() })?;
    Ok(endpoint
        .connect_timeout(patience)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(patience / 3)
        .keep_alive_timeout(patience * 2 / 3)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES))
}

/// A server with the settings that [`lazy`] expects of its peer.
pub fn server(patience: Duration) -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(patience / 3))
        .http2_keepalive_timeout(Some(patience * 2 / 3))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
}

/// A request that its server gives up after `deadline` and whose client does so as well.
pub fn within<T>(message: T, deadline: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(deadline);
    request
}

/// A client of the coordinator's [`Coordinator`] service.
pub fn coordinator(channel: Channel) -> CoordinatorClient<Channel> {
    CoordinatorClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of the coordinator's [`Rendezvous`] service.
pub fn rendezvous(channel: Channel) -> RendezvousClient<Channel> {
    RendezvousClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of a [`Loader`] service.
pub fn loader(channel: Channel) -> LoaderClient<Channel> {
    LoaderClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The tonic service around a [`Coordinator`], with this contract's message size.
pub fn serve_coordinator<S: Coordinator>(service: S) -> CoordinatorServer<S> {
    CoordinatorServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The tonic service around a [`Rendezvous`], with this contract's message size.
pub fn serve_rendezvous<S: Rendezvous>(service: S) -> RendezvousServer<S> {
    RendezvousServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// The tonic service around a [`Loader`], with this contract's message size.
pub fn serve_loader<S: Loader>(service: S) -> LoaderServer<S> {
    LoaderServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// HTTP/2's own default of 64 KiB would stall a batch of several MiB once a round trip.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// And its own frames of 16 KiB make a batch hundreds of pieces.
const FRAME_BYTES: u32 = 1 << 20;

/// Refuses what tonic would accept and only fail on at the first call, with a message that names no cause.
fn check(url: &str) -> Result<(), ConnectError> {
    let malformed = |cause: String| ConnectError::Malformed { url: url.to_owned(), cause };
    let uri: tonic::codegen::http::Uri = url.parse().map_err(|error| malformed(format!("{error}")))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some(scheme) => return Err(ConnectError::Scheme { url: url.to_owned(), scheme: scheme.to_owned() }),
        None => return Err(malformed("no scheme".to_owned())),
    }
    if uri.host().unwrap_or_default().is_empty() {
        return Err(malformed("no host".to_owned()));
    }
    if uri.port_u16().is_none() {
        return Err(ConnectError::NoPort { url: url.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn refusal(url: &str) -> String {
        endpoint(url, PATIENCE).expect_err("must be refused").to_string()
    }

    #[test]
    fn an_address_with_a_port_is_taken() {
        assert!(endpoint("http://127.0.0.1:4100", PATIENCE).is_ok());
        assert!(endpoint("http://[::1]:4100", PATIENCE).is_ok());
        assert!(endpoint("http://coordinator.vared.svc:4100", PATIENCE).is_ok());
    }

    #[test]
    fn a_refused_address_is_named_with_what_to_use() {
        for url in
            ["", "coordinator", "127.0.0.1:80", "http://", "http://host:port", "http://host", "https://h:1", "s3://b:1"]
        {
            let text = refusal(url);
            assert!(text.contains(&format!("\"{url}\"")), "{text}");
            assert!(text.contains("use http://HOST:PORT"), "{text}");
        }
    }

    #[test]
    fn a_wrong_scheme_and_a_missing_port_are_told_apart() {
        assert!(refusal("https://h:1").contains("scheme \"https\""));
        assert!(refusal("http://host").contains("names no port"));
    }
}
