//! HTTPS and WSS with the certificate that the server makes for itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{config, start};
use futures_util::{SinkExt as _, StreamExt as _};
use media::Fake;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tertulia::Certificate;
use tertulia::config::Config;
use tertulia::kms::Listener;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn websocket_works_over_tls_and_survives_a_reload_of_the_certificate() {
    let data_dir = data_dir("tls");
    let config = Config {
        http: false,
        data_dir: data_dir.clone(),
        ..config()
    };
    let server = start(&config);
    server.renew_certificate(&Certificate::load(&config).unwrap());
    for name in ["localhost", "127.0.0.1"] {
        connect(server.listen(), name, &data_dir, "/room").await;
    }
}

#[tokio::test]
async fn kurento_clients_come_over_tls_beside_the_others_or_alone() {
    let data_dir = data_dir("tls-kurento");
    let any_port = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    for kurento in [any_port, None] {
        let config = Config {
            kurento,
            kurento_secure: any_port,
            data_dir: data_dir.clone(),
            ..config()
        };
        let listener = Listener::start(&config, Fake::new()).unwrap().unwrap();
        assert_eq!(listener.address().is_some(), kurento.is_some());
        listener.renew_certificate(&Certificate::load(&config).unwrap());
        let address = listener.secure_address().unwrap();

        let mut socket = connect(address, "localhost", &data_dir, "/kurento").await;
        let ping = Message::text(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        socket.send(ping).await.unwrap();
        let pong = socket.next().await.unwrap().unwrap();
        assert!(pong.to_text().unwrap().contains("pong"), "{pong}");

        let (end, ()) = tokio::join!(socket.next(), listener.shut_down());
        assert!(matches!(end, Some(Ok(Message::Close(_)))), "{end:?}");
        assert!(TcpStream::connect(address).await.is_err());
    }
}

fn data_dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A WebSocket to a server that has made itself a certificate for `name`.
async fn connect(
    address: SocketAddr,
    name: &'static str,
    data_dir: &Path,
    path: &str,
) -> WebSocketStream<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(data_dir.join("cert.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let server_name = ServerName::try_from(name).unwrap();
    let stream = connector.connect(server_name, stream).await.unwrap();
    let url = format!("wss://{name}{path}");
    let connected = tokio_tungstenite::client_async(url, stream).await;
    connected.unwrap().0
}
