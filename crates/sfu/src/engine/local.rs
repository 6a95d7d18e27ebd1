//! Endpoints whose peer is in this process: recorders and players.
//!
//! To packets they are endpoints of plain RTP: a recorder is a subscriber, a player a publisher, with numbers,
//! key-frame gating, reports and routes as all others have. Only their datagrams never see a socket: what is for the peer
//! leaves by a [`Flow`] that names it, and what it sends comes by [`Engine::handle_local_packets`]. There is no negotiation:
//! [`Engine::open_local`] says what flows. Deliberately absent: files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use forwarding::codec::Codec;
use forwarding::rtp::is_rtcp;
use media::{ElementId, ElementKind, Error, EventSender, MediaKind, PipelineId};
use rand::Rng;
use smallvec::smallvec;

use super::Engine;
use super::endpoint::{Endpoint, Negotiation};
use super::flow::Flow;
use super::graph::Role;
use super::ids;
use super::plain::PlainPeer;
use super::sdp::{self, Section};
use super::transport::{Session, Transport, TransportKey};

/// What flows between a local peer and us in one kind of media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalTrack {
    /// Audio or video.
    pub kind: MediaKind,
    /// Payload types, codecs and `a=fmtp` that the peer takes, or sends.
    pub formats: Vec<(u8, Codec, Option<String>)>,
}

impl Engine {
    /// Makes an endpoint of `class` whose peer has a number, which must be no other's.
    pub fn create_local(
        &mut self,
        now: Instant,
        pipeline: &PipelineId,
        class: &str,
        number: u64,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        let kind = ElementKind::Other(class.to_owned());
        let id = ids::element(pipeline, self.worker, &kind);
        let key = self
            .graph
            .add_element(id.clone(), pipeline, Role::Endpoint, events.clone())?;
        let session = Session::Plain(PlainPeer::here(number));
        let mut transport = Transport::new(key, events, session);
        transport.flow = Some(Flow::local_peer(number));
        transport.connected = true;
        transport.reports_at = Some(now);
        let transport = TransportKey(self.media.transports.insert(transport));
        self.step();
        self.endpoints.insert(
            key,
            Endpoint {
                session: u64::from(rand::random::<u32>()),
                negotiation: Negotiation::DonePlain,
                transports: smallvec![transport],
                ..Endpoint::default()
            },
        );
        self.join_downlink(transport);
        self.arm(transport);
        Ok(id)
    }

    /// Lets media flow to (`sends`: from) the peer, in these tracks and no others.
    pub fn open_local(
        &mut self,
        now: Instant,
        id: &ElementId,
        sends: bool,
        tracks: &[LocalTrack],
    ) -> Result<(), Error> {
        let key = self.endpoint_key(id, "open")?;
        // Waiting packets are numbered and named by what was agreed before.
        self.media.forward_all(now);
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let track = tracks.iter().find(|track| track.kind == kind);
            let section = track.map(|track| section(track, sends));
            self.apply_section(key, kind, section.as_ref());
            self.step();
        }
        self.rewire_around(now, key);
        Ok(())
    }

    /// Takes packets of the peer, RTP and RTCP in the clear. Those for an endpoint that is gone are ignored.
    pub fn handle_local_packets(&mut self, now: Instant, id: &ElementId, packets: Vec<Vec<u8>>) {
        for mut packet in packets {
            let endpoint = self.graph.key(id).ok();
            let endpoint = endpoint.and_then(|key| self.endpoints.get(&key));
            let Some(&key) = endpoint.and_then(|endpoint| endpoint.transports.first()) else {
                return;
            };
            let handled = catch_unwind(AssertUnwindSafe(|| match is_rtcp(&packet) {
                true => self.media.handle_rtcp(now, key, &mut packet),
                false => self.media.handle_rtp(now, key, &mut packet),
            }));
            self.settle(now, key, handled);
        }
    }
}

/// What negotiation would have made of a track.
fn section(track: &LocalTrack, sends: bool) -> Section {
    let formats = track.formats.iter();
    Section {
        index: 0,
        mid: None,
        kind: track.kind,
        transport: 0,
        accepted: true,
        send: !sends,
        receive: sends,
        codecs: formats
            .filter_map(|(payload_type, codec, fmtp)| {
                sdp::describe_local(*payload_type, *codec, fmtp.as_deref())
            })
            .collect(),
        extensions: sdp::Extensions::default(),
        remote: Vec::new(),
        simulcast_rids: Vec::new(),
        local_ssrc: rand::rng().random(),
        local_rtx_ssrc: None,
        cname: "tertulia".to_owned(),
        msid: None,
        rtcp_mux: true,
        reduced_size: true,
        bandwidth_kbps: None,
        data: None,
    }
}
