//! A call that must not notice what happens beside it.

use crate::peer::Participant;
use crate::room_socket::RoomSocket;
use crate::server::Server;

/// Packets of each kind that must get through, before and after.
const PACKETS: u64 = 20;

/// What the server may grow by. Too low: allocators keep what they once needed, and a call under way
/// fills histories. Too high: a leak looks like that.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Ana, who publishes, and Bob, who receives her, on a server of their own.
#[derive(Debug)]
pub struct Bystanders {
    /// Where they talk.
    pub server: Server,
    ana: Participant,
    bob: Participant,
    resident_bytes: u64,
}

impl Bystanders {
    /// The room they are in.
    pub const ROOM: &str = "lab";

    /// Starts the server and the call.
    pub async fn begin() -> Self {
        // One worker serves call and attack, so what it was sent it handles in order.
        let server = Server::start_with(&["--workers", "1"]).await;
        let (mut ana, _) = Participant::enter(&server.room_url(), Self::ROOM, "ana").await;
        ana.publish().await;
        let (mut bob, _) = Participant::enter(&server.room_url(), Self::ROOM, "bob").await;
        bob.subscribe("ana").await;
        bob.receives("ana", PACKETS).await;
        let resident_bytes = server.resident_bytes();
        Self {
            server,
            ana,
            bob,
            resident_bytes,
        }
    }

    /// Bob, for attacks by somebody who receives.
    pub fn receiver(&self) -> &Participant {
        &self.bob
    }

    /// Somebody who is connected, and in no room yet.
    pub async fn stranger(&self) -> RoomSocket {
        RoomSocket::connect(&self.server.room_url()).await
    }

    /// Checks that the call went on without loss, that others can come in, and that the server is
    /// alive, has seen no panic and has not grown.
    pub async fn assert_unharmed(mut self) {
        self.bob.receives("ana", PACKETS).await;
        assert_eq!(
            self.bob.counts("ana").missing,
            0,
            "packets of the call are missing"
        );
        let (mut carol, publishers) =
            Participant::enter(&self.server.room_url(), Self::ROOM, "carol").await;
        assert_eq!(publishers, ["ana"]);
        carol.subscribe("ana").await;
        carol.receives("ana", PACKETS).await;
        assert!(self.server.is_alive());
        let growth = self
            .server
            .resident_bytes()
            .saturating_sub(self.resident_bytes);
        assert!(
            growth < GROWTH_BYTES_MAX,
            "the server has grown by {growth} bytes"
        );
        for counter in ["tertulia_panics_total", "tertulia_media_panics_total"] {
            assert_eq!(
                self.server.counter(counter).await,
                0,
                "{counter}:\n{}",
                self.server.log()
            );
        }
        for participant in [carol, self.bob, self.ana] {
            participant.leave().await;
        }
    }
}
