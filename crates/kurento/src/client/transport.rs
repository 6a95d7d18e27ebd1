//! Connections to a media server.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::link::{Link, LinkError};

/// Bytes of one message. Graphs and statistics of a big pipeline are long; the real server allows
/// as much.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Makes connections, whenever one is needed.
pub type Dial = Arc<dyn Fn() -> BoxFuture<'static, Result<Link, LinkError>> + Send + Sync>;

/// Dials `ws://host:port/kurento`, or `wss://` with the given TLS settings.
pub fn websocket(uri: impl Into<Arc<str>>, tls: Option<Arc<rustls::ClientConfig>>) -> Dial {
    let uri = uri.into();
    Arc::new(move || {
        let (uri, tls) = (uri.clone(), tls.clone());
        Box::pin(async move { dial(&uri, tls).await })
    })
}

async fn dial(text: &str, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Link, LinkError> {
    let uri: Uri = text.parse().map_err(|_| invalid(text))?;
    let host = uri.host().ok_or_else(|| invalid(text))?;
    let (default_port, tls) = match (uri.scheme_str(), tls) {
        (Some("ws"), _) => (80, None),
        (Some("wss"), Some(tls)) => (443, Some(tls)),
        (Some("wss"), None) => return Err(unreachable("wss needs TLS settings")),
        _ => return Err(invalid(text)),
    };
    // Brackets are for URIs, not for resolvers.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(default_port);
    let stream = TcpStream::connect((name, port))
        .await
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let Some(tls) = tls else {
        let upgraded = tokio_tungstenite::client_async_with_config(text, stream, Some(limits));
        let (socket, _) = upgraded.await.map_err(unreachable)?;
        return Ok(Link::over_websocket(socket));
    };
    let name = ServerName::try_from(name.to_owned()).map_err(unreachable)?;
    let stream = TlsConnector::from(tls).connect(name, stream);
    let stream = stream.await.map_err(unreachable)?;
    let upgraded = tokio_tungstenite::client_async_with_config(text, stream, Some(limits));
    let (socket, _) = upgraded.await.map_err(unreachable)?;
    Ok(Link::over_websocket(socket))
}

fn invalid(uri: &str) -> LinkError {
    unreachable(format!("'{uri}' is no ws:// or wss:// address"))
}

fn unreachable(reason: impl std::fmt::Display) -> LinkError {
    LinkError::Unreachable(reason.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_was_never_connected_is_not_called_lost() {
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = format!("ws://{}/kurento", unused.local_addr().unwrap());
        drop(unused);
        // It takes connections and ends them.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rude = format!("ws://{}/kurento", listener.local_addr().unwrap());
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        for uri in [
            &closed,
            &rude,
            "http://127.0.0.1",
            "wss://127.0.0.1",
            "no uri",
        ] {
            let error = dial(uri, None).await.unwrap_err();
            assert!(matches!(error, LinkError::Unreachable(_)), "{uri}: {error}");
            let text = error.to_string();
            assert!(text.starts_with("cannot be reached: "), "{text}");
        }
    }
}
