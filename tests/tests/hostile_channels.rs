//! Attacks by somebody who was let in, on data channels, while others use theirs.

use forwarding::codec::Codec;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Instant;
use tests::light_peer::{LightPeer, Peer, PeerEvent};
use tests::room_socket::RoomSocket;
use tests::sctp::{
    BEGIN, BINARY, DCEP, END, FORWARD_TSN, HEARTBEAT, RECONFIG, chunk, data, init, lying_chunk,
    open, packet,
};
use tests::stage::Stage;
use tests::turn;

/// Paula and Vera, who use a channel, and Mallory, whose association is up.
struct Channels {
    stage: Stage,
    /// Paula's channel.
    id: u16,
    mallory: LightPeer,
    _socket: RoomSocket,
}

impl Channels {
    async fn begin() -> Self {
        let stage = Stage::begin_with(Codec::Vp8, true).await;
        let (_socket, mallory) = stage.intruder("mallory").await;
        mallory
            .until("Mallory's association is up", Peer::sctp_mark)
            .await;
        let id = stage
            .publisher
            .act(|peer, now| peer.open_channel(now, "chat"))
            .await;
        let this = Self {
            stage,
            id: id.expect("data was negotiated"),
            mallory,
            _socket,
        };
        opened(&this.stage.publisher).await;
        opened(&this.stage.viewer).await;
        // The server sends on a channel that the receiver has confirmed.
        this.stage.viewer.settle().await;
        this.delivers(b"before").await;
        this
    }

    /// Waits until a message gets from Paula to Vera.
    async fn delivers(&self, message: &[u8]) {
        let sent = self
            .stage
            .publisher
            .act(|peer, now| peer.send_message(now, self.id, true, message))
            .await;
        assert!(sent, "the channel is not open any more");
        self.stage
            .viewer
            .event("a message arrives", |event| match event {
                PeerEvent::Message { data, .. } if data == message => Some(()),
                _ => None,
            })
            .await;
    }

    /// Sends packets of Mallory's association. `make` gives the chunks of one, from its number and the
    /// number of the first chunk of data.
    async fn flood(&self, count: usize, mut make: impl FnMut(usize, u32) -> Vec<Vec<u8>>) {
        let mark = self.mallory.see(Peer::sctp_mark).expect("it is up");
        self.mallory
            .flood(count, |peer, number| {
                let packet = packet(mark.tag, &make(number, mark.next_tsn));
                sealed(peer, &packet)
            })
            .await;
    }

    /// Checks that messages and media still flow, and that nobody has noticed anything.
    async fn assert_unharmed(self) {
        self.delivers(b"after").await;
        self.stage.assert_unharmed().await;
    }
}

/// The only record that an SCTP packet makes; the association of the peer itself may add its own.
fn sealed(peer: &mut Peer, packet: &[u8]) -> Option<Vec<u8>> {
    peer.send_application_data(Instant::now(), packet)
        .then(|| peer.poll_transmit())
        .flatten()
}

async fn opened(peer: &LightPeer) {
    peer.event("a channel is open", |event| {
        matches!(event, PeerEvent::ChannelOpened { .. }).then_some(())
    })
    .await;
}

/// Shows that the attacks below are heard: what they are made of is taken for the peer's own.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_with_the_right_tag_and_number_are_delivered() {
    const UNORDERED: u8 = 4;
    let _turn = turn::take().await;
    let channels = Channels::begin().await;
    channels
        .stage
        .publisher
        .flood(1, |peer, _| {
            let mark = peer.sctp_mark()?;
            let flags = BEGIN | END | UNORDERED;
            let message = data(flags, mark.next_tsn, channels.id, BINARY, b"forged");
            sealed(peer, &packet(mark.tag, &[message]))
        })
        .await;
    channels
        .stage
        .viewer
        .event("the message arrives", |event| match event {
            PeerEvent::Message { data, .. } if data == &b"forged"[..] => Some(()),
            _ => None,
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_new_associations_disturb_nobody() {
    let _turn = turn::take().await;
    let channels = Channels::begin().await;
    // With the tag of none, of the right one, and of another; each with as many streams as there can be.
    channels
        .flood(2_000, |number, _| vec![init(number as u32 + 1, 7)])
        .await;
    channels
        .mallory
        .flood(10_000, |peer, number| {
            let tag = if number % 2 == 0 { 0 } else { number as u32 };
            let chunks = vec![init(number as u32 + 1, number as u32); 1 + number % 3];
            sealed(peer, &packet(tag, &chunks))
        })
        .await;
    channels.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_chunks_and_bundles_of_thousands_disturb_nobody() {
    let _turn = turn::take().await;
    let channels = Channels::begin().await;
    let mut random = StdRng::seed_from_u64(6);
    channels
        .flood(50, |number, _| {
            let kind = [HEARTBEAT, RECONFIG, 9, 64, 0xff][number % 5];
            vec![chunk(kind, 0, &[]); 3_000]
        })
        .await;
    // Kinds that end an association come rarely, so that the others are read.
    let kinds = [0, 3, 4, 5, 9, 12, 15, 64, 128, RECONFIG, FORWARD_TSN, 0xff];
    channels
        .flood(10_000, |number, tsn| {
            let count = random.random_range(1..6);
            let chunks = (0..count).map(|_| {
                let kind = match number % 100 {
                    99 => random.random(),
                    _ => kinds[random.random_range(0..kinds.len())],
                };
                let len = random.random_range(0..60);
                let mut value: Vec<u8> = (0..len).map(|_| random.random()).collect();
                if let Some(first) = value.first_chunk_mut::<4>() {
                    *first = tsn.wrapping_add(random.random_range(0..40)).to_be_bytes();
                }
                match number % 3 {
                    0 => lying_chunk(kind, random.random(), random.random_range(0..80), &value),
                    _ => chunk(kind, random.random(), &value),
                }
            });
            chunks.collect()
        })
        .await;
    channels.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_on_each_stream_is_refused() {
    let _turn = turn::take().await;
    let channels = Channels::begin().await;
    channels
        .flood(1 << 16, |number, tsn| {
            let message = open("channel of a label that takes some memory");
            let tsn = tsn.wrapping_add(number as u32);
            vec![data(BEGIN | END, tsn, number as u16, DCEP, &message)]
        })
        .await;
    channels.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_that_never_complete_are_bounded() {
    let _turn = turn::take().await;
    let channels = Channels::begin().await;
    // Sixty times the receive window, in order and then with a gap.
    for gap in [0, 1] {
        channels
            .flood(30_000, |number, tsn| {
                let flags = if number == 0 { BEGIN } else { 0 };
                let tsn = tsn.wrapping_add(number as u32 + gap);
                vec![data(flags, tsn, 1, BINARY, &[7; 1_000])]
            })
            .await;
    }
    channels.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_any_length_are_bounded() {
    const FRAGMENT_BYTES: usize = 1_000;
    /// Four times what was announced.
    const FRAGMENTS: usize = 1_024;
    let _turn = turn::take().await;
    let channels = Channels::begin().await;
    channels
        .flood(20 * FRAGMENTS, |number, tsn| {
            let (first, last) = (number % FRAGMENTS == 0, number % FRAGMENTS == FRAGMENTS - 1);
            let flags = (u8::from(first) * BEGIN) | (u8::from(last) * END);
            let tsn = tsn.wrapping_add(number as u32);
            vec![data(flags, tsn, 1, BINARY, &[7; FRAGMENT_BYTES])]
        })
        .await;
    // Longer than a packet may be, in one chunk.
    channels
        .flood(200, |_, tsn| {
            vec![data(BEGIN | END, tsn, 1, BINARY, &[7; 16_000])]
        })
        .await;
    channels.assert_unharmed().await;
}
