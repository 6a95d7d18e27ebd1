//! HTTPS and WSS with the certificate that the server makes for itself.

use std::path::PathBuf;
use std::sync::Arc;

use crate::support::{config, start};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tertulia::config::Config;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn websocket_works_over_tls_and_survives_a_reload_of_the_certificate() {
    let data_dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tls");
    let server = start(&Config {
        http: false,
        data_dir: data_dir.clone(),
        ..config()
    });
    server.reload_certificate().unwrap();
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
    for name in ["localhost", "127.0.0.1"] {
        let stream = TcpStream::connect(server.listen()).await.unwrap();
        let connector = TlsConnector::from(Arc::new(client.clone()));
        let name = ServerName::try_from(name).unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        tokio_tungstenite::client_async("wss://localhost/room", stream)
            .await
            .unwrap();
    }
}
