//! Attacks on the media port while a call runs, by strangers and by those who are let in.

use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use serde_json::json;
use tests::bystanders::Bystanders;
use tests::deadline::{until, within};
use tests::peer::Participant;
use tests::room_socket::RoomSocket;
use tests::stun::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, ICE_CONTROLLED, ICE_CONTROLLING, Message,
    PRIORITY, Prober, Target, USE_CANDIDATE, USERNAME, client_hello, handshake_record, record,
};
use tests::turn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The attacker's side of usernames, as in `transcripts/publish.sdp`.
const FRAGMENT: &str = "abcd";
const OFFER: &str = include_str!("../transcripts/publish.sdp");

/// Joins as the attacker, who publishes something and knows the server's credentials for it.
async fn let_in(call: &Bystanders) -> (RoomSocket, Target) {
    let mut socket = call.stranger().await;
    socket.join("other", "mallory").await;
    let target = publish(&mut socket).await;
    (socket, target)
}

async fn publish(socket: &mut RoomSocket) -> Target {
    let params = json!({ "sdpOffer": OFFER.replace('\n', "\r\n"), "doLoopback": false });
    let answer = socket.request("publishVideo", params).await;
    let answer = answer.expect("a sound offer");
    let sdp = answer["sdpAnswer"].as_str().expect("a description");
    let mut candidates = Vec::new();
    if !sdp.contains("a=candidate:") {
        let told = socket.notification("iceCandidate").await;
        candidates.push(told["candidate"].as_str().expect("a candidate").to_owned());
    }
    Target::of_answer(sdp, &candidates)
}

fn kind_of(answer: &[u8]) -> u16 {
    u16::from_be_bytes([answer[0], answer[1]])
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_changes_nothing() {
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let (_mallory, target) = let_in(&call).await;
    let prober = Prober::connect(target.address).await;
    for round in 0..50_u32 {
        for first in [
            0, 1, 20, 22, 63, 64, 79, 80, 127, 128, 143, 191, 192, 200, 206, 255,
        ] {
            let length = [
                0, 1, 2, 3, 11, 12, 13, 19, 20, 28, 100, 1200, 1500, 9000, 65_000,
            ][(round as usize) % 15];
            let mut datagram: Vec<u8> = (0..length).map(|_| rand::random()).collect();
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            prober.send(&datagram).await;
        }
        // Paces the noise, and shows that none of it is answered.
        let answers = prober.answers_before(&target.check(FRAGMENT)).await;
        // After the first check this is a peer, with whom the server may begin to talk.
        assert!(
            answers
                .iter()
                .all(|answer| kind_of(answer) != BINDING_SUCCESS)
        );
    }
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_checks_are_not_believed() {
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let (_mallory, target) = let_in(&call).await;
    let sound = target.check(FRAGMENT);
    let username = format!("{}:{FRAGMENT}", target.fragment);
    let signed = |message: Message| message.integrity(&target.password).fingerprint().bytes();
    let stranger = Target {
        fragment: "nobody".to_owned(),
        ..target.clone()
    };
    let long = vec![b'x'; 60_000];

    let mut forged = vec![
        ("unknown fragment", stranger.check(FRAGMENT)),
        (
            "wrong password",
            target
                .unsigned_check(FRAGMENT)
                .integrity("wrong")
                .fingerprint()
                .bytes(),
        ),
        (
            "no integrity",
            target.unsigned_check(FRAGMENT).fingerprint().bytes(),
        ),
        (
            "no user",
            signed(Message::new(BINDING_REQUEST).attribute(PRIORITY, &[1; 4])),
        ),
        (
            "user without a colon",
            signed(Message::new(BINDING_REQUEST).attribute(USERNAME, b"nocolon")),
        ),
        (
            "empty user",
            signed(Message::new(BINDING_REQUEST).attribute(USERNAME, b"")),
        ),
        (
            "huge user",
            signed(Message::new(BINDING_REQUEST).attribute(USERNAME, &long)),
        ),
        ("attribute after the integrity", {
            let message = target.unsigned_check(FRAGMENT).integrity("wrong");
            message
                .attribute(USERNAME, username.as_bytes())
                .fingerprint()
                .bytes()
        }),
        (
            "success nobody asked for",
            signed(Message::new(BINDING_SUCCESS).attribute(USERNAME, username.as_bytes())),
        ),
        (
            "error nobody asked for",
            signed(Message::new(BINDING_ERROR).attribute(0x0009, &[0, 0, 4, 3])),
        ),
        ("indication", signed(Message::new(0x0011))),
        (
            "method nobody knows",
            signed(Message::new(0x0003).attribute(USERNAME, username.as_bytes())),
        ),
    ];
    let mut other_magic = sound.clone();
    other_magic[4] ^= 0xff;
    forged.push(("other magic", other_magic));
    let mut flipped = sound.clone();
    flipped[30] ^= 1;
    forged.push(("one bit flipped", flipped));
    for length in (1..sound.len()).step_by(3) {
        forged.push(("truncated", sound[..length].to_vec()));
    }
    for lie in [0, 3, 4, 0x7fff, 0xffff_u16] {
        let mut message = sound.clone();
        message[2..4].copy_from_slice(&lie.to_be_bytes());
        forged.push(("lying length", message.clone()));
        let mut message = sound.clone();
        message[22..24].copy_from_slice(&lie.to_be_bytes());
        forged.push(("lying attribute", message));
    }

    for (what, message) in &forged {
        let prober = Prober::connect(target.address).await;
        prober.send(message).await;
        for answer in prober.answers_before(&target.check(FRAGMENT)).await {
            assert!(
                answer.len() <= message.len(),
                "{what}: {} bytes answer {}",
                answer.len(),
                message.len()
            );
            assert_ne!(kind_of(&answer), BINDING_SUCCESS, "{what} is believed");
        }
    }

    // Authentic, and yet odd: answered in whatever way, but not amplified.
    let odd = [
        (
            "controlled",
            target
                .unsigned_check(FRAGMENT)
                .attribute(ICE_CONTROLLED, &[1; 8]),
        ),
        (
            "two roles, twice",
            target
                .unsigned_check(FRAGMENT)
                .attribute(ICE_CONTROLLING, &[2; 8]),
        ),
        (
            "short role",
            target
                .unsigned_check(FRAGMENT)
                .attribute(ICE_CONTROLLING, &[2]),
        ),
        (
            "unknown and required",
            target
                .unsigned_check(FRAGMENT)
                .attribute(0x7abc, &[1, 2, 3]),
        ),
        (
            "nominating",
            target
                .unsigned_check(FRAGMENT)
                .attribute(USE_CANDIDATE, &[]),
        ),
        (
            "second user",
            target
                .unsigned_check(FRAGMENT)
                .attribute(USERNAME, b"other:user"),
        ),
    ];
    for (what, message) in odd {
        let message = signed(message);
        let prober = Prober::connect(target.address).await;
        prober.send(&message).await;
        for answer in prober.answers_before(&target.check(FRAGMENT)).await {
            assert!(
                answer.len() <= message.len(),
                "{what}: {} bytes answer {}",
                answer.len(),
                message.len()
            );
        }
    }
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_and_media_of_strangers_are_ignored() {
    const CIPHER_SUITE: u16 = 0xc02b;
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let (mut mallory, target) = let_in(&call).await;
    let hello = client_hello(&[CIPHER_SUITE]);
    let rtp = [&[0x80, 0x60, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9][..], &[7; 200]].concat();
    let receiver_report = [0x80, 201, 0, 1, 0, 0, 0, 9].to_vec();

    // From addresses that no check has come from.
    for _ in 0..200 {
        let stranger = Prober::connect(target.address).await;
        for datagram in [&hello, &rtp, &receiver_report] {
            stranger.send(datagram).await;
        }
        // A forged check is silently dropped and then a sound one from there is answered: the only answer.
        let answers = stranger.answers_before(&target.check(FRAGMENT)).await;
        assert_eq!(answers, Vec::<Vec<u8>>::new(), "a stranger is answered");
    }

    // From one that is let in: every record is odd.
    let mut lying_length = hello.clone();
    lying_length[11..13].copy_from_slice(&0xffff_u16.to_be_bytes());
    let mut lying_message = hello.clone();
    lying_message[14..17].copy_from_slice(&[0xff, 0xff, 0xff]);
    let mut fragment = hello.clone();
    fragment[19..22].copy_from_slice(&[0, 0x40, 0]);
    let odd = [
        client_hello(&[]),
        client_hello(&[0x0000, 0x0001]),
        client_hello(&[0xffff; 2000]),
        lying_length,
        lying_message,
        fragment,
        handshake_record(1, 0, &[]),
        handshake_record(11, 1, &[0; 3]),
        handshake_record(11, 1, &vec![0xff; 8000]),
        handshake_record(20, 2, &[0; 12]),
        handshake_record(255, 9, &[1; 64]),
        record(20, 0, &[1]),
        record(20, 0, &[]),
        record(21, 0, &[2, 40]),
        record(21, 0, &[1]),
        record(22, 0, &[]),
        record(22, 7, &[1; 100]),
        record(23, 0, b"application data in the clear"),
        record(23, 1, &[3; 400]),
        record(99, 0, &[4; 40]),
        rtp,
        receiver_report,
    ];
    for datagram in &odd {
        // A new transport each time, as the former may rightly be over.
        mallory
            .request("unpublishVideo", json!({}))
            .await
            .expect("published before");
        let target = publish(&mut mallory).await;
        let peer = Prober::connect(target.address).await;
        drop(peer.answers_before(&target.check(FRAGMENT)).await);
        peer.send(datagram).await;
    }
    // Half-open handshakes: fragments that never complete, hellos again and again.
    mallory
        .request("unpublishVideo", json!({}))
        .await
        .expect("published before");
    let target = publish(&mut mallory).await;
    let peer = Prober::connect(target.address).await;
    drop(peer.answers_before(&target.check(FRAGMENT)).await);
    for sequence in 0..500_u16 {
        let mut fragment = handshake_record(1, sequence, &[0x11; 200]);
        fragment[14..17].copy_from_slice(&[0, 0xff, 0xff]);
        peer.send(&fragment).await;
        peer.send(&hello).await;
    }
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_not_announced_is_refused() {
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let (mut mallory, _) =
        Participant::enter(&call.server.room_url(), Bystanders::ROOM, "mallory").await;
    let refused = until("the server refuses the certificate", async || {
        let failures = call
            .server
            .counter("tertulia_media_handshakes_failed_total")
            .await;
        (failures > 0).then_some(())
    });
    mallory.publish_with_foreign_fingerprint(refused).await;
    mallory.leave().await;
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_connections_that_stall_or_lie_are_closed() {
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    let (_mallory, target) = let_in(&call).await;
    // Some stay idle while the others are tried.
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(target.address).await.unwrap());
    }
    let frame = |content: &[u8]| {
        [
            &u16::try_from(content.len()).unwrap().to_be_bytes()[..],
            content,
        ]
        .concat()
    };
    let lies: [Vec<u8>; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        frame(&[0x80; 200]),
        frame(&client_hello(&[0xc02b])),
        frame(&[]),
    ];
    for lie in &lies {
        let mut socket = TcpStream::connect(target.address).await.unwrap();
        socket.write_all(lie).await.unwrap();
        let mut answer = Vec::new();
        // Closed or reset, without a word.
        let _ = within(
            "the server closes the connection",
            socket.read_to_end(&mut answer),
        )
        .await;
        assert_eq!(answer, b"");
    }
    // Byte by byte a sound check is as good as at once.
    let mut slow = TcpStream::connect(target.address).await.unwrap();
    slow.set_nodelay(true).unwrap();
    for byte in frame(&target.check(FRAGMENT)) {
        slow.write_all(&[byte]).await.unwrap();
    }
    let mut answer = [0; 4];
    within("an answer over TCP", slow.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(kind_of(&answer[2..]), BINDING_SUCCESS);
    call.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_feedback_neither_stop_nor_multiply_media() {
    /// The flood asks for more than 400 000 packets; the call has sent some hundred.
    const REPEATED_MAX: u64 = 1_000;
    let _turn = turn::take().await;
    let call = Bystanders::begin().await;
    for round in 0..200_u32 {
        call.receiver()
            .send_feedback("ana", |ssrc| {
                let nacks = (0..64).map(|block| NackPair {
                    packet_id: (round * 1024 + block * 17) as u16,
                    lost_packets: 0xffff,
                });
                vec![
                    Box::new(PictureLossIndication {
                        sender_ssrc: 0,
                        media_ssrc: ssrc,
                    }),
                    Box::new(PictureLossIndication {
                        sender_ssrc: 0,
                        media_ssrc: !ssrc,
                    }),
                    Box::new(FullIntraRequest {
                        sender_ssrc: 0,
                        media_ssrc: 0,
                        fir: vec![FirEntry {
                            ssrc,
                            sequence_number: round as u8,
                        }],
                    }),
                    Box::new(TransportLayerNack {
                        sender_ssrc: 0,
                        media_ssrc: ssrc,
                        nacks: nacks.collect(),
                    }),
                    Box::new(ReceiverEstimatedMaximumBitrate {
                        sender_ssrc: 0,
                        bitrate: f32::MAX,
                        ssrcs: vec![ssrc, 1, 2, 3],
                    }),
                ]
            })
            .await;
    }
    let repeated = call
        .server
        .counter("tertulia_media_rtp_retransmitted_total")
        .await;
    assert!(
        repeated < REPEATED_MAX,
        "{repeated} packets were sent again"
    );
    let forwarded_on = call.server.counter("tertulia_media_rtcp_sent_total").await;
    assert!(
        forwarded_on < REPEATED_MAX,
        "{forwarded_on} packets of feedback were sent"
    );
    call.assert_unharmed().await;
}
