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
        (Some("wss"), None) => return Err(LinkError::Lost("wss needs TLS settings".to_owned())),
        _ => return Err(invalid(text)),
    };
    // Brackets are for URIs, not for resolvers.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(default_port);
    let stream = TcpStream::connect((name, port)).await.map_err(broken)?;
    stream.set_nodelay(true).map_err(broken)?;
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let Some(tls) = tls else {
        let upgraded = tokio_tungstenite::client_async_with_config(text, stream, Some(limits));
        let (socket, _) = upgraded.await.map_err(broken)?;
        return Ok(Link::over_websocket(socket));
    };
    let name = ServerName::try_from(name.to_owned()).map_err(broken)?;
    let stream = TlsConnector::from(tls).connect(name, stream);
    let stream = stream.await.map_err(broken)?;
    let upgraded = tokio_tungstenite::client_async_with_config(text, stream, Some(limits));
    let (socket, _) = upgraded.await.map_err(broken)?;
    Ok(Link::over_websocket(socket))
}

fn invalid(uri: &str) -> LinkError {
    LinkError::Lost(format!("'{uri}' is no ws:// or wss:// address"))
}

fn broken(error: impl std::fmt::Display) -> LinkError {
    LinkError::Lost(error.to_string())
}
