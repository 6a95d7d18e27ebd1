//! RTP on either side: frames out of packets, packets out of frames, and the clocks of both.

mod clock;
mod depacketizer;
mod formats;
mod packetizer;
mod reorder;

pub use clock::{MediaClock, WallClock};
pub use depacketizer::{Depacketizer, Media};
pub use formats::{FORMATS, Format, clock_rate, format_of_payload_type, payload_type_of};
pub use packetizer::{PAYLOAD_BYTES_MAX, Packetizer};
pub use reorder::{Arrived, Reorder};
