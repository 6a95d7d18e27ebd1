//! Data channels: SCTP over DTLS (RFC 8261), RFC 8831 and the opening handshake of RFC 8832.
//!
//! Read [`Sctp`] first: one association with its channels. Deliberately absent: sockets and clocks.

mod gate;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use media::ChannelStats;
use rtc_datachannel::data_channel::DataChannel;
use rtc_datachannel::message::Message;
use rtc_datachannel::message::message_channel_ack::DataChannelAck;
use rtc_datachannel::message::message_channel_open::{
    CHANNEL_PRIORITY_NORMAL, ChannelType, DataChannelOpen,
};
use rtc_sctp::{
    Association, AssociationError, AssociationEvent, AssociationHandle, ClientConfig,
    DatagramEvent, Endpoint, EndpointConfig, Event, Payload, PayloadProtocolIdentifier as Ppid,
    ReliabilityType, ServerConfig, StreamEvent, TransportConfig,
};
use rtc_shared::TransportProtocol;
use rtc_shared::marshal::{Marshal as _, Unmarshal as _};
use thiserror::Error;

use super::dtls::DtlsRole;
use gate::{Abuse, Gate, RECEIVE_WINDOW, SINK, STREAMS_MAX, Verdict};

/// Longest message in either direction, in bytes; announce it as `a=max-message-size`. Browsers
/// send up to 256 KiB. Too low: such messages are lost. Too high: one message holds up the others.
pub const MESSAGE_SIZE_MAX: u32 = 256 * 1024;
/// Channels of an association. Too low: applications that use a channel per topic fail. Too high: a peer
/// makes us keep names and states.
const CHANNELS_MAX: usize = 256;
/// Label and protocol of a channel together, in bytes. They are shown and compared, not parsed.
const NAMES_SIZE_MAX: usize = 1024;
/// Bytes that may wait on one channel. Too low: bursts are lost. Too high: a slow receiver gets
/// old news, and costs memory. At least one message of full size must fit.
const BUFFERED_MAX: usize = 1024 * 1024;
/// Bytes that may wait on all channels of an association together.
const BUFFERED_TOTAL_MAX: usize = 4 * 1024 * 1024;

/// Time between two copies of a reset request. Too low: copies on every slow path. Too high: a closed
/// channel lingers at the peer.
const RESET_INTERVAL: Duration = Duration::from_secs(1);
/// Copies of a reset request before the peer is left to itself.
const RESET_COPIES_MAX: u32 = 20;

/// rtc-sctp wants addresses; DTLS has none.
const PLACEHOLDER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// How hard a channel tries to deliver (RFC 8831 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reliability {
    /// Until it is delivered.
    #[default]
    Reliable,
    /// At most so many retransmissions.
    MaxRetransmits(u16),
    /// At most so many milliseconds.
    MaxLifetimeMs(u16),
}

/// What a channel is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChannelOptions {
    /// `RTCDataChannel.label`
    pub label: String,
    /// `RTCDataChannel.protocol`
    pub protocol: String,
    /// False lets messages overtake each other.
    pub ordered: bool,
    /// How hard to try.
    pub reliability: Reliability,
}

/// What happened on an association.
#[derive(Debug)]
#[non_exhaustive]
pub enum SctpEvent {
    /// The association is up.
    Connected,
    /// A channel can be used: the peer opened it, or confirmed ours.
    Opened {
        /// Stream identifier, the same on both sides.
        id: u16,
        /// What it was opened with.
        options: ChannelOptions,
        /// True if the peer opened it.
        remote: bool,
    },
    /// A whole message.
    Message {
        /// Which channel.
        id: u16,
        /// False for a string; whether it is UTF-8 is for the receiver to check.
        binary: bool,
        /// The payload, possibly empty.
        data: Bytes,
    },
    /// A channel ended. Its identifier may be used again.
    Closed {
        /// Which channel.
        id: u16,
    },
    /// The association ended, and all channels with it (each got its `Closed`). Nothing follows.
    Failed,
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SctpError {
    /// No such channel, or it is not open (yet, or any more).
    #[error("channel {0} is not open")]
    NotOpen(u16),
    /// Too much is waiting to be sent. The message was dropped; later ones may pass.
    #[error("send buffer of channel {0} is full")]
    WouldBlock(u16),
    /// The message is longer than the peer takes.
    #[error("message of {0} bytes is too long")]
    TooLong(usize),
    /// No more channels.
    #[error("too many channels")]
    TooManyChannels,
    /// The association ended.
    #[error("association is closed")]
    Closed,
}

/// One SCTP association and its data channels.
pub struct Sctp {
    role: DtlsRole,
    state: State,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    gate: Gate,
    channels: BTreeMap<u16, Channel>,
    /// Longest message that the peer takes, in bytes.
    send_size_max: usize,
    /// When to repeat reset requests, and how often that happened in a row.
    reset_at: Option<Instant>,
    reset_copies: u32,
    transmits: VecDeque<Bytes>,
    events: VecDeque<SctpEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Handshaking,
    Connected,
    Failed,
}

struct Channel {
    options: ChannelOptions,
    state: ChannelState,
    /// Bytes handed to rtc-sctp and not confirmed by the peer.
    buffered: usize,
    sent: Traffic,
    received: Traffic,
}

/// What has gone one way.
#[derive(Clone, Copy, Default)]
struct Traffic {
    messages: u64,
    bytes: u64,
}

impl Traffic {
    fn count(&mut self, message: &[u8]) {
        self.messages += 1;
        self.bytes += message.len() as u64;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ChannelState {
    /// Waits for the association.
    Planned,
    /// DATA_CHANNEL_OPEN is on its way.
    Opening,
    Open,
}

impl Sctp {
    /// Create it when DTLS is connected. `role` is the DTLS role: a client starts the association and
    /// uses even stream identifiers (RFC 8832 section 6), a server waits and uses odd ones.
    ///
    /// `max_message_size` is what the peer's SDP says it takes, in bytes; 0 means any size.
    #[must_use]
    pub fn new(
        role: DtlsRole,
        local_port: u16,
        remote_port: u16,
        max_message_size: u32,
        now: Instant,
    ) -> Self {
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(RECEIVE_WINDOW)
            .with_max_message_size(MESSAGE_SIZE_MAX)
            .with_max_num_inbound_streams(STREAMS_MAX)
            .with_max_num_outbound_streams(STREAMS_MAX);
        let server_config = match role {
            DtlsRole::Client => None,
            DtlsRole::Server => Some(Arc::new(ServerConfig::new(transport.clone()))),
        };
        let send_size_max = match max_message_size {
            0 => MESSAGE_SIZE_MAX,
            limit => limit.min(MESSAGE_SIZE_MAX),
        };
        let mut this = Self {
            role,
            state: State::Handshaking,
            endpoint: Endpoint::new(
                PLACEHOLDER,
                TransportProtocol::UDP,
                Arc::new(EndpointConfig::default()),
                server_config,
            ),
            association: None,
            gate: Gate::new(role, local_port, remote_port),
            channels: BTreeMap::new(),
            send_size_max: send_size_max as usize,
            reset_at: None,
            reset_copies: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        if role == DtlsRole::Client {
            let config = ClientConfig::new(transport);
            match this.endpoint.connect(now, config, PLACEHOLDER) {
                Ok(association) => this.association = Some(association),
                Err(_) => this.fail(),
            }
            this.drive(now);
        }
        this
    }

    /// Takes what [`super::dtls::DtlsEvent::Data`] carried.
    pub fn handle_packet(&mut self, now: Instant, packet: BytesMut) {
        if self.state == State::Failed {
            return;
        }
        let is_up = self.state == State::Connected;
        let is_busy = |id| is_busy(&self.channels, id);
        match self.gate.admit(packet.freeze(), is_up, is_busy) {
            Ok(Verdict::Pass(packet)) => {
                self.pass(now, packet);
                self.drive(now);
            }
            Ok(Verdict::Answer(answer)) => self.transmits.extend(answer),
            Err(Abuse) => self.abort(now),
        }
    }

    fn pass(&mut self, now: Instant, packet: Bytes) {
        match self.endpoint.handle(now, PLACEHOLDER, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                self.association = Some((handle, association));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                self.handle_association_event(handle, event);
            }
            _ => {}
        }
    }

    fn handle_association_event(&mut self, handle: AssociationHandle, event: AssociationEvent) {
        if let Some((known, association)) = &mut self.association
            && *known == handle
        {
            association.handle_event(event);
        }
    }

    /// Moves everything out of the association that it has to say.
    fn drive(&mut self, now: Instant) {
        loop {
            while let Some((_, association)) = &mut self.association
                && let Some(event) = association.poll()
            {
                self.handle_event(now, event);
            }
            self.collect_transmits(now);
            // A confirmation just sent or heard may let a request through.
            let is_busy = |id| is_busy(&self.channels, id);
            let Some(packet) = self.gate.release(is_busy) else {
                break;
            };
            self.pass(now, packet);
        }
        let is_over = self.association.as_ref().is_some_and(|(_, association)| {
            association.is_drained() || self.state == State::Connected && association.is_closed()
        });
        if is_over {
            self.fail();
        }
    }

    fn collect_transmits(&mut self, now: Instant) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        while let Some(transmit) = association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                for packet in packets {
                    self.transmits.push_back(self.gate.handle_sent(packet));
                }
            }
        }
        if self.gate.unanswered().len() == 0 {
            self.reset_at = None;
            self.reset_copies = 0;
        } else if self.reset_at.is_none() {
            self.reset_at = Some(now + RESET_INTERVAL);
        }
    }

    fn repeat_resets(&mut self, now: Instant) {
        if self.reset_at.is_none_or(|at| now < at) {
            return;
        }
        self.reset_copies += 1;
        if self.reset_copies > RESET_COPIES_MAX {
            self.gate.forget_unanswered();
        }
        self.transmits.extend(self.gate.unanswered().cloned());
        self.reset_at = (self.gate.unanswered().len() > 0).then(|| now + RESET_INTERVAL);
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected if self.state == State::Handshaking => {
                self.state = State::Connected;
                self.events.push_back(SctpEvent::Connected);
                self.open_planned(now);
            }
            Event::HandshakeFailed { .. } => self.fail(),
            Event::AssociationLost {
                reason: AssociationError::Reset,
                id,
            } => {
                self.gate.note_reset(id);
                self.forget(id);
            }
            Event::Stream(StreamEvent::Readable { id }) => self.read(now, id),
            Event::Stream(StreamEvent::BufferedAmountReleased { id, n_bytes }) => {
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.buffered = channel.buffered.saturating_sub(n_bytes);
                }
            }
            Event::Stream(StreamEvent::Opened { .. }) => {
                // Keeps the library's queue of unaccepted streams empty; DCEP says what they are.
                if let Some((_, association)) = &mut self.association {
                    let _ = association.accept_stream();
                }
            }
            _ => {}
        }
    }

    fn read(&mut self, now: Instant, id: u16) {
        while let Some((_, association)) = &mut self.association {
            let Ok(Some(chunks)) = association.stream(id).and_then(|mut stream| stream.read())
            else {
                return;
            };
            self.gate.note_read(chunks.chunks.len());
            if id == SINK {
                continue;
            }
            match (chunks.ppi, chunks.to_payload(MESSAGE_SIZE_MAX as usize)) {
                (Ppid::Dcep, Ok(message)) => self.handle_dcep(now, id, &message),
                (ppid, Ok(message)) => self.handle_message(id, ppid, message.freeze()),
                // More than we announced.
                (_, Err(_)) => self.close(now, id),
            }
        }
    }

    fn handle_message(&mut self, id: u16, ppid: Ppid, data: Bytes) {
        let (binary, data) = match ppid {
            Ppid::String => (false, data),
            Ppid::Binary => (true, data),
            // SCTP has no empty messages; these carry one byte that means nothing.
            Ppid::StringEmpty => (false, Bytes::new()),
            Ppid::BinaryEmpty => (true, Bytes::new()),
            _ => return,
        };
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.received.count(&data);
            // Whoever sends has accepted the channel, even if its ACK is still under way.
            self.confirm(id);
            self.events
                .push_back(SctpEvent::Message { id, binary, data });
        }
    }

    fn handle_dcep(&mut self, now: Instant, id: u16, message: &[u8]) {
        match Message::unmarshal(&mut &message[..]) {
            Ok(Message::DataChannelOpen(open)) => self.handle_open(now, id, open),
            Ok(Message::DataChannelAck(_)) => self.confirm(id),
            _ => {}
        }
    }

    fn handle_open(&mut self, now: Instant, id: u16, open: DataChannelOpen) {
        if self.channels.contains_key(&id) {
            return;
        }
        let is_acceptable = self.channels.len() < CHANNELS_MAX
            && open.label.len() + open.protocol.len() <= NAMES_SIZE_MAX;
        let (true, Ok(label), Ok(protocol)) = (
            is_acceptable,
            String::from_utf8(open.label),
            String::from_utf8(open.protocol),
        ) else {
            return self.reset_stream(now, id);
        };
        let (is_unordered, reliability_type) =
            DataChannel::get_reliability_params(open.channel_type);
        // The limit on the wire has 32 bits, the one of the browsers' API 16.
        let limit = u16::try_from(open.reliability_parameter).unwrap_or(u16::MAX);
        let options = ChannelOptions {
            label,
            protocol,
            ordered: !is_unordered,
            reliability: match reliability_type {
                ReliabilityType::Rexmit => Reliability::MaxRetransmits(limit),
                ReliabilityType::Timed => Reliability::MaxLifetimeMs(limit),
                _ => Reliability::Reliable,
            },
        };
        let channel = Channel {
            options: options.clone(),
            state: ChannelState::Open,
            buffered: 0,
            sent: Traffic::default(),
            received: Traffic::default(),
        };
        self.channels.insert(id, channel);
        let ack = Message::DataChannelAck(DataChannelAck {});
        self.write_dcep(now, id, &options, &ack);
        self.events.push_back(SctpEvent::Opened {
            id,
            options,
            remote: true,
        });
    }

    /// Notes that the peer has accepted a channel of ours.
    fn confirm(&mut self, id: u16) {
        if let Some(channel) = self.channels.get_mut(&id)
            && channel.state == ChannelState::Opening
        {
            channel.state = ChannelState::Open;
            let options = channel.options.clone();
            self.events.push_back(SctpEvent::Opened {
                id,
                options,
                remote: false,
            });
        }
    }

    fn open_planned(&mut self, now: Instant) {
        let planned: Vec<u16> = self.channels.keys().copied().collect();
        for id in planned {
            self.send_open(now, id);
        }
    }

    fn send_open(&mut self, now: Instant, id: u16) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        channel.state = ChannelState::Opening;
        let options = channel.options.clone();
        let (channel_type, reliability_parameter) = channel_type(&options);
        let open = Message::DataChannelOpen(DataChannelOpen {
            channel_type,
            priority: CHANNEL_PRIORITY_NORMAL,
            reliability_parameter,
            label: options.label.clone().into_bytes(),
            protocol: options.protocol.clone().into_bytes(),
        });
        self.write_dcep(now, id, &options, &open);
    }

    /// Sends a DCEP message, and sets the stream up if there is none.
    fn write_dcep(&mut self, now: Instant, id: u16, options: &ChannelOptions, message: &Message) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        if association.stream(id).is_err() && association.open_stream(id, Ppid::Binary).is_err() {
            return;
        }
        let Ok(mut stream) = association.stream(id) else {
            return;
        };
        let (reliability_type, limit) = match options.reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::MaxRetransmits(count) => (ReliabilityType::Rexmit, count),
            Reliability::MaxLifetimeMs(ms) => (ReliabilityType::Timed, ms),
        };
        // Both fail only for a stream that does not exist.
        let _ = stream.set_reliability_params(!options.ordered, reliability_type, limit.into());
        if let Ok(bytes) = message.marshal()
            && let Ok(size) = stream.write_chunk_with_ppi(now, &bytes.freeze(), Ppid::Dcep)
            && let Some(channel) = self.channels.get_mut(&id)
        {
            channel.buffered += size;
        }
    }

    fn reset_stream(&mut self, now: Instant, id: u16) {
        if let Some((_, association)) = &mut self.association
            && let Ok(mut stream) = association.stream(id)
        {
            // Fails only before the association is up, when there is nothing to reset.
            if stream.close(now).is_ok() {
                self.gate.note_closing(id);
            }
        }
    }

    fn forget(&mut self, id: u16) {
        if self.channels.remove(&id).is_some() {
            self.events.push_back(SctpEvent::Closed { id });
        }
    }

    fn abort(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            let _ = association.abort();
        }
        self.collect_transmits(now);
        self.fail();
    }

    fn fail(&mut self) {
        if self.state == State::Failed {
            return;
        }
        self.state = State::Failed;
        self.association = None;
        self.reset_at = None;
        while let Some((id, _)) = self.channels.pop_first() {
            self.events.push_back(SctpEvent::Closed { id });
        }
        self.events.push_back(SctpEvent::Failed);
    }

    /// The next packet for [`super::dtls::Dtls::write`].
    pub fn poll_transmit(&mut self, _now: Instant) -> Option<Bytes> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SctpEvent> {
        self.events.pop_front()
    }

    /// When [`Sctp::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (_, association) = self.association.as_ref()?;
        let timers = [association.poll_timeout(), self.reset_at];
        timers.into_iter().flatten().min()
    }

    /// Retransmits, or gives up. Harmless when called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association
            && association.poll_timeout().is_some_and(|at| now >= at)
        {
            association.handle_timeout(now);
            self.drive(now);
        }
        self.repeat_resets(now);
    }

    /// Opens a channel; it can be used after [`SctpEvent::Opened`]. May be called before the
    /// association is up.
    ///
    /// # Errors
    ///
    /// [`SctpError::TooManyChannels`], [`SctpError::TooLong`] names, [`SctpError::Closed`].
    pub fn open(&mut self, now: Instant, options: ChannelOptions) -> Result<u16, SctpError> {
        if self.state == State::Failed {
            return Err(SctpError::Closed);
        }
        let names_size = options.label.len() + options.protocol.len();
        if names_size > NAMES_SIZE_MAX {
            return Err(SctpError::TooLong(names_size));
        }
        let id = self.free_id().ok_or(SctpError::TooManyChannels)?;
        let channel = Channel {
            options,
            state: ChannelState::Planned,
            buffered: 0,
            sent: Traffic::default(),
            received: Traffic::default(),
        };
        self.channels.insert(id, channel);
        if self.state == State::Connected {
            self.send_open(now, id);
            self.collect_transmits(now);
        }
        Ok(id)
    }

    /// The lowest stream identifier of our parity that is not in use, not even by a channel
    /// whose end is not confirmed.
    fn free_id(&self) -> Option<u16> {
        if self.channels.len() >= CHANNELS_MAX {
            return None;
        }
        let streams = self
            .association
            .as_ref()
            .map(|(_, association)| association.stream_ids())
            .unwrap_or_default();
        let first = match self.role {
            DtlsRole::Client => 0,
            DtlsRole::Server => 1,
        };
        (first..STREAMS_MAX)
            .step_by(2)
            .find(|id| !self.channels.contains_key(id) && !streams.contains(id))
    }

    /// Sends one message.
    ///
    /// # Errors
    ///
    /// On [`SctpError::WouldBlock`] the message is gone: a slow receiver loses messages
    /// instead of holding up the others.
    pub fn send(
        &mut self,
        now: Instant,
        id: u16,
        binary: bool,
        data: &[u8],
    ) -> Result<(), SctpError> {
        let total: usize = self.channels.values().map(|channel| channel.buffered).sum();
        let channel = match self.channels.get_mut(&id) {
            Some(channel) if channel.state == ChannelState::Open => channel,
            _ => return Err(SctpError::NotOpen(id)),
        };
        if data.len() > self.send_size_max {
            return Err(SctpError::TooLong(data.len()));
        }
        if channel.buffered + data.len() > BUFFERED_MAX || total + data.len() > BUFFERED_TOTAL_MAX {
            return Err(SctpError::WouldBlock(id));
        }
        let (_, association) = self.association.as_mut().ok_or(SctpError::Closed)?;
        let (ppid, payload) = match (binary, data) {
            (false, []) => (Ppid::StringEmpty, &[0][..]),
            (true, []) => (Ppid::BinaryEmpty, &[0][..]),
            (false, data) => (Ppid::String, data),
            (true, data) => (Ppid::Binary, data),
        };
        channel.buffered += association
            .stream(id)
            .and_then(|mut stream| stream.write_with_ppi(now, payload, ppid))
            .map_err(|_| SctpError::NotOpen(id))?;
        channel.sent.count(data);
        self.collect_transmits(now);
        Ok(())
    }

    /// Counters of each channel.
    pub fn stats(&self) -> impl Iterator<Item = ChannelStats> + '_ {
        self.channels.iter().map(|(id, channel)| ChannelStats {
            stream: *id,
            label: channel.options.label.clone(),
            protocol: channel.options.protocol.clone(),
            is_open: channel.state == ChannelState::Open,
            messages_sent: channel.sent.messages,
            bytes_sent: channel.sent.bytes,
            messages_received: channel.received.messages,
            bytes_received: channel.received.bytes,
        })
    }

    /// Closes a channel, or nothing. What has been sent is still delivered;
    /// [`SctpEvent::Closed`] follows at once.
    pub fn close(&mut self, now: Instant, id: u16) {
        self.reset_stream(now, id);
        self.forget(id);
        self.collect_transmits(now);
    }

    /// Payload bytes of `id` which the peer has not confirmed yet.
    #[must_use]
    pub fn buffered_amount(&self, id: u16) -> usize {
        self.channels.get(&id).map_or(0, |channel| channel.buffered)
    }
}

/// True if the peer has not confirmed everything on a channel.
fn is_busy(channels: &BTreeMap<u16, Channel>, id: u16) -> bool {
    channels
        .get(&id)
        .is_some_and(|channel| channel.buffered > 0)
}

fn channel_type(options: &ChannelOptions) -> (ChannelType, u32) {
    let (max_retransmits, max_lifetime_ms) = match options.reliability {
        Reliability::Reliable => (None, None),
        Reliability::MaxRetransmits(count) => (Some(count), None),
        Reliability::MaxLifetimeMs(ms) => (None, Some(ms)),
    };
    DataChannel::get_channel_type_and_reliability_parameter(
        options.ordered,
        max_retransmits,
        max_lifetime_ms,
    )
}
