//! Somebody in a call on the demo page. Start with [`join`], or with [`Call`] for a page at hand.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::browser::Page;
use crate::chromium::{Chromium, ChromiumPage};
use crate::deadline::PATIENCE;

/// What a page needs to be looked into: the received streams, and sums over their statistics.
const PROBE: &str = r"
globalThis.probe ??= {
    stream(name) {
        const streams = Object.values(tertulia.room.getStreams());
        return streams.find((stream) => stream.getParticipant().getID() === name);
    },
    async inbound(name, kind) {
        const report = await probe.stream(name)?.getStats();
        const entries = [...(report?.values() ?? [])];
        return entries.find((entry) => entry.type === 'inbound-rtp' && entry.kind === kind) ?? null;
    },
    async codec(name) {
        const report = await probe.stream(name).getStats();
        const entry = [...report.values()].find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video');
        return report.get(entry?.codecId)?.mimeType ?? null;
    },
    // Frames per second, once at least `count` frames were decoded since the call.
    async rate(name, count) {
        const decoded = async () => (await probe.inbound(name, 'video'))?.framesDecoded ?? 0;
        const first = await decoded();
        const begin = performance.now();
        for (;;) {
            await new Promise((resolve) => setTimeout(resolve, 50));
            const frames = await decoded() - first;
            const seconds = (performance.now() - begin) / 1000;
            if (frames >= count || seconds > 10) return frames / seconds;
        }
    },
}";

/// A page with a call, seen as one participant.
#[derive(Debug)]
pub struct Call<P: Page> {
    /// The page itself.
    pub page: P,
}

/// Opens the demo as `name` at `url`, which joins by itself, and waits until it is in the room.
pub async fn join(browser: &Chromium, name: &str, url: &str) -> Call<ChromiumPage> {
    Call::new(browser.open(name, url).await).await
}

impl<P: Page> Call<P> {
    /// Waits until `page` is in a room.
    pub async fn new(page: P) -> Self {
        page.evaluate(&format!("(() => {{ {PROBE} }})()")).await;
        let call = Self { page };
        call.page
            .wait_for("tertulia.room?.state === 'connected'")
            .await;
        call
    }

    /// Waits until frames of `name` are decoded.
    pub async fn sees(&self, name: &str) {
        self.page
            .wait_for(&format!(
                "probe.inbound('{name}', 'video').then((entry) => entry?.framesDecoded > 0)"
            ))
            .await;
    }

    /// Waits until sound of `name` is played.
    pub async fn hears(&self, name: &str) {
        self.page
            .wait_for(&format!(
                "probe.inbound('{name}', 'audio').then((entry) => entry?.totalAudioEnergy > 0)"
            ))
            .await;
    }

    /// Waits until sound of `name` arrives, be it played or not.
    pub async fn receives_sound(&self, name: &str) {
        let condition = format!(
            "probe.inbound('{name}', 'audio').then((entry) => entry?.packetsReceived > 10)"
        );
        self.page.wait_for(&condition).await;
    }

    /// Waits until `name` is not among the participants.
    pub async fn misses(&self, name: &str, limit: Duration) {
        self.page
            .wait_for_within(
                &format!("!('{name}' in tertulia.room.getParticipants())"),
                limit,
            )
            .await;
    }

    /// Waits until the stream of `name` is gone.
    pub async fn stops_seeing(&self, name: &str) {
        self.page
            .wait_for(&format!("!probe.stream('{name}')"))
            .await;
    }

    /// Decoded frames of `name` per second, over at least `count` frames.
    pub async fn frame_rate(&self, name: &str, count: u32) -> f64 {
        self.page
            .evaluate(&format!("probe.rate('{name}', {count})"))
            .await
            .as_f64()
            .expect("a number")
    }

    /// Waits until the pictures of `name` come at `least` frames per second or more.
    pub async fn sees_fluently(&self, name: &str, least: u32) {
        let end = Instant::now() + PATIENCE;
        loop {
            let rate = self.frame_rate(name, 2 * least).await;
            if rate >= f64::from(least) {
                return;
            }
            let viewer = self.page.name();
            assert!(
                Instant::now() < end,
                "{viewer} sees {rate} pictures of {name} per second"
            );
        }
    }

    /// The codec of the pictures of `name`, such as `video/VP8`.
    pub async fn codec(&self, name: &str) -> Value {
        self.page.evaluate(&format!("probe.codec('{name}')")).await
    }

    /// Everything the page complained about must be nothing.
    pub fn assert_content(&self) {
        let complaints = self.page.complaints();
        assert!(
            complaints.is_empty(),
            "{} complains:\n{}",
            self.page.name(),
            complaints.join("\n")
        );
    }
}
