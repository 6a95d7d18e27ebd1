//! Calls that are disturbed: people come and go, browsers die, networks are cut.

use std::time::{Duration, Instant};

use tests::browser::Page;
use tests::chromium::Chromium;
use tests::deadline::until;
use tests::demo;
use tests::proxy::Proxy;
use tests::room_socket::RoomSocket;
use tests::server::{GRACE, Server, page_at};
use tests::turn;

const ROUNDS: u32 = 5;

/// Longer than the grace period by what a busy machine needs.
const GIVE_UP: Duration = GRACE.saturating_add(Duration::from_secs(10));

fn query(name: &str) -> String {
    format!("name={name}&room=lab&join=1&video=320x180&codec=VP8")
}

#[tokio::test]
async fn publishing_again_and_again_is_seen_each_time() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let ana = demo::join(&browser, "ana", &server.page(&query("ana"))).await;
    let bob = demo::join(&browser, "bob", &server.page(&query("bob"))).await;
    bob.sees("ana").await;
    for _ in 0..ROUNDS {
        ana.page
            .evaluate("tertulia.stream.unpublish({ keepMedia: true })")
            .await;
        bob.stops_seeing("ana").await;
        ana.page.evaluate("tertulia.stream.publish()").await;
        bob.sees("ana").await;
    }
    bob.sees_fluently("ana", 10).await;
    // The other direction was never touched.
    ana.sees_fluently("bob", 10).await;
}

#[tokio::test]
async fn leaving_and_entering_quickly_works_each_time() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let bob = demo::join(&browser, "bob", &server.page(&query("bob"))).await;
    let page = browser.open("ana", &server.page(&query("ana"))).await;
    let mut ana = demo::Call::new(page).await;
    bob.sees("ana").await;
    for _ in 0..ROUNDS {
        ana.page.evaluate("tertulia.kurento.close()").await;
        ana.page.navigate(&server.page(&query("ana"))).await;
        ana = demo::Call::new(ana.page).await;
        ana.sees("bob").await;
        bob.sees("ana").await;
    }
    ana.sees_fluently("bob", 10).await;
    bob.sees_fluently("ana", 10).await;
}

#[tokio::test]
async fn reloading_the_page_comes_back_at_once() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let bob = demo::join(&browser, "bob", &server.page(&query("bob"))).await;
    let ana = demo::join(&browser, "ana", &server.page(&query("ana"))).await;
    bob.sees("ana").await;
    let before = Instant::now();
    ana.page.navigate(&server.page(&query("ana"))).await;
    let ana = demo::Call::new(ana.page).await;
    bob.sees("ana").await;
    ana.sees("bob").await;
    assert!(before.elapsed() < GRACE, "the former page was waited for");
}

#[tokio::test]
async fn a_killed_browser_is_gone_after_the_grace_period() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let mut doomed = Chromium::launch().await;
    let bob = demo::join(&browser, "bob", &server.page(&query("bob"))).await;
    let ana = demo::join(&doomed, "ana", &server.page(&query("ana"))).await;
    bob.sees("ana").await;
    ana.sees("bob").await;
    doomed.kill();
    let killed = Instant::now();
    bob.misses("ana", GIVE_UP).await;
    // Earlier would be no grace.
    assert!(
        killed.elapsed() > GRACE / 2,
        "given up after {:?}",
        killed.elapsed()
    );
    let again = demo::join(&browser, "ana", &server.page(&query("ana"))).await;
    bob.sees("ana").await;
    again.sees("bob").await;
}

#[tokio::test]
async fn media_outlives_a_cut_of_the_signaling() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let browser = Chromium::launch().await;
    let bob = demo::join(&browser, "bob", &server.page(&query("bob"))).await;
    let ana = demo::join(&browser, "ana", &page_at(proxy.address, &query("ana"))).await;
    ana.sees("bob").await;
    bob.sees("ana").await;
    ana.page
        .evaluate("void (globalThis.resumed = new Promise((resolve) => { const listen = (event) => resolve(event.resumed); tertulia.room.addEventListener('reconnected', listen); }))")
        .await;
    let cut_at = Instant::now();
    proxy.cut();
    ana.page
        .wait_for("tertulia.room.state === 'reconnecting'")
        .await;
    // What happens during the cut: a message, somebody comes, somebody comes and goes.
    bob.page
        .evaluate("void tertulia.kurento.sendMessage('lab', 'bob', 'are you there?')")
        .await;
    let mut carol = RoomSocket::connect(&server.room_url()).await;
    carol.join("lab", "carol").await;
    let mut dan = RoomSocket::connect(&server.room_url()).await;
    dan.join("lab", "dan").await;
    dan.request("leaveRoom", serde_json::json!({}))
        .await
        .unwrap();
    let rate = ana.frame_rate("bob", 30).await;
    assert!(rate >= 8.0, "{rate} frames per second while cut");
    until("ana has tried to come back", async || {
        (proxy.refused() > 0).then_some(())
    })
    .await;
    proxy.mend();
    ana.page
        .wait_for("tertulia.room.state === 'connected'")
        .await;
    assert!(cut_at.elapsed() < GRACE, "cut for {:?}", cut_at.elapsed());
    assert_eq!(ana.page.evaluate("resumed").await, true);
    ana.page
        .wait_for("document.querySelector('#messages').textContent.includes('are you there?')")
        .await;
    ana.page
        .wait_for("'carol' in tertulia.room.getParticipants()")
        .await;
    ana.page
        .wait_for("!('dan' in tertulia.room.getParticipants())")
        .await;
    ana.sees_fluently("bob", 10).await;
    bob.sees_fluently("ana", 10).await;
}
