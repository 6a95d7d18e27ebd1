//! The demo page as a person uses it, and how fast it shows the first picture.

use std::io::Write;
use std::time::Duration;

use tests::browser::Page;
use tests::chromium::Chromium;
use tests::demo::{self, Call};
use tests::proxy::Proxy;
use tests::server::{Server, free_address, kurento_url, page_at};
use tests::turn;

#[tokio::test]
async fn a_room_is_entered_and_left_with_the_keyboard() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let page = browser.open("ana", &server.page("video=320x180")).await;
    page.screenshot("login").await;
    // An empty form tells what is missing, and where.
    page.press("Enter").await;
    page.wait_for("document.activeElement.id === 'name' && document.querySelector('#name-problem').textContent").await;
    page.type_text("Ana <b>").await;
    page.press("Tab").await;
    page.wait_for("document.activeElement.id === 'roomName'")
        .await;
    page.type_text("lab").await;
    page.press("Enter").await;
    let ana = Call::new(page).await;
    let bob = demo::join(
        &browser,
        "bob",
        &server.page("name=bob&room=lab&join=1&video=320x180"),
    )
    .await;
    bob.sees("Ana <b>").await;
    ana.sees("bob").await;
    ana.page.screenshot("room").await;

    // The chat is opened, written to and closed with the keyboard.
    ana.page
        .evaluate("document.querySelector('#buttonChat').focus()")
        .await;
    ana.page.press("Enter").await;
    ana.page
        .wait_for("document.activeElement.id === 'inputMessage'")
        .await;
    ana.page
        .type_text("<img src=x onerror=\"window.hacked = 1\">")
        .await;
    ana.page.press("Enter").await;
    bob.page
        .evaluate("document.querySelector('#buttonChat').click()")
        .await;
    for call in [&ana, &bob] {
        call.page
            .wait_for(
                "document.querySelector('#messages').textContent.includes('<img src=x onerror=')",
            )
            .await;
        assert_eq!(
            call.page
                .evaluate("document.querySelectorAll('#messages img').length")
                .await,
            0
        );
        assert_eq!(
            call.page.evaluate("window.hacked").await,
            serde_json::Value::Null
        );
    }
    bob.page.screenshot("chat").await;
    // Names are shown as text too.
    let label = bob
        .page
        .evaluate("[...document.querySelectorAll('.label')].map((node) => node.textContent).sort()")
        .await;
    assert_eq!(label, serde_json::json!(["Ana <b>", "bob (you)"]));

    ana.page.press("Escape").await;
    ana.page
        .wait_for("document.querySelector('#effect').hidden")
        .await;
    ana.page
        .evaluate("document.querySelector('#buttonLeaveRoom').focus()")
        .await;
    ana.page.press("Enter").await;
    ana.page
        .wait_for("!document.querySelector('#login').hidden")
        .await;
    bob.misses("Ana <b>", tests::deadline::PATIENCE).await;
    ana.assert_content();
    bob.assert_content();
}

/// The text of the first element that `selector` finds.
fn text_of(selector: &str) -> String {
    format!("document.querySelector('{selector}').textContent")
}

fn click(selector: &str) -> String {
    format!("document.querySelector('{selector}').click()")
}

/// Fills the form, on either page, and sends it.
fn fill_and_join(name: &str, room: &str) -> String {
    format!(
        "(() => {{
            document.querySelector('#name').value = '{name}';
            document.querySelector('#roomName').value = '{room}';
            document.querySelector('#joinBtn').click();
        }})()"
    )
}

fn is_form_ready() -> &'static str {
    "!document.querySelector('#login').hidden && !document.querySelector('#joinBtn').disabled"
}

const CONNECTED: &str =
    "tertulia.room?.state === 'connected' && !document.querySelector('#room').hidden";

#[tokio::test]
async fn a_reload_joins_the_same_call_again() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let join = async |name: &str| {
        let query = format!("name={name}&room=a%2Fb&video=320x180");
        let page = browser.open(name, &server.page(&query)).await;
        page.evaluate(&click("#joinBtn")).await;
        Call::new(page).await
    };
    let (bob, ana) = (join("bob").await, join("ana").await);
    bob.sees("ana").await;
    assert_eq!(
        ana.page.evaluate("location.hash").await,
        "#/rooms/a%2Fb/call"
    );
    ana.page.evaluate(&click("#buttonVolume")).await;
    let off = "document.querySelector('#buttonVolume').classList.contains('off')";
    ana.page.wait_for(off).await;
    // Names come from what the page remembers, not from its address.
    let stray = "history.replaceState(null, '', location.pathname + location.hash)";
    ana.page.evaluate(stray).await;
    ana.page.reload().await;
    ana.page
        .wait_for("window.tertulia?.room?.state === 'connected'")
        .await;
    let ana = Call::new(ana.page).await;
    assert_eq!(ana.page.evaluate("tertulia.room.user").await, "ana");
    assert_eq!(ana.page.evaluate("tertulia.room.name").await, "a/b");
    // A microphone that was off is not turned on behind one's back.
    ana.page.wait_for(off).await;
    assert_eq!(
        ana.page
            .evaluate("tertulia.stream.getLocalMediaStream().getAudioTracks().length")
            .await,
        0
    );
    ana.sees("bob").await;
    bob.sees("ana").await;

    // Who has left is asked again, and so is who follows the link of somebody else's call.
    ana.page.evaluate(&click("#buttonLeaveRoom")).await;
    bob.misses("ana", tests::deadline::PATIENCE).await;
    let carol = format!("{}#/rooms/a%2Fb/call", server.url("/"));
    let carol = browser.open("carol", &carol).await;
    carol
        .wait_for("document.querySelector('#roomName').value === 'a/b' && location.hash === '#/rooms/a%2Fb'")
        .await;
    assert_eq!(
        carol
            .evaluate("document.querySelector('#name').value")
            .await,
        ""
    );
}

#[tokio::test]
async fn who_stops_sending_is_told_what_that_means_and_comes_back() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let join = async |name: &str| {
        let query = format!("name={name}&room=lab&join=1&video=320x180");
        demo::join(&browser, name, &server.page(&query)).await
    };
    let (ana, bob) = (join("ana").await, join("bob").await);
    bob.sees("ana").await;
    ana.page.evaluate(&click("#video-ana_webcam")).await;
    let title = "document.querySelector('#buttonDisconnect').title";
    ana.page
        .wait_for(&format!(
            "{title} === 'Stop sending your sound and picture'"
        ))
        .await;
    ana.page.screenshot("stop-sending").await;
    ana.page.evaluate(&click("#buttonDisconnect")).await;
    bob.stops_seeing("ana").await;
    let notices = text_of("#notices");
    ana.page
        .wait_for(&format!("{notices}.includes('neither seen nor heard')"))
        .await;
    ana.page.screenshot("stopped-sending").await;
    ana.page.evaluate(&click("#buttonVideocam")).await;
    bob.sees("ana").await;
    // Of others, the same button hides the picture, and the list of people brings it back.
    bob.page.evaluate(&click("#video-ana_webcam")).await;
    bob.page
        .wait_for(&format!("{title} === 'Stop watching ana'"))
        .await;
}

#[tokio::test]
async fn statistics_name_layers_by_their_size() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let ana = "name=ana&room=lab&join=1&video=1280x720&codec=VP8";
    let ana = demo::join(&browser, "ana", &server.page(ana)).await;
    let bob = "name=bob&room=lab&join=1&media=none";
    let bob = demo::join(&browser, "bob", &server.page(bob)).await;
    bob.sees("ana").await;
    ana.page.evaluate(&click("#buttonStatistics")).await;
    let rows = text_of("#statistics-list");
    ana.page
        .wait_for(&format!("/Sent video, 180p/.test({rows})"))
        .await;
    let rows = ana.page.evaluate(&rows).await;
    let rows = rows.as_str().unwrap();
    for layer in ["Sent video, 180p", "Sent video, 360p", "Sent video, 720p"] {
        assert!(rows.contains(layer), "{rows}");
    }
    ana.page.screenshot("statistics").await;
}

#[tokio::test]
async fn the_end_of_the_server_is_told_as_such() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let query = "name=ana&room=lab&join=1&video=320x180";
    let ana = demo::join(&browser, "ana", &server.page(query)).await;
    let basic = browser.open("basic", &server.url("/room.html")).await;
    basic.evaluate(&fill_and_join("bob", "lab")).await;
    ana.sees("bob").await;
    drop(server);
    let title = text_of("#question-title");
    ana.page
        .wait_for(&format!("{title} === 'The server is shutting down'"))
        .await;
    ana.page.screenshot("shutdown").await;
    let problem = text_of("#problem");
    basic
        .wait_for(&format!(
            "{problem} === 'The server is shutting down. Join again when it is back.'"
        ))
        .await;
    basic.screenshot("shutdown-basic").await;
}

/// An expression that has `notification`, a call of the next room's method, happen while that room is being joined.
fn while_joining(notification: &str) -> String {
    format!(
        "(() => {{
            let room = null;
            const set = (value) => {{
                room = value;
                if (!room) return;
                const connect = room.connect.bind(room);
                room.connect = () => {{
                    room.connect = connect;
                    const joined = connect();
                    room.{notification};
                    return joined;
                }};
                Object.defineProperty(tertulia, 'room', {{ value, writable: true }});
            }};
            Object.defineProperty(tertulia, 'room', {{ configurable: true, get: () => room, set }});
        }})()"
    )
}

#[tokio::test]
async fn a_call_that_ends_while_it_is_joined_leaves_the_form() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let page = browser.open("ana", &server.page("media=none")).await;
    let asks = |title: &str| {
        let shown = text_of("#question-title");
        format!("document.querySelector('#question').open && {shown} === '{title}'")
    };
    let kept = "sessionStorage.getItem('tertulia-call')";
    for (name, notification, expected) in [
        (
            "ana",
            "onRoomClosed({ room: 'lab' })",
            "The room was closed",
        ),
        ("bob", "onLostConnection()", "The connection is lost"),
    ] {
        page.evaluate(&while_joining(notification)).await;
        page.evaluate(&fill_and_join(name, "lab")).await;
        page.wait_for(&asks(expected)).await;
        page.wait_for(is_form_ready()).await;
        assert_eq!(page.evaluate(kept).await, serde_json::Value::Null);
        page.evaluate(&click("#question button:not(.primary)"))
            .await;
        assert!(page.complaints().is_empty(), "{:?}", page.complaints());
    }
    // What was chosen is known all the same.
    page.evaluate(&while_joining("onLostConnection()")).await;
    page.evaluate(&fill_and_join("carol", "lab")).await;
    page.wait_for(&asks("The connection is lost")).await;
    page.evaluate(&click("#question button.primary")).await;
    page.wait_for(CONNECTED).await;
    let joined = page.evaluate("[tertulia.room.user, tertulia.room.name]");
    assert_eq!(joined.await, serde_json::json!(["carol", "lab"]));
}

#[tokio::test]
async fn a_question_at_the_heels_of_another_gets_its_own_answer() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let page = browser.open("ana", &server.page("media=none")).await;
    let answers = "import('./notices.js').then(({ ask }) => {
        const choose = (title) => {
            const answer = ask(title, '', [[title, title], ['', 'Close']]);
            document.querySelector('#question button.primary').click();
            return answer;
        };
        return Promise.all([choose('first'), choose('second')]);
    })";
    let answers = page.evaluate(answers).await;
    assert_eq!(answers, serde_json::json!(["first", "second"]));
}

#[tokio::test]
async fn who_waits_for_the_server_is_told_and_may_stop_waiting() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let browser = Chromium::launch().await;
    let query = "name=ana&room=lab&media=none";
    let page = browser.open("ana", &page_at(proxy.address, query)).await;
    let banner = text_of("#banner");
    let close = "tertulia.room.onRoomClosed({ room: 'lab' })";
    page.evaluate(&click("#joinBtn")).await;
    page.wait_for(CONNECTED).await;
    // As after the end of a server, but it comes back.
    page.evaluate(close).await;
    proxy.cut();
    page.evaluate(&click("#question button.primary")).await;
    page.wait_for(&format!("{banner}.includes('cannot be reached. Trying')"))
        .await;
    page.screenshot("server-away").await;
    proxy.mend();
    page.wait_for(&format!("{banner}.includes('Your name is still taken')"))
        .await;
    page.screenshot("name-held").await;
    page.wait_for(CONNECTED).await;
    assert_eq!(page.evaluate(&banner).await, "");

    page.evaluate(close).await;
    proxy.cut();
    page.evaluate(&click("#question button.primary")).await;
    page.wait_for(&format!("{banner}.includes('cannot be reached. Trying')"))
        .await;
    page.evaluate(&click("#banner button")).await;
    page.wait_for(is_form_ready()).await;
    assert_eq!(page.evaluate(&banner).await, "");
    proxy.mend();
    page.evaluate(&fill_and_join("bob", "lab")).await;
    page.wait_for(CONNECTED).await;
    assert_eq!(page.evaluate("tertulia.room.user").await, "bob");

    // Whoever goes away before the call is joined again is not in it, and finds the form later.
    page.evaluate(close).await;
    proxy.cut();
    page.evaluate(&click("#question button.primary")).await;
    page.wait_for(&format!("{banner}.includes('cannot be reached. Trying')"))
        .await;
    proxy.mend();
    page.wait_for(&format!("{banner}.includes('Your name is still taken')"))
        .await;
    page.reload().await;
    page.wait_for(is_form_ready()).await;
    let kept = page.evaluate("sessionStorage.getItem('tertulia-call')");
    assert_eq!(kept.await, serde_json::Value::Null);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_told() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let query = "name=ana&room=lab&media=none";
    let page = browser.open("ana", &server.page(query)).await;
    // It takes connections, half-way through whatever it does.
    server.pause();
    page.evaluate(&click("#joinBtn")).await;
    let banner = text_of("#banner");
    // Which of the steps it stops at is a matter of luck.
    page.wait_for(&format!("{banner}.includes('rying')")).await;
    page.screenshot("server-silent").await;
    server.resume();
    page.wait_for(CONNECTED).await;
    assert_eq!(page.evaluate(&banner).await, "");
}

#[tokio::test]
async fn an_attempt_that_was_given_up_does_not_end_the_next_call() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let query = "name=ana&room=lab&join=1&media=none";
    let _ana = demo::join(&browser, "ana", &server.page(query)).await;
    let page = browser.open("tab", &server.url("/")).await;
    // The tab believes that it was ana.
    page.evaluate(
        "(() => {
            const call = { name: 'ana', room: 'lab', media: 'none', loopback: false };
            sessionStorage.setItem('tertulia-call', JSON.stringify(call));
        })()",
    )
    .await;
    let call = server.url("/?again#/rooms/lab/call");
    page.navigate(&call).await;
    let banner = text_of("#banner");
    page.wait_for(&format!("{banner}.includes('Your name is still taken')"))
        .await;
    page.evaluate("(() => { location.hash = '#/rooms/lab'; })()")
        .await;
    page.wait_for(is_form_ready()).await;
    assert_eq!(page.evaluate(&banner).await, "");
    page.evaluate(&fill_and_join("bob", "lab")).await;
    page.wait_for(CONNECTED).await;
    // The attempt has had the time to go on.
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 3000))")
        .await;
    assert_eq!(page.evaluate(CONNECTED).await, true);
    assert_eq!(page.evaluate("tertulia.room.user").await, "bob");
}

#[tokio::test]
async fn the_address_of_another_call_ends_this_one() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let query = "name=ana&room=lab&join=1&media=none";
    let ana = demo::join(&browser, "ana", &server.page(query)).await;
    ana.page.wait_for(CONNECTED).await;
    ana.page
        .evaluate("(() => { location.hash = '#/rooms/other/call'; })()")
        .await;
    ana.page.wait_for(is_form_ready()).await;
    ana.page
        .wait_for("document.querySelector('#roomName').value === 'other'")
        .await;
    assert_eq!(ana.page.evaluate("location.hash").await, "#/rooms/other");
}

#[tokio::test]
async fn the_banner_tells_whose_media_do_not_come_through() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let join = async |name: &str| {
        let query = format!("name={name}&room=lab&join=1&video=320x180&codec=VP8");
        demo::join(&browser, name, &server.page(&query)).await
    };
    let (ana, _bob, _carol) = (join("ana").await, join("bob").await, join("carol").await);
    for name in ["bob", "carol"] {
        ana.sees(name).await;
    }
    ana.page
        .wait_for("tertulia.stream.getWebRtcPeer() !== null")
        .await;
    let happens = async |event: &str, names: &[&str], more: &str| {
        for name in names {
            let stream = format!("probe.stream('{name}')");
            let payload = format!("[{{ stream: {stream}, {more} }}]");
            let emit = format!("void tertulia.room.emitEvent('{event}', {payload})");
            ana.page.evaluate(&emit).await;
        }
        let banner = ana
            .page
            .evaluate("document.querySelector('#banner span')?.textContent");
        banner.await.as_str().unwrap_or_default().to_owned()
    };
    let ice = async |names: &[&str], state: &str| {
        happens("ice-state-changed", names, &format!("state: '{state}'")).await
    };
    let text = ice(&["bob"], "disconnected").await;
    assert!(text.starts_with("Nothing comes from bob."), "{text}");
    ana.page.screenshot("interrupted-one").await;
    let text = ice(&["ana", "carol"], "disconnected").await;
    assert!(text.starts_with("No sound and pictures come"), "{text}");
    ana.page.screenshot("interrupted-all").await;
    let text = ice(&["bob", "carol"], "connected").await;
    assert!(text.starts_with("Your sound and picture"), "{text}");
    assert_eq!(ice(&["ana"], "connected").await, "");

    // Of several failures, each is told until it is over.
    let failed = "error: { code: 302 }";
    let text = happens("error-subscribe", &["bob", "carol"], failed).await;
    assert!(text.starts_with("carol cannot be shown."), "{text}");
    let text = happens("stream-subscribed", &["carol"], "").await;
    assert!(text.starts_with("bob cannot be shown."), "{text}");
    let text = happens("error-subscribe", &["carol"], failed).await;
    assert!(text.starts_with("carol cannot be shown."), "{text}");
    ana.page.evaluate(&click("#banner button:last-child")).await;
    assert_eq!(ana.page.evaluate(&text_of("#banner")).await, "");
}

#[tokio::test]
async fn the_basic_page_does_not_take_an_old_error_for_the_reason_of_the_end() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let page = browser.open("basic", &server.url("/room.html")).await;
    page.evaluate(
        "(() => {
            const { connect } = Room.prototype;
            Room.prototype.connect = function () {
                globalThis.room = this;
                return connect.call(this);
            };
        })()",
    )
    .await;
    let problem = text_of("#problem");
    let ends = async |error: &str| {
        page.evaluate("globalThis.room = null").await;
        page.evaluate(&fill_and_join("ana", error.split(':').next().unwrap()))
            .await;
        page.wait_for("room?.state === 'connected'").await;
        page.evaluate(&format!("room.onMediaError({{ error: '{error}' }})"))
            .await;
        let told = page.evaluate(&problem).await;
        page.evaluate("room.onRoomClosed({ room: room.name })")
            .await;
        let end = page.evaluate(&problem).await;
        (
            told.as_str().unwrap().to_owned(),
            end.as_str().unwrap().to_owned(),
        )
    };
    let mismatch = "STREAM_ERROR_FAILED: source VP8, sink accepts H264(errCode=1)";
    let (told, end) = ends(mismatch).await;
    assert_eq!(told, mismatch);
    assert_eq!(end, "The room was closed.");
    let (told, end) = ends("MEDIA_SERVER_LOST: join again(errCode=40007)").await;
    assert!(told.starts_with("The media server was restarted"), "{told}");
    assert_eq!(end, told);
}

#[tokio::test]
async fn pictures_of_a_dead_media_server_do_not_stand_still_unexplained() {
    let _turn = turn::take().await;
    let kurento = free_address().to_string();
    let media = Server::start_with(&["--kurento", &kurento]).await;
    let uri = kurento_url(&kurento);
    let rooms = Server::start_with(&["--media", "kms", "--kms-uri", &uri]).await;
    let browser = Chromium::launch().await;
    let join = async |name: &str| {
        let query = format!("name={name}&room=lab&join=1&video=320x180");
        demo::join(&browser, name, &rooms.page(&query)).await
    };
    let (ana, bob) = (join("ana").await, join("bob").await);
    ana.sees("bob").await;
    bob.sees("ana").await;
    media.kill();
    let banner = text_of("#banner");
    ana.page
        .wait_for(&format!("{banner}.includes('come through')"))
        .await;
    ana.page.screenshot("dead-media-server").await;
    let _media = Server::start_with(&["--kurento", &kurento]).await;
    let title = text_of("#question-title");
    ana.page
        .wait_for(&format!("{title} === 'The media server was restarted'"))
        .await;
    ana.page.screenshot("restarted-media-server").await;
    // What the dialog offers works.
    ana.page.evaluate(&click("#question button.primary")).await;
    ana.page
        .wait_for("tertulia.room?.state === 'connected'")
        .await;
    assert_eq!(
        ana.page
            .evaluate("document.querySelector('#banner').textContent")
            .await,
        ""
    );
}

#[tokio::test]
async fn a_taken_name_is_told_at_the_field() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let query = "name=ana&room=lab&join=1&video=320x180";
    let ana = demo::join(&browser, "ana", &server.page(query)).await;
    let other = browser.open("other", &server.page(query)).await;
    other
        .wait_for("document.querySelector('#name-problem').textContent")
        .await;
    other.screenshot("taken-name").await;
    assert_eq!(ana.page.evaluate("tertulia.room.state").await, "connected");
}

/// The basic page has the plain script, as applications of the original use it.
#[tokio::test]
async fn pages_without_modules_meet_those_with() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let query = "name=bob&room=lab&join=1&video=320x180";
    let bob = demo::join(&browser, "bob", &server.page(query)).await;
    let ana = browser.open("ana", &server.url("/room.html")).await;
    assert_eq!(ana.evaluate("jq('a.b')").await, "#a\\.b");
    ana.evaluate(&fill_and_join("ana", "lab")).await;
    ana.wait_for("document.querySelector('#video-bob_webcam video')?.videoWidth > 0")
        .await;
    bob.sees("ana").await;
    ana.evaluate("document.querySelector('#buttonLeaveRoom').click()")
        .await;
    bob.misses("ana", tests::deadline::PATIENCE).await;
}

/// From a click on *Join* to the first decoded picture of somebody who is in the room.
#[tokio::test]
async fn the_first_picture_comes_soon() {
    const ROUNDS: usize = 10;
    let _turn = turn::take().await;
    let server = Server::start().await;
    let browser = Chromium::launch().await;
    let ana = demo::join(
        &browser,
        "ana",
        &server.page("name=ana&room=lab&join=1&video=320x180&codec=VP8"),
    )
    .await;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("bob{round}");
        let page = browser
            .open(
                &name,
                &server.page(&format!("name={name}&room=lab&media=none")),
            )
            .await;
        let milliseconds = page
            .evaluate(
                "(async () => {
                    const begin = performance.now();
                    document.querySelector('#joinBtn').click();
                    for (;;) {
                        const video = document.querySelector('#video-ana_webcam video');
                        const report = await tertulia.room?.getStreams()['ana_webcam']?.getStats();
                        const entries = [...(report?.values() ?? [])];
                        if (video && entries.some((entry) => entry.kind === 'video' && entry.framesDecoded > 0)) break;
                        await new Promise((resolve) => setTimeout(resolve, 5));
                    }
                    return performance.now() - begin;
                })()",
            )
            .await;
        times.push(Duration::from_secs_f64(
            milliseconds.as_f64().unwrap() / 1000.0,
        ));
        page.close().await;
        ana.misses(&name, tests::deadline::PATIENCE).await;
    }
    times.sort_unstable();
    let (least, median, most) = (times[0], times[ROUNDS / 2], times[ROUNDS - 1]);
    // Past the test harness, which shows output of failures only.
    writeln!(
        std::io::stdout(),
        "join to first picture: median {median:?} of {ROUNDS}, {least:?} to {most:?}"
    )
    .unwrap();
}
