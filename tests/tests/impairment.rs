//! Chromium publishes in layers; one viewer behind a narrow link and one behind a wide one watch together.

use std::fmt::Write;

use serde_json::{Value, json};
use tests::browser::Page;
use tests::chromium::{Chromium, ChromiumPage};
use tests::impairer::{Impairer, LinkConfig};
use tests::room_socket::RoomSocket;
use tests::server::Server;
use tests::stun::Target;
use tests::turn;

const NARROW: u64 = 300_000;
const WIDE: u64 = 5_000_000;

/// What the publisher's picture is like at its best. Smaller ones have fewer layers in VP9.
const WIDTH: u32 = 960;
const HEIGHT: u32 = 540;
const RATE: u32 = 15;

/// What the publisher's path carries by its own estimate before anybody watches, bit/s: an encoder that has less for its
/// layers than they need leaves out frames of any of them.
const PUBLISHED: u64 = 1_900_000;

/// How long is watched, and how much of that is for finding out what the links carry.
const WATCH_SECONDS: u32 = 20;
const SETTLING_SECONDS: u32 = 5;

/// Longest time without another picture, beyond [`STALL_MS`] of the publisher's.
const FREEZE_MS_MAX: u64 = 500;

/// A publisher without another picture for longer is on a machine that is too busy.
const STALL_MS: u64 = 200;

/// Least share of the published pictures that the viewer with the wide link gets.
const FLUENT: f64 = 0.9;

#[tokio::test]
async fn viewers_get_the_layer_that_fits_of_vp8_simulcast() {
    // The middle one does not fit through the narrow link, beside sound.
    let encodings = json!([
        { "rid": "q", "scaleResolutionDownBy": 4, "maxBitrate": 120_000 },
        { "rid": "h", "scaleResolutionDownBy": 2, "maxBitrate": 800_000 },
        { "rid": "f", "scaleResolutionDownBy": 1, "maxBitrate": 1_500_000 },
    ]);
    let outcome = watch("VP8", encodings).await;
    outcome.check(&[WIDTH / 4]);
}

#[tokio::test]
async fn viewers_get_the_layer_that_fits_of_vp9_svc() {
    let encodings = json!([{ "scalabilityMode": "L3T3_KEY", "maxBitrate": 1_500_000 }]);
    let outcome = watch("VP9", encodings).await;
    outcome.check(&[WIDTH / 4, WIDTH / 2]);
}

#[tokio::test]
async fn viewers_get_the_layer_that_fits_of_av1_svc() {
    let encodings = json!([{ "scalabilityMode": "L3T3_KEY", "maxBitrate": 1_500_000 }]);
    let outcome = watch("AV1", encodings).await;
    outcome.check(&[WIDTH / 4, WIDTH / 2]);
}

/// What the three pages and the networks say.
struct Outcome {
    published: Value,
    published_fps: f64,
    /// Longest time without a picture of the publisher's, ms.
    stalled_ms: u64,
    narrow: Value,
    wide: Value,
    report: String,
}

impl Outcome {
    #[track_caller]
    fn check(&self, narrow_widths: &[u32]) {
        let report = &self.report;
        assert_eq!(
            self.published[0]["width"], WIDTH,
            "the publisher sends its best\n{report}"
        );
        assert_eq!(self.wide["width"], WIDTH, "{report}");
        let narrow_width = self.narrow["width"].as_u64();
        let fits = |width: &u32| narrow_width == Some(u64::from(*width));
        assert!(narrow_widths.iter().any(fits), "{report}");
        for viewer in [&self.narrow, &self.wide] {
            let freeze = viewer["longest_freeze"]["ms"].as_u64();
            let most = FREEZE_MS_MAX + self.stalled_ms.saturating_sub(STALL_MS);
            assert!(freeze.is_some_and(|ms| ms <= most), "{report}");
        }
        let fps = self.wide["fps"].as_f64();
        assert!(
            fps.is_some_and(|fps| fps >= FLUENT * self.published_fps),
            "{report}"
        );
    }
}

async fn watch(codec: &str, encodings: Value) -> Outcome {
    let _turn = turn::take().await;
    // The usual bounds of a room's video are lower than what is published.
    let server = Server::start_with(&["--video-min-kbps", "0", "--video-max-kbps", "0"]).await;
    let browser = Chromium::launch().await;

    let publisher = open(&browser, &server, "ana", "Publisher").await;
    // Of plain boxes the smallest stream of simulcast has no bits for every picture; of noise, scalable encoders leave
    // out most of their largest layer, and of twice as many boxes, pictures of their smallest.
    let is_simulcast = encodings.as_array().is_some_and(|all| all.len() > 1);
    let options = json!({
        "width": WIDTH, "height": HEIGHT, "rate": RATE, "codec": codec, "encodings": encodings,
        "boxes": if is_simulcast { 4 } else { 8 }, "isNoise": is_simulcast,
    });
    let offer = publisher.evaluate(&format!("lab.begin({options})")).await;
    let mut ana = RoomSocket::connect(&server.room_url()).await;
    ana.join("lab", "ana").await;
    let params = json!({ "sdpOffer": offer, "doLoopback": false });
    let (answer, target) = request(&mut ana, "publishVideo", params).await;
    // Its own path is in nobody's way: what goes through a proxy comes in bursts, from which a sender learns nothing.
    let (ip, port) = (target.address.ip(), target.address.port());
    let candidate = format!("candidate:1 1 udp 2130706431 {ip} {port} typ host");
    accept(&publisher, &answer, &candidate).await;
    let carries = format!("lab.estimate().then((rate) => rate >= {PUBLISHED})");
    publisher.wait_for(&carries).await;

    let mut viewers = Vec::new();
    for (name, rate, seed) in [("vera", NARROW, 1), ("walt", WIDE, 3)] {
        let link = LinkConfig::steady(rate);
        let impairer = Impairer::start(target.address, link.clone(), link, seed).await;
        let page = open(&browser, &server, name, "Viewer").await;
        let offer = page.evaluate("lab.begin()").await;
        let mut socket = RoomSocket::connect(&server.room_url()).await;
        socket.join("lab", name).await;
        let params = json!({ "sender": "ana_webcam", "sdpOffer": offer });
        let (answer, _) = request(&mut socket, "receiveVideoFrom", params).await;
        accept(&page, &answer, &impairer.candidate()).await;
        viewers.push((page, impairer, socket));
    }

    let script = format!("lab.watch({WATCH_SECONDS}, {SETTLING_SECONDS})");
    let before = publisher.evaluate("lab.pictures()").await;
    let begin = std::time::Instant::now();
    let publishing = format!("lab.watch({WATCH_SECONDS})");
    let (stalled, narrow, wide) = tokio::join!(
        publisher.evaluate(&publishing),
        viewers[0].0.evaluate(&script),
        viewers[1].0.evaluate(&script)
    );
    let stalled_ms = stalled.as_u64().expect("milliseconds");
    let published = publisher.evaluate("lab.layers()").await;
    let after = publisher.evaluate("lab.pictures()").await;
    let taken = after
        .as_f64()
        .zip(before.as_f64())
        .map(|(after, before)| after - before);
    let published_fps = taken.unwrap_or_default() / begin.elapsed().as_secs_f64();

    let mut report = format!(
        "published at {published_fps:.1} fps, stalled for {stalled_ms} ms: {published:#}\n"
    );
    for (viewer, (page, impairer, _)) in [&narrow, &wide].into_iter().zip(&viewers) {
        let (name, counters) = (page.name(), impairer.counters());
        writeln!(report, "{name}: {viewer:#}\n{counters:#?}").expect("a text");
    }
    Outcome {
        published,
        published_fps,
        stalled_ms,
        narrow,
        wide,
        report,
    }
}

/// A page with one end of a connection in it.
async fn open(browser: &Chromium, server: &Server, name: &str, end: &str) -> ChromiumPage {
    let page = browser.open(name, &server.page("")).await;
    let script = include_str!("impairment.js");
    page.evaluate(&format!(
        "(() => {{ {script}\nglobalThis.lab = new {end}(); }})()"
    ))
    .await;
    page
}

/// Makes a request with an offer; gives the answer, and what of the server is in it.
async fn request(socket: &mut RoomSocket, method: &str, params: Value) -> (String, Target) {
    let answer = socket.request(method, params).await;
    let answer = answer.unwrap_or_else(|refusal| panic!("{method}: {refusal:?}"));
    let sdp = answer["sdpAnswer"].as_str().expect("a description");
    let candidate = socket.notification("iceCandidate").await;
    let candidate = candidate["candidate"].as_str().unwrap_or_default();
    let target = Target::of_answer(sdp, &[candidate.to_owned()]);
    (sdp.to_owned(), target)
}

async fn accept(page: &ChromiumPage, answer: &str, candidate: &str) {
    let (answer, candidate) = (json!(answer), json!(candidate));
    page.evaluate(&format!("lab.accept({answer}, {candidate})"))
        .await;
}
