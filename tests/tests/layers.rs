//! Which quality of a picture browsers get: as large as they show it, or as their users choose.

use tests::browser::Page;
use tests::chromium::{Chromium, ChromiumPage};
use tests::demo::{self, Call};
use tests::server::Server;
use tests::turn;

/// Three qualities: 180, 360 and 720 lines.
const PUBLISHER: &str = "room=lab&join=1&video=1280x720&codec=VP8";
const VIEWER: &str = "room=lab&join=1&media=none";

async fn one_watches_another(
    server: &Server,
    browser: &Chromium,
) -> (Call<ChromiumPage>, Call<ChromiumPage>) {
    let join = async |name: &str, query: &str| {
        let url = server.page(&format!("name={name}&{query}"));
        demo::join(browser, name, &url).await
    };
    let ana = join("ana", PUBLISHER).await;
    let bob = join("bob", VIEWER).await;
    bob.sees("ana").await;
    (ana, bob)
}

/// Chooses a quality as a user would.
async fn choose(viewer: &Call<ChromiumPage>, quality: &str) {
    let script = format!(
        "(() => {{
            const choice = document.querySelector('#video-ana_webcam .quality select');
            choice.value = '{quality}';
            choice.dispatchEvent(new Event('change'));
        }})()"
    );
    viewer.page.evaluate(&script).await;
}

async fn gets(viewer: &Call<ChromiumPage>, height: u32, badge: &str) {
    viewer
        .page
        .wait_for(&format!(
            "probe.inbound('ana', 'video').then(async (entry) => {{
                const badge = document.querySelector('#video-ana_webcam .layer').textContent;
                return entry.frameHeight === {height} && badge === '{badge}'
                    || Promise.reject(new Error(`${{entry.frameHeight}} lines, ${{badge}}`));
            }})"
        ))
        .await;
}

#[tokio::test]
async fn a_forced_layer_comes_and_is_shown() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let (_ana, bob) = one_watches_another(&server, &browser).await;
    for (quality, height, badge) in [
        ("low", 180, "180p"),
        ("mid", 360, "360p"),
        ("high", 720, "720p"),
        ("low", 180, "180p"),
    ] {
        choose(&bob, quality).await;
        gets(&bob, height, badge).await;
        bob.page.screenshot(&format!("layer-{quality}")).await;
    }
    bob.assert_content();
}

#[tokio::test]
async fn a_picture_comes_as_large_as_it_is_shown() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let (ana, bob) = one_watches_another(&server, &browser).await;
    let resize = async |css: &str| {
        let script = format!("void (document.querySelector('#video-ana_webcam').style = '{css}')");
        bob.page.evaluate(&script).await;
    };
    resize("width: 240px").await;
    gets(&bob, 180, "180p").await;
    ana.page
        .wait_for(
            "tertulia.stream.getWebRtcPeer().peerConnection.getSenders()
            .find((sender) => sender.track?.kind === 'video').getParameters().encodings
            .find((encoding) => encoding.rid === 'f').active === false",
        )
        .await;
    resize("width: 500px").await;
    gets(&bob, 360, "360p").await;
    resize("display: none").await;
    bob.page
        .wait_for("document.querySelector('#video-ana_webcam .layer').textContent === 'Paused'")
        .await;
    resize("width: 240px").await;
    gets(&bob, 180, "180p").await;
    ana.assert_content();
    bob.assert_content();
}

#[tokio::test]
async fn the_quality_does_not_lie_on_the_picture_all_the_time() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let (_ana, bob) = one_watches_another(&server, &browser).await;
    let badge = "document.querySelector('#video-ana_webcam .quality')";
    bob.page
        .wait_for(&format!(
            "/^\\d+p$/.test({badge}.querySelector('.layer').textContent)"
        ))
        .await;
    let is_seen = |opacity: &str| format!("getComputedStyle({badge}).opacity === '{opacity}'");
    bob.page.wait_for(&is_seen("0")).await;
    bob.page.screenshot("bare-picture").await;
    // Whoever points at the picture or comes by keyboard finds it.
    bob.page
        .evaluate(&format!("{badge}.querySelector('select').focus()"))
        .await;
    bob.page.wait_for(&is_seen("1")).await;
    bob.page.screenshot("quality").await;
}
