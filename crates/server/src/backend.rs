//! The media servers that rooms use: made from the settings, watched, and shown on the metrics page.
//!
//! Read [`start`] first. Which one a room gets is the business of `room::pool`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kurento::client::{Kms, websocket};
use media::{
    BandwidthLimits, DataChannelOptions, Delivery, ElementId, ElementKind, EndpointStats, Error,
    EventSender, IceCandidate, MediaKind, MediaServer, OfferOptions, Parameters, PipelineId,
    Purpose,
};
use room::pool::{Member, Policy, Pool};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sfu::NativeMediaServer;

use crate::config::{Config, EMBEDDED, KMS};

/// How long other media servers may take to hear that we go.
const SHUTDOWN_DEADLINE: std::time::Duration = std::time::Duration::from_secs(2);

/// One media server.
pub enum Backend {
    /// In this process.
    Embedded(NativeMediaServer),
    /// Somewhere else, behind the Kurento protocol.
    Kms(Kms),
}

/// Why there is no trust in the certificates of other media servers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The file cannot be read.
    #[error("cannot read {path} (--kms-ca): {source}{}", crate::tls::advice(.source))]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has no certificate.
    #[error(
        "{path} (--kms-ca) has no usable certificate in PEM form; name a file with those of the \
         authorities that certify the media servers"
    )]
    Pem {
        /// Which.
        path: PathBuf,
    },
}

/// The media servers of the settings: `core` if rooms may use it, and each Kurento Media Server, which is
/// dialled from here on for as long as the pool lives.
pub fn start(
    config: &Config,
    core: Option<&NativeMediaServer>,
) -> Result<Pool<Backend>, TrustError> {
    let core = core.filter(|_| config.media().embedded());
    let mut members: Vec<_> = core
        .map(|core| Member {
            name: EMBEDDED.to_owned(),
            group: EMBEDDED.to_owned(),
            media: Backend::Embedded(core.clone()),
            // The rooms' own limit is that of this process.
            rooms_max: usize::MAX,
            filters: false,
        })
        .into_iter()
        .collect();
    let tls = trust(config)?.map(client_config);
    for uri in uris(config) {
        members.push(Member {
            name: public_part(uri).to_owned(),
            group: KMS.to_owned(),
            media: Backend::Kms(Kms::new(
                public_part(uri),
                websocket(uri.as_str(), tls.clone()),
            )),
            rooms_max: config.kms_max_rooms,
            filters: true,
        });
    }
    let policy = Policy {
        rules: config.media_rule.clone(),
        choice: config.media_policy.into(),
    };
    Ok(Pool::new(members, policy))
}

/// An address without its query, which may hold a token.
pub(crate) fn public_part(uri: &str) -> &str {
    uri.split('?').next().unwrap_or(uri)
}

fn uris(config: &Config) -> impl Iterator<Item = &String> {
    config.kms_uri.iter().filter(|_| config.media().kms())
}

/// Whom to believe about the certificates of other media servers; none of them may have one. Empty if the system
/// believes nobody, as in many containers.
///
/// # Errors
///
/// If the file of `kms-ca` is needed and unusable.
pub(crate) fn trust(config: &Config) -> Result<Option<RootCertStore>, TrustError> {
    uris(config)
        .any(|uri| uri.starts_with("wss:"))
        .then(|| believe(config.kms_ca.as_deref()))
        .transpose()
}

/// The given authorities and nobody else, or those of the system.
fn believe(authorities: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let pem = std::fs::read(path).map_err(|source| TrustError::Read {
                path: path.to_owned(),
                source,
            })?;
            let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
            roots.add_parsable_certificates(certificates);
            if roots.is_empty() {
                let path = path.to_owned();
                return Err(TrustError::Pem { path });
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    Ok(roots)
}

fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(tls)
}

/// Brings the process's gauges up to date.
pub fn publish_metrics(pool: &Pool<Backend>) {
    metrics::describe_gauge!(
        "tertulia_media_server_up",
        "Whether a media server answers, 1 or 0"
    );
    metrics::describe_gauge!("tertulia_media_server_rooms", "Rooms on a media server");
    // Several connections to one server have one name.
    let mut states = pool.states();
    states.dedup_by(|next, first| {
        let same = next.name == first.name;
        if same {
            first.rooms += next.rooms;
            first.is_up |= next.is_up;
        }
        same
    });
    for state in states {
        let up = if state.is_up { 1.0 } else { 0.0 };
        metrics::gauge!("tertulia_media_server_up", "server" => state.name.clone()).set(up);
        metrics::gauge!("tertulia_media_server_rooms", "server" => state.name)
            .set(state.rooms as f64);
    }
}

/// Takes leave of other media servers, after everything was released.
pub async fn shut_down(pool: &Pool<Backend>) {
    let leave = async |backend: &Backend| match backend {
        Backend::Kms(kms) if kms.is_up() => {
            let done = tokio::time::timeout(SHUTDOWN_DEADLINE, kms.shut_down());
            if let Ok(Err(error)) = done.await {
                tracing::debug!(%error, "a Kurento Media Server was left without a word");
            }
        }
        Backend::Kms(_) | Backend::Embedded(_) => {}
    };
    futures_util::future::join_all(pool.members().map(leave)).await;
}

/// Calls the same method of whichever server it is.
macro_rules! delegate {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            Self::Embedded(server) => server.$method($($argument),*).await,
            Self::Kms(server) => server.$method($($argument),*).await,
        }
    };
}

impl MediaServer for Backend {
    fn is_up(&self) -> bool {
        match self {
            Self::Embedded(server) => server.is_up(),
            Self::Kms(server) => server.is_up(),
        }
    }

    async fn known(&self) {
        delegate!(self.known());
    }

    async fn create_pipeline(&self, events: EventSender) -> Result<PipelineId, Error> {
        delegate!(self.create_pipeline(events))
    }

    async fn create_pipeline_for(
        &self,
        purpose: Purpose<'_>,
        events: EventSender,
    ) -> Result<PipelineId, Error> {
        delegate!(self.create_pipeline_for(purpose, events))
    }

    async fn create_element(
        &self,
        pipeline: &PipelineId,
        kind: ElementKind,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        delegate!(self.create_element(pipeline, kind, events))
    }

    async fn create_custom_element(
        &self,
        pipeline: &PipelineId,
        class: &str,
        parameters: &Parameters,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        delegate!(self.create_custom_element(pipeline, class, parameters, events))
    }

    async fn process_offer(&self, element: &ElementId, offer: &str) -> Result<String, Error> {
        delegate!(self.process_offer(element, offer))
    }

    async fn generate_offer(
        &self,
        element: &ElementId,
        options: OfferOptions,
    ) -> Result<String, Error> {
        delegate!(self.generate_offer(element, options))
    }

    async fn process_answer(&self, element: &ElementId, answer: &str) -> Result<String, Error> {
        delegate!(self.process_answer(element, answer))
    }

    async fn gather_candidates(&self, element: &ElementId) -> Result<(), Error> {
        delegate!(self.gather_candidates(element))
    }

    async fn add_ice_candidate(
        &self,
        element: &ElementId,
        candidate: IceCandidate,
    ) -> Result<(), Error> {
        delegate!(self.add_ice_candidate(element, candidate))
    }

    async fn connect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        delegate!(self.connect(source, sink, kind))
    }

    async fn disconnect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        delegate!(self.disconnect(source, sink, kind))
    }

    async fn set_bandwidth(
        &self,
        element: &ElementId,
        limits: BandwidthLimits,
    ) -> Result<(), Error> {
        delegate!(self.set_bandwidth(element, limits))
    }

    async fn set_delivery(&self, element: &ElementId, delivery: Delivery) -> Result<(), Error> {
        delegate!(self.set_delivery(element, delivery))
    }

    async fn stats(&self, element: &ElementId) -> Result<EndpointStats, Error> {
        delegate!(self.stats(element))
    }

    async fn invoke(
        &self,
        element: &ElementId,
        operation: &'static str,
        parameters: &Parameters,
    ) -> Result<(), Error> {
        delegate!(self.invoke(element, operation, parameters))
    }

    async fn query(
        &self,
        element: &ElementId,
        operation: &'static str,
    ) -> Result<Parameters, Error> {
        delegate!(self.query(element, operation))
    }

    async fn request_key_frame(&self, element: &ElementId) -> Result<(), Error> {
        delegate!(self.request_key_frame(element))
    }

    async fn create_data_channel(
        &self,
        element: &ElementId,
        options: DataChannelOptions,
    ) -> Result<(), Error> {
        delegate!(self.create_data_channel(element, options))
    }

    async fn close_data_channel(&self, element: &ElementId, stream: u16) -> Result<(), Error> {
        delegate!(self.close_data_channel(element, stream))
    }

    fn release_element(&self, element: &ElementId) {
        match self {
            Self::Embedded(server) => server.release_element(element),
            Self::Kms(server) => server.release_element(element),
        }
    }

    fn release_pipeline(&self, pipeline: &PipelineId) {
        match self {
            Self::Embedded(server) => server.release_pipeline(pipeline),
            Self::Kms(server) => server.release_pipeline(pipeline),
        }
    }
}
