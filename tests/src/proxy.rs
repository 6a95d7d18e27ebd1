//! A TCP proxy that can be cut, for outages between a client and the server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards every connection to the server while it is not cut.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
    refused: Arc<Mutex<usize>>,
    acceptor: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `server`.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let (cut, is_cut) = watch::channel(false);
        let refused = Arc::default();
        let acceptor = tokio::spawn(accept(listener, server, is_cut, Arc::clone(&refused)));
        Self {
            address,
            cut,
            refused,
            acceptor,
        }
    }

    /// Breaks all connections, and refuses further ones until [`Proxy::mend`].
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Ends the outage.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }

    /// Connections that came during outages.
    pub fn refused(&self) -> usize {
        *self.refused.lock().expect("no panic while locked")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    is_cut: watch::Receiver<bool>,
    refused: Arc<Mutex<usize>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        if *is_cut.borrow() {
            *refused.lock().expect("no panic while locked") += 1;
            continue;
        }
        // Ends with either side, or with the cut.
        tokio::spawn(forward(client, server, is_cut.clone()));
    }
}

async fn forward(mut client: TcpStream, server: SocketAddr, mut is_cut: watch::Receiver<bool>) {
    let Ok(mut upstream) = TcpStream::connect(server).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut upstream) => {}
        _ = is_cut.wait_for(|cut| *cut) => {}
    }
}
