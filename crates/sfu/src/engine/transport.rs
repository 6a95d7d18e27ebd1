//! One session with a peer, and everything that is carried by it.
//!
//! [`Transport`] turns datagrams of the peer into plaintext and back. How the peer is known is its
//! [`Session`]; what is done to media is its [`Protection`]. Media streams are bound to it by SSRC.
//! Deliberately absent: what the plaintext means.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media::{Event, EventSender};
use smallvec::SmallVec;

use forwarding::rtp::{ExtendedSeq, Ssrc};
use forwarding::send::PublisherClock;
use forwarding::transport_feedback::TransportFeedback;

use super::downlink::Membership;
use super::dtls::{Dtls, DtlsEvent, DtlsFailure, SrtpKeyingMaterial};
use super::flow::Flow;
use super::graph::ElementKey;
use super::ice::IceLite;
use super::outbox::{Outbox, Place};
use super::plain::PlainPeer;
use super::relay::{Limits, MirrorId};
use super::sctp::{Sctp, SctpEvent};
use super::sdp::DataDescription;
use super::source::SourceKey;
use super::srtp::{KeyingMaterial, OpenError, Opener, Profile, ReceiveIndex, Sealer};
use super::subscriber::SubscriberKey;

/// Incoming SSRCs of one transport: three simulcast layers with retransmissions, audio, and as many
/// again for senders that restart. Too low: a publisher that changes its SSRCs goes silent. Too high:
/// a hostile one costs memory and lookup time.
pub(super) const INBOUND_STREAMS_MAX: usize = 24;

/// Incoming SSRCs that nobody has announced and a transport may begin in [`STREAMS_WINDOW`]. Too low: a publisher that begins many at once, or
/// begins anew, goes silent for as long. Too high: one that begins another with each packet has us divide what everybody
/// gets as often.
const STREAMS_PER_WINDOW: u32 = 24;
const STREAMS_WINDOW: Duration = Duration::from_secs(2);

/// Time without RTP and RTCP after which a peer counts as silent: five intervals of reports (RFC 3550, section 6.3.5).
/// Too low: who reports rarely is said to have gone. Too high: applications learn of it late.
const HEARING: Duration = Duration::from_secs(25);

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

/// How a peer is known and reached.
///
/// Boxed, like data channels: a [`Transport`] is what every packet touches, so it should be small.
pub(super) enum Session {
    /// ICE proves who sends, DTLS makes the keys.
    Secure { ice: Box<IceLite>, dtls: Box<Dtls> },
    /// The description names the peer's addresses, and nothing is proved.
    Plain(PlainPeer),
    /// There is no peer: another worker passes the media on.
    Mirror {
        from: usize,
        id: MirrorId,
        /// The limit that the other worker knows of, if we know which.
        told: Option<Limits>,
    },
}

/// What is done to RTP and RTCP, in both directions.
pub(super) enum Protection {
    /// SRTP.
    Keys {
        profile: Profile,
        sealer: Sealer,
        opener: Opener,
    },
    /// Nothing.
    Plain,
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

/// One session with a peer.
pub(super) struct Transport {
    pub(super) owner: ElementKey,
    pub(super) events: EventSender,
    pub(super) session: Session,
    /// `None`: media can neither be sent nor understood yet, or no longer.
    pub(super) protection: Option<Protection>,
    /// Data channels, once negotiated.
    pub(super) data: Option<DataDescription>,
    pub(super) sctp: Option<Box<Sctp>>,
    /// Where everything is sent, but the RTCP of plain sessions.
    pub(super) flow: Option<Flow>,
    pub(super) inbound: Vec<Inbound>,
    /// How many of them began in the window that opened then.
    began: (Option<Instant>, u32),
    /// When RTP or RTCP came last.
    heard_at: Option<Instant>,
    /// The application was told that nothing comes.
    is_silent: bool,
    /// The replay windows of replaced streams, the oldest first.
    retired: VecDeque<(Ssrc, ReceiveIndex)>,
    /// Index into `inbound` of the packet before: bursts come from one stream.
    pub(super) inbound_last: usize,
    pub(super) sources: SmallVec<[SourceKey; 2]>,
    pub(super) subscribers: SmallVec<[SubscriberKey; 2]>,
    /// What it shares with others of the same participant.
    pub(super) downlink: Option<Membership>,
    pub(super) feedback: TransportFeedback,
    /// The peer's wall clock against ours, for lip sync.
    pub(super) publisher_clock: PublisherClock,
    /// Transport-wide number of the next RTP packet sent.
    pub(super) transport_seq: u16,
    /// Where its last packet of sound lies in the outbox, if no picture has followed.
    pub(super) sound: Option<Place>,
    pub(super) reports_at: Option<Instant>,
    /// When to look at packets that are held for its subscribers.
    pub(super) held_until: Option<Instant>,
    /// The deadline known to the timers.
    pub(super) armed: Option<Instant>,
    pub(super) connected: bool,
    /// Over: stays only because tracks refer to it.
    pub(super) closed: bool,
    /// RTCP under construction, kept for its memory.
    pub(super) rtcp: Vec<u8>,
}

impl Transport {
    pub(super) fn new(owner: ElementKey, events: EventSender, session: Session) -> Self {
        let protection = match session {
            Session::Secure { .. } => None,
            Session::Plain(_) | Session::Mirror { .. } => Some(Protection::Plain),
        };
        Self {
            owner,
            events,
            session,
            protection,
            data: None,
            sctp: None,
            flow: None,
            inbound: Vec::new(),
            heard_at: None,
            is_silent: false,
            began: (None, 0),
            retired: VecDeque::new(),
            inbound_last: 0,
            sources: SmallVec::new(),
            subscribers: SmallVec::new(),
            downlink: None,
            feedback: TransportFeedback::default(),
            publisher_clock: PublisherClock::default(),
            transport_seq: 0,
            sound: None,
            reports_at: None,
            held_until: None,
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
        self.protection = None;
        self.sctp = None;
        self.reports_at = None;
        self.held_until = None;
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

    /// True if one more incoming stream may begin.
    pub(super) fn may_begin_stream(&mut self, now: Instant) -> bool {
        let (opened_at, count) = &mut self.began;
        let opened = *opened_at.get_or_insert(now);
        if now.saturating_duration_since(opened) >= STREAMS_WINDOW {
            (*opened_at, *count) = (Some(now), 0);
        }
        *count += 1;
        *count <= STREAMS_PER_WINDOW
    }

    /// Where an unknown stream goes on: after what came of it before it was replaced.
    pub(super) fn former_index(&self, ssrc: Ssrc) -> ReceiveIndex {
        let former = self.retired.iter().find(|(known, _)| *known == ssrc);
        former.map(|(_, index)| index.clone()).unwrap_or_default()
    }

    /// ICE, unless the session is a plain one.
    pub(super) fn ice_mut(&mut self) -> Option<&mut IceLite> {
        match &mut self.session {
            Session::Secure { ice, .. } => Some(ice),
            Session::Plain(_) | Session::Mirror { .. } => None,
        }
    }

    /// DTLS, unless the session is a plain one.
    pub(super) fn dtls_mut(&mut self) -> Option<&mut Dtls> {
        match &mut self.session {
            Session::Secure { dtls, .. } => Some(dtls),
            Session::Plain(_) | Session::Mirror { .. } => None,
        }
    }

    /// True if the peer can be sent media. One of plain RTP whose address is known need not have sent anything for it.
    pub(super) fn reaches_peer(&self) -> bool {
        self.connected || self.flow.is_some() && matches!(self.session, Session::Plain(_))
    }

    /// The peer gave a sign of life, which is consent to send on (RFC 7675).
    pub(super) fn touch(&mut self, now: Instant) {
        if let Session::Secure { ice, .. } = &mut self.session {
            ice.touch(now);
        }
        self.heard_at = Some(now);
        if self.is_silent {
            self.tell_silence(false);
        }
    }

    /// Tells the application if the peer was not heard for long.
    pub(super) fn listen_for_silence(&mut self, now: Instant) {
        let silence = self.heard_at.map(|at| now.saturating_duration_since(at));
        if silence.is_some_and(|it| it >= HEARING) && !self.is_silent {
            self.tell_silence(true);
        }
    }

    /// The peer said goodbye to these streams. Nothing comes any more if they were all.
    pub(super) fn handle_goodbye(&mut self, is_gone: impl Fn(Ssrc) -> bool) {
        let mut media = self.inbound.iter().filter(|stream| !stream.repair);
        if media.all(|stream| is_gone(stream.ssrc)) && !self.is_silent {
            self.tell_silence(true);
        }
    }

    fn tell_silence(&mut self, is_silent: bool) {
        self.is_silent = is_silent;
        self.events.send(Event::PeerHeard(!is_silent));
    }

    /// A 5-tuple is gone; another validated one may take its place.
    pub(super) fn flow_closed(&mut self, flow: Flow) {
        if let Session::Secure { ice, .. } = &mut self.session
            && ice.flow_closed(flow)
        {
            self.flow = ice.selected();
        }
    }

    /// When the session itself has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let Session::Secure { ice, dtls } = &self.session else {
            return None;
        };
        let sctp = self.sctp.as_deref().and_then(Sctp::poll_timeout);
        let ice = [ice.poll_timeout(), ice.poll_failure_timeout()];
        ice.into_iter()
            .chain([dtls.poll_timeout(), sctp])
            .flatten()
            .min()
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
        while let Some(event) = self.dtls_mut().and_then(Dtls::poll_event) {
            match event {
                DtlsEvent::Connected { keys } => {
                    self.connected = true;
                    self.protection = keys.map(Protection::new);
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
        let Session::Secure { dtls, .. } = &mut self.session else {
            return;
        };
        if let Some(sctp) = &mut self.sctp {
            while let Some(event) = sctp.poll_event() {
                notices.push(Notice::Data(event));
            }
            while let Some(packet) = sctp.poll_transmit(now) {
                if dtls.write(now, &packet).is_err() {
                    break;
                }
            }
        }
        // A client's first flight waits here for the peer's first check.
        if let Some(flow) = self.flow {
            while let Some(record) = dtls.poll_transmit() {
                outbox.push(flow, &record);
            }
        }
    }

    /// Begins SCTP if data channels are negotiated and DTLS is up.
    pub(super) fn start_data(&mut self, now: Instant) {
        if let (Some(data), true, None, Session::Secure { dtls, .. }) =
            (self.data, self.connected, &self.sctp, &self.session)
        {
            self.sctp = Some(Box::new(Sctp::new(
                dtls.role(),
                data.sctp_port,
                data.sctp_port,
                data.max_message_size,
                now,
            )));
        }
    }

    /// Seals [`Self::rtcp`] and queues it.
    pub(super) fn send_rtcp(&mut self, outbox: &mut Outbox) -> bool {
        let flow = match &self.session {
            Session::Secure { .. } => self.flow,
            Session::Plain(peer) => peer.rtcp_flow(),
            Session::Mirror { .. } => None,
        };
        let (Some(flow), Some(protection)) = (flow, &mut self.protection) else {
            self.rtcp.clear();
            return false;
        };
        let sealed = !self.rtcp.is_empty() && protection.seal_rtcp(&mut self.rtcp);
        if sealed {
            outbox.push(flow, &self.rtcp);
        }
        self.rtcp.clear();
        sealed
    }
}

impl Protection {
    /// SRTP with keys that were agreed on.
    pub(super) fn with_keys(profile: Profile, keys: &KeyingMaterial) -> Self {
        Self::Keys {
            profile,
            sealer: Sealer::new(&keys.local),
            opener: Opener::new(&keys.remote),
        }
    }

    fn new(material: SrtpKeyingMaterial) -> Self {
        let keys =
            KeyingMaterial::from_exporter(material.profile, &material.bytes, material.is_client);
        Self::with_keys(material.profile, &keys)
    }

    /// The cipher, if there is one.
    pub(super) fn profile(&self) -> Option<Profile> {
        match self {
            Self::Keys { profile, .. } => Some(*profile),
            Self::Plain => None,
        }
    }

    /// By how many bytes an RTP packet grows.
    pub(super) fn rtp_overhead(&self) -> usize {
        match self {
            Self::Keys { sealer, .. } => sealer.rtp_overhead(),
            Self::Plain => 0,
        }
    }

    /// Finishes an RTP packet that ends in `tail`; see [`Sealer::seal_rtp_from`].
    pub(super) fn seal_rtp_from(
        &self,
        index: ExtendedSeq,
        ssrc: Ssrc,
        header_len: usize,
        tail: &[u8],
        packet: &mut [u8],
    ) {
        match self {
            Self::Keys { sealer, .. } => {
                sealer.seal_rtp_from(index.0, ssrc.0, header_len, tail, packet);
            }
            Self::Plain => {
                let front = packet.len() - tail.len();
                packet[front..].copy_from_slice(tail);
            }
        }
    }

    /// Opens an RTP packet in place; the answer is its length without protection. Plain packets
    /// have no replay window: who repeats the numbers of a stream is its sender after a restart.
    pub(super) fn open_rtp(
        &self,
        index: &mut ReceiveIndex,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, OpenError> {
        match self {
            Self::Keys { opener, .. } => opener.open_rtp(index, header_len, packet),
            Self::Plain => Ok(packet.len()),
        }
    }

    /// Opens an RTCP packet in place; the answer is its length without protection.
    pub(super) fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, OpenError> {
        match self {
            Self::Keys { opener, .. } => opener.open_rtcp(packet),
            Self::Plain => Ok(packet.len()),
        }
    }

    /// Seals an RTCP packet in place; false if it must not leave.
    fn seal_rtcp(&mut self, packet: &mut Vec<u8>) -> bool {
        match self {
            Self::Keys { sealer, .. } => sealer.seal_rtcp(packet).is_ok(),
            Self::Plain => true,
        }
    }
}
