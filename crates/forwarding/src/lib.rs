//! Which packet goes to whom, and how it is rewritten on the way.
//!
//! Pure: no socket, no clock, no task, no lock, no cipher. `now` is an argument, deadlines come out of
//! `poll_timeout`, and nothing here knows rooms or transports. The caller owns the bytes; this crate takes and gives
//! *decisions* about them. Method families: getters, `handle_*` for what came in, verbs for commands, `poll_*` for
//! what must go out.
//!
//! # Walk of a packet
//!
//! Once per received packet, after SRTP has opened it:
//!
//! 1. [`rtp::Header::parse`] reads the header ([`rtp::Header::parse_protected`] before that finds the SSRC).
//! 2. [`receive::ReceiveStream::handle_packet`] counts it, notices holes, and drops duplicates;
//!    [`transport_feedback::TransportFeedback::handle_packet`] notes its arrival for the publisher's estimator.
//! 3. [`codec::inspect`] finds key frames, layers and picture numbers; [`codec::dependency::DependencyReader`] reads
//!    the dependency descriptor if one came. Together that is a [`packet::SourcePacket`].
//! 4. [`history::History::insert_described`] keeps payload and descriptor, once for all subscribers.
//!
//! Then once per subscriber, in one loop:
//!
//! 5. [`subscription::Subscription::handle_packet`]: the [`selector::Selector`] says send or drop, the
//!    [`rewriter::Rewriter`] gives sequence number, timestamp and picture numbers.
//! 6. [`rtp::HeaderTemplate::write`] writes the header, [`codec::dependency::DependencyReader::write`] the descriptor
//!    into it, [`codec::Vp8Patch::apply`] renumbers the picture, the caller seals, and
//!    [`send::SendStream::handle_sent`] counts. A packet that is [`rewriter::Rewritten::empty`] has no payload and no
//!    descriptor.
//!
//! A NACK walks back: [`rtcp::Nack::seqs`] → [`rewriter::Rewriter::unmap`] → [`history::History::get`] →
//! [`send::SendStream::retransmit`] (may it be sent?) → [`rewriter::Rewriter::replay`] → step 6.
//! What is missing from the publisher comes out of [`receive::ReceiveStream::poll_nacks`], what subscribers cannot
//! start without goes through [`keyframe::KeyFrameRequests`], unless [`keyframe::LastKeyFrame::catch_up`] has it.
//!
//! How much a subscriber gets: [`layer_meter::LayerMeter`] measures what each layer costs,
//! [`congestion::SendEstimator`] learns from feedback what the path carries, [`allocation::allocate`] divides that
//! among its subscriptions, [`selector::Selector::aim`] takes each one's share, and [`pacer::Pacer`] spreads what
//! leaves.
//!
//! Deliberately absent: forward error correction.

pub mod allocation;
pub mod bandwidth;
pub mod codec;
pub mod congestion;
pub mod history;
pub mod keyframe;
pub mod layer_meter;
pub mod pacer;
pub mod packet;
pub mod rate;
pub mod receive;
pub mod rewriter;
pub mod rtcp;
pub mod rtp;
pub mod selector;
pub mod send;
pub mod subscription;
#[cfg(test)]
mod test_support;
pub mod transport_feedback;
