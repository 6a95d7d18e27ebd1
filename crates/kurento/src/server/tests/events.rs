//! What clients are told of media.

use super::*;

#[test]
fn events_go_out_under_every_name_that_was_subscribed() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let endpoint = desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline));
    for name in ["IceCandidateFound", "OnIceCandidate", "OnIceCandidate"] {
        desk.subscribe(connection, &endpoint, name);
    }
    desk.invoke(
        connection,
        &endpoint,
        "addTag",
        json!({ "key": "k", "value": "v" }),
    );
    desk.invoke(
        connection,
        &endpoint,
        "setSendTagsInEvents",
        json!({ "sendTagsInEvents": true }),
    );
    desk.happen(Event::IceCandidateFound(IceCandidate {
        candidate: "candidate:1".to_owned(),
        sdp_mid: "0".to_owned(),
        sdp_m_line_index: 0,
    }));
    let events = desk.events(connection);
    assert_eq!(events.len(), 2);
    for ((kind, data), name) in events.iter().zip(["IceCandidateFound", "OnIceCandidate"]) {
        assert_eq!((kind.as_str(), &data["type"]), (name, &json!(name)));
        assert_eq!(data["tags"][0]["key"], "k");
        assert_eq!(data["candidate"]["__type__"], "IceCandidate");
    }
}

#[test]
fn the_steps_to_a_connected_transport_are_told_in_order() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let endpoint = desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline));
    for name in [
        "MediaSessionStarted",
        "IceComponentStateChanged",
        "DtlsConnectionStateChange",
        "ConnectionStateChanged",
        "MediaStateChanged",
    ] {
        desk.subscribe(connection, &endpoint, name);
    }
    let request = json!({ "jsonrpc": "2.0", "id": "x", "method": "invoke", "params": {
        "object": endpoint, "operation": "processOffer", "operationParams": { "offer": "v=0" },
    } });
    desk.send(connection, &request.to_string());
    for _ in 0..2 {
        desk.happen(Event::MediaStateChanged(MediaState::Connected));
    }
    for (kind, flowing) in [
        (MediaKind::Audio, true),
        (MediaKind::Video, true),
        (MediaKind::Audio, false),
        (MediaKind::Video, false),
    ] {
        desk.happen(Event::MediaFlowInChanged { kind, flowing });
    }
    desk.happen(Event::MediaStateChanged(MediaState::Disconnected));
    let told = desk.events(connection);
    let told: Vec<_> = told
        .iter()
        .map(|(kind, data)| {
            let state = data.get("state").or(data.get("newState"));
            format!(
                "{kind} {}",
                state.and_then(Value::as_str).unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "MediaSessionStarted ",
            "IceComponentStateChanged CONNECTED",
            "DtlsConnectionStateChange CONNECTED",
            "ConnectionStateChanged CONNECTED",
            "IceComponentStateChanged READY",
            "MediaStateChanged CONNECTED",
            "IceComponentStateChanged DISCONNECTED",
            "ConnectionStateChanged DISCONNECTED",
            "MediaStateChanged DISCONNECTED",
        ]
    );
}

#[test]
fn what_failed_is_not_merely_disconnected() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let endpoint = desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline));
    desk.subscribe(connection, &endpoint, "IceComponentStateChanged");
    let state = IceState::Failed;
    desk.happen(Event::IceStateChanged {
        component: 1,
        state,
    });
    desk.happen(Event::MediaStateChanged(MediaState::Disconnected));
    let told = desk.events(connection);
    let states: Vec<_> = told.iter().map(|(_, data)| &data["state"]).collect();
    assert_eq!(states, ["FAILED"]);
    // The peer comes late.
    desk.happen(Event::MediaStateChanged(MediaState::Connected));
    assert_eq!(desk.events(connection)[0].1["state"], "CONNECTED");
}

#[test]
fn media_of_plain_rtp_are_connected_when_the_peer_was_heard() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let endpoint = desk.create(connection, "RtpEndpoint", in_pipeline(&pipeline));
    for name in ["ConnectionStateChanged", "MediaStateChanged"] {
        desk.subscribe(connection, &endpoint, name);
    }
    let offer = json!({ "offer": "v=0" });
    desk.invoke(connection, &endpoint, "processOffer", offer);
    let kinds = |desk: &mut Desk| {
        let events = desk.events(connection).into_iter();
        events.map(|(kind, _)| kind).collect::<Vec<_>>()
    };
    let state = desk.invoke(connection, &endpoint, "getConnectionState", json!({}));
    assert_eq!(state, json!("CONNECTED"));
    let state = desk.invoke(connection, &endpoint, "getMediaState", json!({}));
    assert_eq!(state, json!("DISCONNECTED"));
    desk.happen(Event::MediaStateChanged(MediaState::Connected));
    assert_eq!(kinds(&mut desk), ["MediaStateChanged"]);
    for heard in [true, false, false, true] {
        desk.happen(Event::PeerHeard(heard));
    }
    let told = desk.events(connection).into_iter();
    let states: Vec<_> = told.map(|(_, data)| data["newState"].clone()).collect();
    assert_eq!(states, ["DISCONNECTED", "CONNECTED"]);
}

#[test]
fn candidates_are_shown_as_the_endpoint_was_told_to() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let endpoint = desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline));
    desk.subscribe(connection, &endpoint, "IceCandidateFound");
    for (setter, property, value) in [
        ("setExternalIPv4", "externalIPv4", json!("203.0.113.7")),
        ("setIceTcp", "iceTcp", json!(false)),
    ] {
        desk.invoke(connection, &endpoint, setter, json!({ property: value }));
    }
    for line in [
        "candidate:1 1 UDP 1 10.0.0.1 47111 typ host",
        "candidate:2 1 TCP 1 10.0.0.1 47111 typ host tcptype passive",
    ] {
        desk.happen(Event::IceCandidateFound(IceCandidate {
            candidate: line.to_owned(),
            sdp_mid: "0".to_owned(),
            sdp_m_line_index: 0,
        }));
    }
    let events = desk.events(connection);
    let shown: Vec<_> = events
        .iter()
        .map(|(_, data)| &data["candidate"]["candidate"])
        .collect();
    assert_eq!(shown, ["candidate:1 1 UDP 1 203.0.113.7 47111 typ host"]);
}

#[test]
fn who_wants_to_upload_a_file_is_told_that_it_cannot_be() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let endpoint = desk.create(connection, "HttpPostEndpoint", in_pipeline(&pipeline));
    desk.subscribe(connection, &endpoint, "Error");
    assert!(desk.events(connection).is_empty());
    for id in 0..2 {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": "invoke", "params": {
            "object": endpoint, "operation": "getUrl",
        } });
        desk.send(connection, &request.to_string());
    }
    let told = desk.events(connection);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1["type"], "UNEXPECTED_ELEMENT_ERROR");
}

#[test]
fn a_mixer_that_would_have_to_add_up_voices_says_so_once() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let hub = desk.create(connection, "Mixer", in_pipeline(&pipeline));
    let [ana, bob, sink] =
        [(); 3].map(|()| desk.create(connection, "HubPort", json!({ "hub": hub })));
    desk.subscribe(connection, &sink, "Error");
    let mut ids = 1000;
    let mut route = |desk: &mut Desk, operation: &str, media: &str, source: &str| {
        ids += 1;
        let parameters = json!({ "media": media, "source": source, "sink": sink });
        let request = json!({ "jsonrpc": "2.0", "id": ids, "method": "invoke", "params": {
            "object": hub, "operation": operation, "operationParams": parameters,
        } });
        desk.send(connection, &request.to_string());
        let (events, answers): (Vec<_>, Vec<_>) = desk
            .messages(connection)
            .into_iter()
            .partition(|message| message["method"] == "onEvent");
        assert!(answers[0].get("error").is_none(), "{answers:?}");
        events
    };
    // Video is chosen and not mixed, and one voice needs no mixing.
    for (media, source) in [
        ("VIDEO", &ana),
        ("VIDEO", &bob),
        ("AUDIO", &ana),
        ("AUDIO", &ana),
    ] {
        assert!(route(&mut desk, "connect", media, source).is_empty());
    }
    let told = route(&mut desk, "connect", "AUDIO", &bob);
    let [told] = &told[..] else {
        panic!("not one event: {told:?}");
    };
    let data = &told["params"]["value"]["data"];
    assert_eq!(data["type"], "UNEXPECTED_ELEMENT_ERROR");
    assert_eq!(
        data["description"],
        "Mixer mixing requires transcoding, not available: this port gets the last source only"
    );
    assert_eq!(data["source"], sink);
    for (operation, source) in [
        ("connect", &ana),
        ("disconnect", &bob),
        ("disconnect", &ana),
    ] {
        assert!(route(&mut desk, operation, "AUDIO", source).is_empty());
    }
}

/// A mixer with ports, and what its sink gets by the calls of the media server.
struct Mixing {
    desk: Desk,
    connection: ConnectionId,
    hub: String,
    ports: Vec<String>,
}

impl Mixing {
    /// The last of `ports` is the sink.
    fn new(ports: usize) -> Self {
        let mut desk = Desk::new();
        let connection = desk.open();
        let pipeline = desk.create(connection, "MediaPipeline", json!({}));
        let hub = desk.create(connection, "Mixer", in_pipeline(&pipeline));
        let port = |_| desk.create(connection, "HubPort", json!({ "hub": hub }));
        let ports = (0..ports).map(port).collect();
        Self {
            desk,
            connection,
            hub,
            ports,
        }
    }

    /// The code of the refusal, if it is one.
    fn ask(&mut self, operation: &str, source: usize) -> Option<i64> {
        let parameters =
            json!({ "media": "AUDIO", "source": self.ports[source], "sink": self.ports.last() });
        let params = json!({
            "object": self.hub, "operation": operation, "operationParams": parameters,
        });
        let answer = self.desk.ask(self.connection, "invoke", params);
        answer["error"]["code"].as_i64()
    }

    fn release(&mut self, port: usize) {
        let params = json!({ "object": self.ports[port] });
        let answer = self.desk.ask(self.connection, "release", params);
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// The port that is heard. By the media server's calls: what was connected last is, unless it was disconnected.
    fn heard(&self) -> Option<usize> {
        let index = |element: &ElementId| {
            let objects = &self.desk.server.objects;
            let is_it = |port: &String| {
                let key = objects.find(port).ok();
                let port = key.and_then(|key| objects.get(key));
                port.and_then(|port| port.input()) == Some(element)
            };
            self.ports.iter().position(is_it)
        };
        let calls = self.desk.calls.iter();
        let heard = calls.fold(None, |heard, call| match call {
            Call::Connect { source, .. } => Some(source),
            Call::Disconnect { .. } => None,
            _ => heard,
        });
        heard.and_then(index)
    }
}

#[test]
fn a_mixer_gives_the_last_source_that_is_still_connected() {
    let mut mixing = Mixing::new(4);
    assert_eq!(mixing.ask("disconnect", 0), Some(40004), "it never was");
    for source in 0..3 {
        assert_eq!(mixing.ask("connect", source), None);
        assert_eq!(mixing.heard(), Some(source));
    }
    // One that is not heard leaves the others as they are.
    assert_eq!(mixing.ask("disconnect", 0), None);
    assert_eq!(mixing.heard(), Some(2));
    assert_eq!(
        mixing.ask("disconnect", 0),
        Some(40004),
        "it is not any more"
    );
    assert_eq!(mixing.ask("disconnect", 2), None);
    assert_eq!(mixing.heard(), Some(1));
    // So does the release of one that is heard.
    assert_eq!(mixing.ask("connect", 0), None);
    mixing.release(0);
    assert_eq!(mixing.heard(), Some(1));
    assert_eq!(mixing.ask("disconnect", 1), None);
    assert_eq!(mixing.heard(), None);
    assert_eq!(mixing.ask("disconnect", 1), Some(40004));
}

#[test]
fn a_mixer_gives_another_source_when_the_next_one_goes_meanwhile() {
    let mut mixing = Mixing::new(4);
    for source in 0..3 {
        assert_eq!(mixing.ask("connect", source), None);
    }
    mixing.desk.holds = true;
    let parameters =
        json!({ "media": "AUDIO", "source": mixing.ports[2], "sink": mixing.ports[3] });
    let request = json!({ "jsonrpc": "2.0", "id": 1000, "method": "invoke", "params": {
        "object": mixing.hub, "operation": "disconnect", "operationParams": parameters,
    } });
    mixing.desk.send(mixing.connection, &request.to_string());
    // A connection has one request under way.
    let hub = mixing.connection;
    mixing.connection = mixing.desk.open();
    mixing.release(1);
    mixing.connection = hub;
    mixing.desk.release_held();
    let answers = mixing.desk.messages(hub);
    assert!(answers[0].get("error").is_none(), "{answers:?}");
    assert_eq!(mixing.heard(), Some(0));
}

#[test]
fn what_a_mixer_would_add_up_is_bounded() {
    let mut mixing = Mixing::new(hubs::SOUNDS_PER_SINK_MAX + 2);
    for source in 0..hubs::SOUNDS_PER_SINK_MAX {
        assert_eq!(mixing.ask("connect", source), None);
    }
    assert_eq!(
        mixing.ask("connect", hubs::SOUNDS_PER_SINK_MAX),
        Some(40009)
    );
    // Who is connected may be so again, and who goes makes room.
    assert_eq!(mixing.ask("connect", 0), None);
    mixing.release(1);
    assert_eq!(mixing.ask("connect", hubs::SOUNDS_PER_SINK_MAX), None);
    assert_eq!(mixing.heard(), Some(hubs::SOUNDS_PER_SINK_MAX));
}

#[test]
fn what_is_left_of_a_mixer_does_not_outlive_its_ports() {
    let mut mixing = Mixing::new(3);
    for source in [0, 1] {
        assert_eq!(mixing.ask("connect", source), None);
    }
    mixing.release(2);
    assert!(mixing.desk.server.objects.wires.sounds.is_empty());
    assert!(mixing.desk.server.objects.wires.routes.is_empty());
}

#[test]
fn flows_are_told_along_connections_and_hubs() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let filter = json!({ "mediaPipeline": pipeline });
    let filter = desk.create(connection, "FaceOverlayFilter", filter);
    let hub = desk.create(connection, "DispatcherOneToMany", in_pipeline(&pipeline));
    let source = desk.create(connection, "HubPort", json!({ "hub": hub }));
    let viewer = desk.create(connection, "PassThrough", in_pipeline(&pipeline));
    desk.invoke(connection, &hub, "setSource", json!({ "source": source }));
    let sink = desk.create(connection, "HubPort", json!({ "hub": hub }));
    let endpoint = desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline));
    for (from, to) in [
        (&endpoint, &filter),
        (&filter, &source),
        (&sink, &viewer),
        (&viewer, &viewer),
        (&sink, &viewer),
    ] {
        let linked = desk.invoke(connection, from, "connect", json!({ "sink": to }));
        assert_eq!(linked, Value::Null);
    }
    desk.subscribe(connection, &viewer, "MediaFlowInStateChanged");
    desk.subscribe(connection, &filter, "Error");
    let flow = |flowing| Event::MediaFlowInChanged {
        kind: MediaKind::Video,
        flowing,
    };
    desk.happen(flow(true));
    let events = desk.events(connection);
    let kinds: Vec<_> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["MediaFlowInStateChanged", "Error"]);
    let video = json!({ "mediaType": "VIDEO" });
    assert_eq!(
        desk.invoke(connection, &viewer, "isMediaFlowingIn", video.clone()),
        json!(true)
    );
    assert_eq!(
        desk.invoke(connection, &endpoint, "isMediaFlowingOut", video),
        json!(true)
    );
    desk.invoke(connection, &hub, "removeSource", json!({}));
    desk.invoke(connection, &hub, "setSource", json!({ "source": source }));
    let request =
        json!({ "jsonrpc": "2.0", "id": "x", "method": "release", "params": { "object": source } });
    desk.send(connection, &request.to_string());
    let states: Vec<_> = desk
        .events(connection)
        .into_iter()
        .map(|(_, data)| data["state"].clone())
        .collect();
    assert_eq!(states.last(), Some(&json!("NOT_FLOWING")));
}

#[test]
fn what_waits_for_a_transport_follows_negotiation() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let endpoint = desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline));
    let candidate = |index: u16, mid: &str| {
        json!({ "candidate": {
            "candidate": "candidate:1 1 UDP 1 192.0.2.1 1 typ host", "sdpMid": mid, "sdpMLineIndex": index,
        } })
    };
    desk.invoke(connection, &endpoint, "gatherCandidates", json!({}));
    desk.invoke(connection, &endpoint, "addIceCandidate", candidate(0, "0"));
    desk.calls.clear();
    desk.invoke(
        connection,
        &endpoint,
        "processOffer",
        json!({ "offer": "v=0" }),
    );
    let calls: Vec<_> = desk.calls.iter().map(|call| format!("{call:?}")).collect();
    for (call, name) in calls.iter().zip([
        "SetBandwidth",
        "ProcessOffer",
        "GatherCandidates",
        "AddIceCandidate",
    ]) {
        assert!(call.starts_with(name), "{call} is not {name}");
    }
    for (index, mid, code) in [
        (0, "", Value::Null),
        (9, "0", Value::Null),
        (9, "x", json!(40401)),
    ] {
        let added = desk.invoke(
            connection,
            &endpoint,
            "addIceCandidate",
            candidate(index, mid),
        );
        assert_eq!(added, code);
    }
    let again = desk.invoke(
        connection,
        &endpoint,
        "processOffer",
        json!({ "offer": "v=0" }),
    );
    assert_eq!(again, json!(40208));
}

#[test]
fn one_way_endpoints_offer_one_way() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let parameters = json!({ "mediaPipeline": pipeline, "sendonly": true });
    let endpoint = desk.create(connection, "WebRtcEndpoint", parameters);
    let offer = desk.invoke(connection, &endpoint, "generateOffer", json!({}));
    assert!(offer.as_str().unwrap().contains("a=sendonly"));
}

#[test]
fn send_bandwidths_stay_on_their_sides() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let endpoint = desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline));
    for (property, set, stored) in [
        ("MaxVideoSendBandwidth", 50, 100),
        ("MaxVideoSendBandwidth", 300, 300),
        ("MinVideoSendBandwidth", 400, 300),
        ("MaxVideoSendBandwidth", 0, 0),
        ("MinVideoSendBandwidth", 400, 400),
    ] {
        let mut name = property.to_owned();
        name.replace_range(..1, "m");
        desk.invoke(
            connection,
            &endpoint,
            &format!("set{property}"),
            json!({ name: set }),
        );
        let value = desk.invoke(connection, &endpoint, &format!("get{property}"), json!({}));
        assert_eq!(value, json!(stored), "{property} {set}");
    }
    let Some(Call::SetBandwidth { limits, .. }) = desk.calls.last() else {
        panic!("the media server is not told");
    };
    assert_eq!(
        (limits.max_video_send, limits.min_video_send),
        (None, Some(media::Kilobits(400)))
    );
}
