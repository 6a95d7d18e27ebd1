//! Requests, notifications and responses: what is written is read, and written as in Kurento Room.

use super::*;

#[test]
fn requests_read_what_they_write() {
    let custom = json!({"hat": true}).as_object().cloned().unwrap();
    let requests = [
        Request::JoinRoom {
            room: "lab".to_owned(),
            user: "alice".to_owned(),
            data_channels: true,
            media_events: true,
        },
        Request::LeaveRoom,
        publish(true),
        Request::UnpublishVideo,
        crate::world::receive("alice"),
        crate::world::unsubscribe("alice"),
        crate::world::wish("alice", Delivery::default()),
        Request::OnIceCandidate {
            endpoint_name: "alice".to_owned(),
            candidate: candidate(),
        },
        Request::SendMessage {
            message: "hi".to_owned(),
            user: "alice".to_owned(),
            room: "lab".to_owned(),
        },
        Request::CustomRequest(custom),
    ];
    for request in requests {
        let params = request.params();
        assert_eq!(
            Request::parse(request.method(), params.as_ref()),
            Ok(request)
        );
    }
}

#[test]
fn notifications_read_what_they_write() {
    let user = || "alice".to_owned();
    let rows = [
        (
            Notification::ParticipantJoined { user: user() },
            r#"participantJoined {"id":"alice"}"#,
        ),
        (
            Notification::ParticipantLeft { user: user() },
            r#"participantLeft {"name":"alice"}"#,
        ),
        (Notification::ParticipantEvicted, "participantEvicted {}"),
        (
            Notification::published("alice"),
            r#"participantPublished {"id":"alice","streams":[{"id":"webcam"}]}"#,
        ),
        (
            Notification::ParticipantUnpublished { user: user() },
            r#"participantUnpublished {"name":"alice"}"#,
        ),
        (
            Notification::SendMessage {
                room: "lab".to_owned(),
                user: user(),
                message: "<hi> & \"bye\" é".to_owned(),
            },
            r#"sendMessage {"room":"lab","user":"alice","message":"<hi> & \"bye\" é"}"#,
        ),
        (
            Notification::IceCandidate {
                endpoint_name: user(),
                candidate: candidate(),
            },
            r#"iceCandidate {"endpointName":"alice","sdpMLineIndex":1,"sdpMid":"audio","candidate":"1 candidate test"}"#,
        ),
        (
            Notification::VideoDelivery {
                sender: "alice_webcam".to_owned(),
                video: SubscribedVideo::Sent {
                    layer: VideoLayer {
                        spatial: 1,
                        temporal: 2,
                    },
                    spatial_layers: 3,
                    height: 720,
                },
            },
            r#"videoDelivery {"sender":"alice_webcam","spatialLayer":1,"temporalLayer":2,"spatialLayers":3,"height":720}"#,
        ),
        (
            Notification::VideoDelivery {
                sender: "alice_webcam".to_owned(),
                video: SubscribedVideo::Paused(Pause::Bandwidth),
            },
            r#"videoDelivery {"sender":"alice_webcam","paused":"bandwidth"}"#,
        ),
        (
            Notification::LayersWanted {
                layers: vec![LayerDemand {
                    rid: "q".to_owned(),
                    wanted: true,
                }],
            },
            r#"layersWanted {"layers":[{"rid":"q","wanted":true}]}"#,
        ),
        (
            Notification::ActiveSpeakers {
                dominant: Some(user()),
                speaking: vec![user(), "bob".to_owned()],
            },
            r#"activeSpeakers {"dominant":"alice","speaking":["alice","bob"]}"#,
        ),
        (
            Notification::ActiveSpeakers {
                dominant: None,
                speaking: Vec::new(),
            },
            r#"activeSpeakers {"speaking":[]}"#,
        ),
        (
            Notification::RoomClosed {
                room: "lab".to_owned(),
            },
            r#"roomClosed {"room":"lab"}"#,
        ),
        (
            Notification::media_error(&media::ErrorKind::StreamFailed, "no codec", 1),
            r#"mediaError {"error":"STREAM_ERROR_FAILED: no codec(errCode=1)"}"#,
        ),
        (
            Notification::Custom {
                method: "custonNotification".to_owned(),
                params: json!({"MarkerFilterState": -1})
                    .as_object()
                    .cloned()
                    .unwrap(),
            },
            r#"custonNotification {"MarkerFilterState":-1}"#,
        ),
    ];
    for (notification, line) in rows {
        let params = notification.params();
        assert_eq!(format!("{} {params}", notification.method()), line);
        assert_eq!(
            Notification::parse(notification.method(), Some(&params)),
            Ok(notification)
        );
    }
}

#[test]
fn responses_are_written_as_kurento_room_does() {
    use room::protocol::Peer;
    let peers = vec![Peer::new("alice", true), Peer::new("carol", false)];
    let joined = Response::Joined(peers.clone()).to_value();
    assert_eq!(
        joined.to_string(),
        r#"[{"id":"alice","streams":[{"id":"webcam"}]},{"id":"carol"}]"#
    );
    let parsed: Vec<_> = joined
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Peer::parse)
        .collect();
    assert_eq!(parsed, peers);
    let answer = Response::SdpAnswer("v=0\r\n".to_owned()).to_value();
    assert_eq!(answer.to_string(), r#"{"sdpAnswer":"v=0\r\n"}"#);
    assert_eq!(Response::Empty.to_value().to_string(), "{}");
    assert_eq!(
        Response::SdpAnswer(Fake::ANSWER.to_owned()).to_value()["sdpAnswer"],
        Fake::ANSWER
    );
}
