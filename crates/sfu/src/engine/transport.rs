//! One ICE and DTLS session with a peer, and everything that is secured by it.
//!
//! [`Transport`] turns datagrams of a validated 5-tuple into plaintext and back. Media streams are
//! bound to it by SSRC. Deliberately absent: what the plaintext means.

use std::collections::VecDeque;
use std::time::Instant;

use media::EventSender;
use smallvec::SmallVec;

use forwarding::rtp::Ssrc;
use forwarding::send::PublisherClock;
use forwarding::transport_feedback::TransportFeedback;

use super::dtls::{Dtls, DtlsEvent, DtlsFailure, SrtpKeyingMaterial};
use super::flow::Flow;
use super::graph::ElementKey;
use super::ice::IceLite;
use super::outbox::Outbox;
use super::sctp::{Sctp, SctpEvent};
use super::sdp::DataDescription;
use super::source::SourceKey;
use super::srtp::{KeyingMaterial, Opener, ReceiveIndex, Sealer};
use super::subscriber::SubscriberKey;

/// Incoming SSRCs of one transport: three simulcast layers with retransmissions, audio, and as many
/// again for senders that restart. Too low: a publisher that changes its SSRCs goes silent. Too high:
/// a hostile one costs memory and lookup time.
pub(super) const INBOUND_STREAMS_MAX: usize = 24;

/// Handle of a transport; valid until it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TransportKey(pub(super) usize);

/// An incoming RTP stream.
pub(super) struct Inbound {
    pub(super) ssrc: Ssrc,
    /// Roll-over counter and replay window.
    pub(super) index: ReceiveIndex,
    pub(super) source: SourceKey,
    /// Index into the layers of the source.
    pub(super) layer: usize,
    /// Carries retransmissions (RFC 4588) of the layer.
    pub(super) repair: bool,
}

/// SRTP of both directions.
pub(super) struct Keys {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
}

/// What a transport tells the engine after it was fed.
pub(super) enum Notice {
    /// The DTLS handshake is done.
    Connected,
    /// A data channel did something.
    Data(SctpEvent),
    /// The session is over.
    Lost(Option<DtlsFailure>),
}

/// One ICE and DTLS session.
pub(super) struct Transport {
    pub(super) owner: ElementKey,
    pub(super) events: EventSender,
    pub(super) ice: IceLite,
    pub(super) dtls: Dtls,
    pub(super) keys: Option<Keys>,
    /// Data channels, once negotiated.
    pub(super) data: Option<DataDescription>,
    pub(super) sctp: Option<Sctp>,
    /// Where everything is sent.
    pub(super) flow: Option<Flow>,
    pub(super) inbound: Vec<Inbound>,
    /// The replay windows of replaced streams, the oldest first.
    retired: VecDeque<(Ssrc, ReceiveIndex)>,
    /// Index into `inbound` of the packet before: bursts come from one stream.
    pub(super) inbound_last: usize,
    pub(super) sources: SmallVec<[SourceKey; 2]>,
    pub(super) subscribers: SmallVec<[SubscriberKey; 2]>,
    pub(super) feedback: TransportFeedback,
    /// The peer's wall clock against ours, for lip sync.
    pub(super) publisher_clock: PublisherClock,
    /// Transport-wide number of the next RTP packet sent.
    pub(super) transport_seq: u16,
    pub(super) reports_at: Option<Instant>,
    /// The deadline known to the timers.
    pub(super) armed: Option<Instant>,
    pub(super) connected: bool,
    /// Over: stays only because tracks refer to it.
    pub(super) closed: bool,
    /// RTCP under construction, kept for its memory.
    pub(super) rtcp: Vec<u8>,
}

impl Transport {
    pub(super) fn new(owner: ElementKey, events: EventSender, ice: IceLite, dtls: Dtls) -> Self {
        Self {
            owner,
            events,
            ice,
            dtls,
            keys: None,
            data: None,
            sctp: None,
            flow: None,
            inbound: Vec::new(),
            retired: VecDeque::new(),
            inbound_last: 0,
            sources: SmallVec::new(),
            subscribers: SmallVec::new(),
            feedback: TransportFeedback::default(),
            publisher_clock: PublisherClock::default(),
            transport_seq: 0,
            reports_at: None,
            armed: None,
            connected: false,
            closed: false,
            rtcp: Vec::new(),
        }
    }

    /// Ends the session for good: nothing is sent or understood any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.flow = None;
        self.keys = None;
        self.sctp = None;
        self.reports_at = None;
    }

    /// Takes out the incoming streams that another one replaces.
    ///
    /// Their replay windows stay: whoever recorded packets of such a stream must not be able to bring
    /// it back with them, and if the peer returns to it, its roll-over count still holds.
    pub(super) fn retire(&mut self, is_replaced: impl Fn(&Inbound) -> bool) {
        for stream in self.inbound.extract_if(.., |stream| is_replaced(stream)) {
            self.retired.retain(|(ssrc, _)| *ssrc != stream.ssrc);
            self.retired.push_back((stream.ssrc, stream.index));
        }
        while self.retired.len() > INBOUND_STREAMS_MAX {
            self.retired.pop_front();
        }
    }

    /// Where an unknown stream goes on: after what came of it before it was replaced.
    pub(super) fn former_index(&self, ssrc: Ssrc) -> ReceiveIndex {
        let former = self.retired.iter().find(|(known, _)| *known == ssrc);
        former.map(|(_, index)| index.clone()).unwrap_or_default()
    }

    /// Position of an incoming stream in [`Self::inbound`].
    pub(super) fn inbound_of(&mut self, ssrc: Ssrc) -> Option<usize> {
        if let Some(last) = self.inbound.get(self.inbound_last)
            && last.ssrc == ssrc
        {
            return Some(self.inbound_last);
        }
        let found = self.inbound.iter().position(|stream| stream.ssrc == ssrc)?;
        self.inbound_last = found;
        Some(found)
    }

    /// Passes on what DTLS and SCTP have to send and to say.
    pub(super) fn drive(&mut self, now: Instant, outbox: &mut Outbox, notices: &mut Vec<Notice>) {
        while let Some(event) = self.dtls.poll_event() {
            match event {
                DtlsEvent::Connected { keys } => {
                    self.connected = true;
                    self.keys = keys.map(Keys::new);
                    self.start_data(now);
                    notices.push(Notice::Connected);
                }
                DtlsEvent::Data(packet) => {
                    if let Some(sctp) = &mut self.sctp {
                        sctp.handle_packet(now, packet);
                    }
                }
                DtlsEvent::Closed => notices.push(Notice::Lost(None)),
                DtlsEvent::Failed(failure) => notices.push(Notice::Lost(Some(failure))),
            }
        }
        if let Some(sctp) = &mut self.sctp {
            while let Some(event) = sctp.poll_event() {
                notices.push(Notice::Data(event));
            }
            while let Some(packet) = sctp.poll_transmit(now) {
                if self.dtls.write(now, &packet).is_err() {
                    break;
                }
            }
        }
        // Without a flow the records are dropped, and DTLS repeats them later.
        while let Some(record) = self.dtls.poll_transmit() {
            if let Some(flow) = self.flow {
                outbox.push(flow, &record);
            }
        }
    }

    /// Begins SCTP if data channels are negotiated and DTLS is up.
    pub(super) fn start_data(&mut self, now: Instant) {
        if let (Some(data), true, None) = (self.data, self.connected, &self.sctp) {
            self.sctp = Some(Sctp::new(
                self.dtls.role(),
                data.sctp_port,
                data.sctp_port,
                data.max_message_size,
                now,
            ));
        }
    }

    /// Seals [`Self::rtcp`] and queues it.
    pub(super) fn send_rtcp(&mut self, outbox: &mut Outbox) -> bool {
        let (Some(flow), Some(keys)) = (self.flow, &mut self.keys) else {
            self.rtcp.clear();
            return false;
        };
        let sealed = !self.rtcp.is_empty() && keys.sealer.seal_rtcp(&mut self.rtcp).is_ok();
        if sealed {
            outbox.push(flow, &self.rtcp);
        }
        self.rtcp.clear();
        sealed
    }
}

impl Keys {
    fn new(material: SrtpKeyingMaterial) -> Self {
        let keys =
            KeyingMaterial::from_exporter(material.profile, &material.bytes, material.is_client);
        Self {
            sealer: Sealer::new(&keys.local),
            opener: Opener::new(&keys.remote),
        }
    }
}
