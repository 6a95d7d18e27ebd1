//! What a server is told to be.

use std::time::Duration;

/// Settings, with the real server's defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// What `getInfo` reports. Applications read it: one that begins with
    /// `openvidu/mediasoup-controller` makes OpenVidu expect a server that does not transcode.
    pub version: String,
    /// What `getMetadata` reports: any JSON as text, or nothing.
    pub metadata: String,
    /// A session without a connection lives one to two of these.
    pub garbage_collector_period: Duration,
    /// Whether repeated requests are answered again instead of run again.
    pub request_cache: bool,
    /// What becomes of classes that need decoded media.
    pub unsupported: Unsupported,
    /// Whether the first video of a pipeline decides which codec the others are answered with first, if they offer it.
    /// The real server lets each have its own and transcodes.
    pub align_video_codecs: bool,
    /// What `getCpuCount` reports.
    pub cpu_count: usize,
    /// What an address without scheme is relative to.
    pub default_path: String,
    /// Connections at once.
    pub connections_max: usize,
    /// What `maxVideoSendBandwidth` of an endpoint is before it is set, in kbit/s; 0 for no limit.
    /// The real value is low for today, and applications that know it raise it.
    pub max_video_send_kbps: u32,
    /// Objects at once.
    pub objects_max: usize,
    /// Objects that one session may hold.
    pub objects_per_session_max: usize,
}

/// What becomes of classes that need decoded media, such as filters and mixers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsupported {
    /// They can be made and wired; media passes unchanged, or not at all where that makes no sense,
    /// and an `Error` event says so. Applications abort whole calls when making one fails.
    #[default]
    Declare,
    /// They cannot be made, as on a server without their module.
    Reject,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: "7.3.0".to_owned(),
            metadata: String::new(),
            garbage_collector_period: Duration::from_secs(240),
            request_cache: true,
            unsupported: Unsupported::default(),
            align_video_codecs: true,
            cpu_count: 1,
            default_path: "file:///var/lib/kurento/".to_owned(),
            connections_max: 1000,
            max_video_send_kbps: 500,
            objects_max: 200_000,
            objects_per_session_max: 50_000,
        }
    }
}
