//! Calls between browsers through the real binary: everybody sees and hears everybody.

use tests::browser::Page;
use tests::chromium::{Chromium, ChromiumPage};
use tests::demo::{self, Call};
use tests::firefox::Firefox;
use tests::server::{Server, network_address};
use tests::turn;

/// Pages ask the camera for 15 pictures per second.
const FRAMES_PER_SECOND: u32 = 10;

fn query(name: &str, room: &str, more: &str) -> String {
    format!("name={name}&room={room}&join=1&video=320x180{more}")
}

async fn three_in_a_room(
    server: &Server,
    browser: &Chromium,
    more: &str,
) -> [Call<ChromiumPage>; 3] {
    let join =
        async |name| demo::join(browser, name, &server.page(&query(name, "lab", more))).await;
    [join("ana").await, join("bob").await, join("carol").await]
}

async fn everybody_gets_everybody(calls: &[Call<ChromiumPage>]) {
    for call in calls {
        for other in calls
            .iter()
            .filter(|other| other.page.name() != call.page.name())
        {
            let name = other.page.name();
            call.sees_fluently(name, FRAMES_PER_SECOND).await;
            call.hears(name).await;
        }
        call.assert_content();
    }
}

async fn check_codec(codec: &str) {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let calls = three_in_a_room(&server, &browser, &format!("&codec={codec}&simulcast=0")).await;
    everybody_gets_everybody(&calls).await;
    for (receiver, sender) in [(0, "bob"), (1, "carol"), (2, "ana")] {
        assert_eq!(
            calls[receiver].codec(sender).await,
            format!("video/{codec}")
        );
    }
}

#[tokio::test]
async fn three_chromiums_see_and_hear_each_other_in_vp8() {
    check_codec("VP8").await;
}

#[tokio::test]
async fn three_chromiums_see_and_hear_each_other_in_h264() {
    check_codec("H264").await;
}

#[tokio::test]
async fn three_chromiums_see_and_hear_each_other_in_vp9() {
    check_codec("VP9").await;
}

#[tokio::test]
async fn three_chromiums_see_and_hear_each_other_in_av1() {
    check_codec("AV1").await;
}

#[tokio::test]
async fn firefox_and_two_chromiums_see_and_hear_each_other() {
    let _turn = turn::take().await;
    let announced = network_address().to_string();
    let server = Server::start_with(&["--announce", &announced]).await;
    let browser = Chromium::launch().await;
    // What all three can send and receive.
    let address = |name| server.page(&query(name, "lab", "&codec=VP8"));
    let ana = demo::join(&browser, "ana", &address("ana")).await;
    let bob = demo::join(&browser, "bob", &address("bob")).await;
    let firefox = Call::new(Firefox::launch("fox", &address("fox")).await).await;
    for chromium in [&ana, &bob] {
        chromium.sees_fluently("fox", FRAMES_PER_SECOND).await;
        chromium.hears("fox").await;
        firefox
            .sees_fluently(chromium.page.name(), FRAMES_PER_SECOND)
            .await;
        firefox.hears(chromium.page.name()).await;
    }
    ana.sees("bob").await;
    bob.sees("ana").await;
    ana.assert_content();
}

#[tokio::test]
async fn two_rooms_do_not_hear_each_other() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let join =
        async |name, room| demo::join(&browser, name, &server.page(&query(name, room, ""))).await;
    let ana = join("ana", "lab").await;
    let xavier = join("xavier", "bar").await;
    let bob = join("bob", "lab").await;
    let yves = join("yves", "bar").await;
    for (one, other, strangers) in [
        (&ana, &bob, ["xavier", "yves"]),
        (&xavier, &yves, ["ana", "bob"]),
    ] {
        for (call, friend) in [(one, other), (other, one)] {
            call.sees(friend.page.name()).await;
            call.hears(friend.page.name()).await;
            let mut expected = [call.page.name(), friend.page.name()];
            expected.sort_unstable();
            let known = call
                .page
                .evaluate("Object.keys(tertulia.room.getParticipants()).sort()")
                .await;
            assert_eq!(
                known,
                serde_json::json!(expected),
                "{strangers:?} are strangers"
            );
        }
    }
    ana.page
        .evaluate("void tertulia.kurento.sendMessage('lab', 'ana', 'for the lab')")
        .await;
    bob.page
        .wait_for("document.querySelector('#messages').textContent.includes('for the lab')")
        .await;
    let heard = yves
        .page
        .evaluate("document.querySelector('#messages').textContent")
        .await;
    assert_eq!(heard, "");
}

#[tokio::test]
async fn simulcast_is_received_as_one_fluent_stream() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let calls = three_in_a_room(&server, &browser, "&codec=VP8").await;
    everybody_gets_everybody(&calls).await;
}

#[tokio::test]
async fn loopback_shows_oneself_as_the_server_sends_it() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let ana = demo::join(
        &browser,
        "ana",
        &server.page(&query("ana", "lab", "&loopback=1")),
    )
    .await;
    ana.sees_fluently("ana", FRAMES_PER_SECOND).await;
    // One's own tile is silent, lest it howls.
    ana.receives_sound("ana").await;
    let bob = demo::join(&browser, "bob", &server.page(&query("bob", "lab", ""))).await;
    bob.sees_fluently("ana", FRAMES_PER_SECOND).await;
}

#[tokio::test]
async fn data_channel_messages_reach_the_subscribers() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let join =
        async |name| demo::join(&browser, name, &server.page(&query(name, "lab", "&data=1"))).await;
    let (ana, bob) = (join("ana").await, join("bob").await);
    bob.sees("ana").await;
    for call in [&ana, &bob] {
        for stream in ["ana", "bob"] {
            let open = format!(
                "probe.stream('{stream}').getWebRtcPeer().dataChannel.readyState === 'open'"
            );
            call.page.wait_for(&open).await;
        }
    }
    ana.page
        .evaluate("tertulia.stream.getWebRtcPeer().send('text ñ')")
        .await;
    ana.page
        .evaluate("tertulia.stream.getWebRtcPeer().send(new Uint8Array([0, 1, 255]))")
        .await;
    bob.page.wait_for("tertulia.data.length >= 2").await;
    let received = "tertulia.data.map(({ from, data }) => [from, typeof data === 'string' ? data : [...new Uint8Array(data)]])";
    let received = bob.page.evaluate(received).await;
    assert_eq!(
        received,
        serde_json::json!([["ana", "text ñ"], ["ana", [0, 1, 255]]])
    );
}
