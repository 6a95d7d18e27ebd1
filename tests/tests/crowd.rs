//! A full room, without browsers.

use std::io::Write;

use futures_util::future::join_all;
use tests::peer::Participant;
use tests::server::Server;
use tests::turn;

const PARTICIPANTS: usize = 12;

/// Of each kind from each publisher; a second's worth.
const PACKETS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn twelve_people_all_receive_each_other() {
    let _turn = turn::take().await;
    let server = Server::start_with(&["--workers", "2"]).await;
    let names: Vec<String> = (1..=PARTICIPANTS)
        .map(|number| format!("person{number}"))
        .collect();
    let mut participants = Vec::new();
    for name in &names {
        let (mut participant, _) = Participant::enter(&server.room_url(), "hall", name).await;
        participant.publish().await;
        participants.push(participant);
    }
    join_all(
        participants
            .iter_mut()
            .zip(&names)
            .map(async |(participant, own)| {
                for publisher in names.iter().filter(|name| *name != own) {
                    participant.subscribe(publisher).await;
                }
            }),
    )
    .await;
    join_all(
        participants
            .iter()
            .zip(&names)
            .map(async |(participant, own)| {
                for publisher in names.iter().filter(|name| *name != own) {
                    participant.receives(publisher, PACKETS).await;
                }
            }),
    )
    .await;

    // Past the test harness, which shows output of failures only.
    writeln!(
        std::io::stdout(),
        "resident memory with {PARTICIPANTS} people, all to all: {} kB",
        server.resident_bytes() / 1024
    )
    .unwrap();

    // So many do not fit on one worker.
    let relayed = server.counter("tertulia_media_rtp_relayed_total").await;
    assert!(relayed > PACKETS * PARTICIPANTS as u64, "{relayed}");
    let forwarded = server.counter("tertulia_media_rtp_forwarded_total").await;
    assert!(relayed < forwarded / 3, "{relayed} of {forwarded}");

    // One goes; the others are told, and go on.
    let leaver = participants.pop().unwrap();
    leaver.leave().await;
    join_all(participants.iter_mut().map(async |participant| {
        let params = participant.socket.notification("participantLeft").await;
        assert_eq!(params["name"], names[PARTICIPANTS - 1].as_str());
    }))
    .await;
    participants[0].receives(&names[1], PACKETS).await;

    let everybody = join_all(participants.into_iter().map(Participant::leave)).await;
    assert_eq!(everybody.len(), PARTICIPANTS - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_is_told_who_publishes() {
    let _turn = turn::take().await;
    let server = Server::start().await;
    let (mut ana, publishers) = Participant::enter(&server.room_url(), "hall", "ana").await;
    assert!(publishers.is_empty());
    ana.publish().await;
    let (mut bob, publishers) = Participant::enter(&server.room_url(), "hall", "bob").await;
    assert_eq!(publishers, ["ana"]);
    bob.subscribe("ana").await;
    bob.receives("ana", PACKETS).await;
    ana.unpublish().await;
    assert_eq!(
        bob.socket.notification("participantUnpublished").await["name"],
        "ana"
    );
}
