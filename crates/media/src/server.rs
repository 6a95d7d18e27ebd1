//! The seam itself.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use crate::{Delivery, ElementId, EndpointStats, Error, EventSender, PeerId, PipelineId};

/// A server that runs media elements: our own core, a Kurento Media Server, a pool of either, or a
/// scripted fake.
///
/// Calls may take as long as a network does, so callers put a deadline on each. Calls for one
/// element take effect in the order in which they were made. A call that creates something and
/// whose future is dropped before it is ready leaves nothing behind: its caller has no id to release.
pub trait MediaServer: Send + Sync + 'static {
    /// Makes a pipeline. `events` receives its failures.
    fn create_pipeline(
        &self,
        events: EventSender,
    ) -> impl Future<Output = Result<PipelineId, Error>> + Send;

    /// [`create_pipeline`](Self::create_pipeline), with what it is for: several servers that act as one choose
    /// among them by this.
    fn create_pipeline_for(
        &self,
        purpose: Purpose<'_>,
        events: EventSender,
    ) -> impl Future<Output = Result<PipelineId, Error>> + Send {
        let _ = purpose;
        self.create_pipeline(events)
    }

    /// Whether calls have a chance at present. Rooms go elsewhere while they have none.
    fn is_up(&self) -> bool {
        true
    }

    /// Ready once [`is_up`](Self::is_up) has something to go by: a server elsewhere has been reached once, or was tried
    /// for long enough.
    fn known(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Makes an element in `pipeline`. `events` receives everything that happens to it; being passed
    /// here, it cannot miss an early one.
    fn create_element(
        &self,
        pipeline: &PipelineId,
        kind: ElementKind,
        events: EventSender,
    ) -> impl Future<Output = Result<ElementId, Error>> + Send;

    /// Answers the peer's offer. Once per endpoint, unless the offer renegotiates the same media or
    /// restarts ICE and the server supports that.
    fn process_offer(
        &self,
        element: &ElementId,
        offer: &str,
    ) -> impl Future<Output = Result<String, Error>> + Send;

    /// Makes an offer for the peer.
    fn generate_offer(
        &self,
        element: &ElementId,
        options: OfferOptions,
    ) -> impl Future<Output = Result<String, Error>> + Send;

    /// Applies the peer's answer to an offer of ours. Returns the local description.
    fn process_answer(
        &self,
        element: &ElementId,
        answer: &str,
    ) -> impl Future<Output = Result<String, Error>> + Send;

    /// Starts to report local candidates as [`Event::IceCandidateFound`](crate::Event).
    fn gather_candidates(
        &self,
        element: &ElementId,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Adds a candidate of the peer. An empty candidate ends them and is accepted.
    fn add_ice_candidate(
        &self,
        element: &ElementId,
        candidate: IceCandidate,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Feeds `sink` from `source`: one kind, or all if `kind` is `None`. A sink has one source of
    /// each kind, so an earlier one is replaced. Order relative to negotiation does not matter.
    fn connect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Cuts what [`connect`](Self::connect) made. Cutting what is not there succeeds.
    fn disconnect(
        &self,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Bounds the video of an endpoint. Applies to what is sent from here on.
    fn set_bandwidth(
        &self,
        element: &ElementId,
        limits: BandwidthLimits,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says what the peer of an endpoint wants to be sent. Takes the place of what was said before. What becomes of
    /// it is told by [`Event::VideoDeliveryChanged`](crate::Event).
    fn set_delivery(
        &self,
        element: &ElementId,
        delivery: Delivery,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = delivery;
        unsupported(element, "setDelivery")
    }

    /// Counters of an endpoint.
    fn stats(
        &self,
        element: &ElementId,
    ) -> impl Future<Output = Result<EndpointStats, Error>> + Send;

    /// Makes an element of a class that only some media servers know, with what its constructor
    /// needs. A server without such classes treats it as [`ElementKind::Other`].
    fn create_custom_element(
        &self,
        pipeline: &PipelineId,
        class: &str,
        parameters: &Parameters,
        events: EventSender,
    ) -> impl Future<Output = Result<ElementId, Error>> + Send {
        let _ = parameters;
        self.create_element(pipeline, ElementKind::Other(class.to_owned()), events)
    }

    /// Calls an operation that only the class of the element knows, such as `setOverlayedImage`,
    /// and throws its result away.
    fn invoke(
        &self,
        element: &ElementId,
        operation: &'static str,
        parameters: &Parameters,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = parameters;
        unsupported(element, operation)
    }

    /// Calls an operation that only the class of the element knows for what it tells, such as `getPosition`:
    /// named values.
    fn query(
        &self,
        element: &ElementId,
        operation: &'static str,
    ) -> impl Future<Output = Result<Parameters, Error>> + Send {
        std::future::ready(Err(Error::Unsupported {
            element: element.clone(),
            operation,
        }))
    }

    /// Asks the source of what this endpoint sends for a key frame.
    fn request_key_frame(
        &self,
        element: &ElementId,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        unsupported(element, "requestKeyframe")
    }

    /// Opens a data channel towards the peer.
    fn create_data_channel(
        &self,
        element: &ElementId,
        options: DataChannelOptions,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = options;
        unsupported(element, "createDataChannel")
    }

    /// Closes the data channel on an SCTP stream.
    fn close_data_channel(
        &self,
        element: &ElementId,
        stream: u16,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = stream;
        unsupported(element, "closeDataChannel")
    }

    /// Releases an element with all its connections. Unknown ids are ignored. Not `async`, so that
    /// a drop guard can call it.
    fn release_element(&self, element: &ElementId);

    /// Releases a pipeline with all its elements. Unknown ids are ignored.
    fn release_pipeline(&self, pipeline: &PipelineId);
}

fn unsupported(
    element: &ElementId,
    operation: &'static str,
) -> std::future::Ready<Result<(), Error>> {
    std::future::ready(Err(Error::Unsupported {
        element: element.clone(),
        operation,
    }))
}

/// What a pipeline is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose<'a> {
    /// The room that it will carry.
    pub room: &'a str,
    /// Whose joining makes the room.
    pub user: &'a str,
    /// Media is going to be changed in it, by filters or mixers.
    pub filters: bool,
}

/// Named arguments of a class that the seam does not know.
pub type Parameters = BTreeMap<String, Parameter>;

/// One argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// Text, an enumeration's symbol, or the id of another element.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// A truth value.
    Flag(bool),
}

/// How a data channel is opened (RFC 8832, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataChannelOptions {
    /// Its name; may be empty.
    pub label: String,
    /// Messages arrive in the order in which they were sent.
    pub ordered: bool,
    /// A message is given up after that many milliseconds.
    pub max_packet_life_time_ms: Option<u16>,
    /// A message is given up after that many retransmissions.
    pub max_retransmits: Option<u16>,
    /// The sub-protocol; may be empty.
    pub protocol: String,
}

/// What to create.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementKind {
    /// ICE, DTLS and SRTP towards a browser or phone.
    WebRtcEndpoint {
        /// Accept and offer data channels.
        data_channels: bool,
        /// Whose it is, if the application knows. Without, it shares its path with no other endpoint.
        peer: Option<PeerId>,
    },
    /// RTP towards a gateway or camera: no ICE, no DTLS.
    RtpEndpoint {
        /// Encrypted with keys that the descriptions tell; `None`: not at all. Its peer must do the same.
        sdes: Option<Sdes>,
        /// `true`: over IPv6 if the server has it, else over IPv4. `false`: the other way round.
        ipv6: bool,
    },
    /// Forwards what it gets; the fixed point from which a publisher fans out.
    PassThrough,
    /// Something only some media servers know, such as a filter, by its Kurento class name.
    Other(String),
}

impl ElementKind {
    /// Kurento's class name.
    pub fn class_name(&self) -> &str {
        match self {
            Self::WebRtcEndpoint { .. } => "WebRtcEndpoint",
            Self::RtpEndpoint { .. } => "RtpEndpoint",
            Self::PassThrough => "PassThrough",
            Self::Other(name) => name,
        }
    }
}

/// How we protect what we send over plain RTP, and how the peer must (RFC 4568). `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Sdes {
    suite: CryptoSuite,
    key: Option<Vec<u8>>,
}

impl Sdes {
    /// With a key that the server draws.
    pub fn random(suite: CryptoSuite) -> Self {
        Self { suite, key: None }
    }

    /// With our master key and salt, one after the other. `None` unless there are [`CryptoSuite::key_bytes`] of them.
    pub fn with_key(suite: CryptoSuite, key: Vec<u8>) -> Option<Self> {
        let fits = key.len() == suite.key_bytes();
        let key = Some(key);
        fits.then_some(Self { suite, key })
    }

    /// The cipher, of both sides.
    pub fn suite(&self) -> CryptoSuite {
        self.suite
    }

    /// Our master key and salt, unless the server draws them.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }
}

impl fmt::Debug for Sdes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Sdes");
        debug.field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Ciphers and lengths of authentication tags (RFC 4568, section 6.2; RFC 6188, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CryptoSuite {
    /// AES with keys of 128 bits, tags of 32 bits.
    Aes128CmHmacSha1_32,
    /// AES with keys of 128 bits, tags of 80 bits.
    Aes128CmHmacSha1_80,
    /// AES with keys of 256 bits, tags of 32 bits.
    Aes256CmHmacSha1_32,
    /// AES with keys of 256 bits, tags of 80 bits.
    Aes256CmHmacSha1_80,
}

impl CryptoSuite {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Aes128CmHmacSha1_32,
        Self::Aes128CmHmacSha1_80,
        Self::Aes256CmHmacSha1_32,
        Self::Aes256CmHmacSha1_80,
    ];

    /// Kurento's name. In session descriptions the words have another order.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128CmHmacSha1_32 => "AES_128_CM_HMAC_SHA1_32",
            Self::Aes128CmHmacSha1_80 => "AES_128_CM_HMAC_SHA1_80",
            Self::Aes256CmHmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Self::Aes256CmHmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
        }
    }

    /// Length of master key and salt together.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Aes128CmHmacSha1_32 | Self::Aes128CmHmacSha1_80 => 16 + 14,
            Self::Aes256CmHmacSha1_32 | Self::Aes256CmHmacSha1_80 => 32 + 14,
        }
    }
}

/// A kind of media. Connections are made and cut by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Data-channel messages.
    Data,
}

impl MediaKind {
    /// Every kind, in the order in which Kurento connects them.
    pub const ALL: [Self; 3] = [Self::Audio, Self::Video, Self::Data];
}

/// An ICE candidate as signaling carries it (RFC 8839, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceCandidate {
    /// `candidate:…`, without `a=`; empty at the end of candidates.
    pub candidate: String,
    /// The `a=mid` of the media section.
    pub sdp_mid: String,
    /// Index of the media section, from 0.
    pub sdp_m_line_index: u16,
}

/// What a generated offer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferOptions {
    /// Include an audio section.
    pub audio: bool,
    /// Include a video section.
    pub video: bool,
}

impl Default for OfferOptions {
    fn default() -> Self {
        Self {
            audio: true,
            video: true,
        }
    }
}

/// A bit rate in kbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kilobits(pub u32);

/// Bounds of what goes over an endpoint. `None`: unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BandwidthLimits {
    /// The peer is told to send no more sound than this. Read at negotiation.
    pub max_audio_recv: Option<Kilobits>,
    /// The peer is told it may send this much even when the path seems worse.
    pub min_video_recv: Option<Kilobits>,
    /// The peer is told to send no more than this.
    pub max_video_recv: Option<Kilobits>,
    /// Sent to the peer even when its path seems worse.
    pub min_video_send: Option<Kilobits>,
    /// The source of what is sent to the peer is asked for no more than this.
    pub max_video_send: Option<Kilobits>,
}
