//! Players and recorders.

use media::{ErrorKind, FileState, Recording};

use super::*;

struct Bench {
    desk: Desk,
    connection: ConnectionId,
    pipeline: String,
}

impl Bench {
    fn new() -> Self {
        let mut desk = Desk::with(Config {
            default_path: "file:///recordings/".to_owned(),
            ..Config::default()
        });
        let connection = desk.open();
        let pipeline = desk.create(connection, "MediaPipeline", json!({}));
        Self {
            desk,
            connection,
            pipeline,
        }
    }

    fn create(&mut self, class: &str, mut parameters: Value) -> String {
        parameters["mediaPipeline"] = self.pipeline.clone().into();
        self.desk.create(self.connection, class, parameters)
    }

    fn invoke(&mut self, object: &str, operation: &str, parameters: Value) -> Value {
        self.desk
            .invoke(self.connection, object, operation, parameters)
    }

    fn happen(&mut self, event: Event) {
        self.desk.happen(event);
    }

    /// The types of the events that wait, with the states that they tell.
    fn events(&mut self) -> Vec<String> {
        let events = self.desk.events(self.connection).into_iter();
        events
            .map(|(kind, data)| match data["state"].as_str() {
                Some(state) => format!("{kind} {state}"),
                None => kind,
            })
            .collect()
    }

    /// Operations that the media server was asked for.
    fn operations(&self) -> Vec<&'static str> {
        let calls = self.desk.calls.iter();
        calls
            .filter_map(|call| match call {
                Call::Invoke { operation, .. } | Call::Query { operation, .. } => Some(*operation),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn files_are_named_and_made_as_the_media_server_needs_them() {
    let mut bench = Bench::new();
    for (class, given, uri, profile) in [
        (
            "RecorderEndpoint",
            json!({ "uri": "a%2Fb.webm", "mediaProfile": "MKV_VIDEO_ONLY" }),
            "file:///recordings/a/b.webm",
            Some("MKV_VIDEO_ONLY"),
        ),
        (
            "RecorderEndpoint",
            json!({ "uri": "file:///x.webm" }),
            "file:///x.webm",
            Some("WEBM"),
        ),
        (
            "PlayerEndpoint",
            json!({ "uri": "http://host/x.webm" }),
            "http://host/x.webm",
            None,
        ),
    ] {
        let object = bench.create(class, given);
        assert_eq!(bench.invoke(&object, "getUri", json!({})), json!(uri));
        assert_eq!(bench.invoke(&object, "getState", json!({})), json!("STOP"));
        let made = bench.desk.calls.iter().rev().find_map(|call| match call {
            Call::CreateCustomElement {
                class, parameters, ..
            } => Some((*class, parameters.clone())),
            _ => None,
        });
        let text = |text: &str| Parameter::Text(text.to_owned());
        let mut parameters = media::Parameters::new();
        parameters.insert("uri".to_owned(), text(uri));
        if let Some(profile) = profile {
            parameters.insert("mediaProfile".to_owned(), text(profile));
        }
        assert_eq!(made, Some((class, parameters)));
    }
}

#[test]
fn recorders_tell_their_state_and_what_they_write() {
    let mut bench = Bench::new();
    let recorder = bench.create("RecorderEndpoint", json!({ "uri": "x.webm" }));
    for event in [
        "UriEndpointStateChanged",
        "Recording",
        "Paused",
        "Stopped",
        "Error",
    ] {
        bench.desk.subscribe(bench.connection, &recorder, event);
    }
    for operation in ["record", "pause", "record", "stop", "stopAndWait"] {
        assert_eq!(bench.invoke(&recorder, operation, json!({})), Value::Null);
    }
    assert_eq!(
        bench.operations(),
        ["record", "pause", "record", "stop", "stopAndWait"]
    );
    for event in [
        Event::FileStateChanged(FileState::Started),
        Event::RecordingChanged(Recording::Active),
        Event::FileStateChanged(FileState::Paused),
        Event::RecordingChanged(Recording::Paused),
    ] {
        bench.happen(event);
    }
    assert_eq!(
        bench.events(),
        [
            "UriEndpointStateChanged START",
            "Recording",
            "UriEndpointStateChanged PAUSE",
            "Paused"
        ]
    );
    assert_eq!(
        bench.invoke(&recorder, "getState", json!({})),
        json!("PAUSE")
    );
    bench.happen(Event::Error {
        kind: ErrorKind::Other("RESOURCE_ERROR_OPEN".to_owned()),
        description: "no directory".to_owned(),
        code: 6,
    });
    bench.happen(Event::FileStateChanged(FileState::Stopped));
    bench.happen(Event::FileStateChanged(FileState::Stopped));
    bench.happen(Event::RecordingChanged(Recording::Stopped));
    let told = bench.desk.events(bench.connection);
    let (kind, error) = &told[0];
    assert_eq!(kind, "Error");
    assert_eq!(error["type"], "RESOURCE_ERROR_OPEN");
    assert_eq!(error["errorCode"], 6);
    let kinds: Vec<_> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["Error", "UriEndpointStateChanged", "Stopped"]);
}

#[test]
fn players_are_asked_where_they_are_and_sent_elsewhere() {
    let mut bench = Bench::new();
    let player = bench.create("PlayerEndpoint", json!({ "uri": "x.webm" }));
    let viewer = bench.create("PassThrough", json!({}));
    let sink = json!({ "sink": viewer });
    bench.invoke(&player, "connect", sink);
    assert_eq!(bench.invoke(&player, "getPosition", json!({})), json!(700));
    let info = bench.invoke(&player, "getVideoInfo", json!({}));
    assert_eq!(info["duration"], 3000);
    assert_eq!(info["isSeekable"], true);
    let position = json!({ "position": 1200 });
    assert_eq!(bench.invoke(&player, "setPosition", position), Value::Null);
    assert!(bench.desk.calls.iter().any(|call| matches!(
        call,
        Call::Invoke { operation: "setPosition", parameters, .. }
            if parameters.get("position") == Some(&Parameter::Integer(1200))
    )));
    assert_eq!(
        bench.operations(),
        ["getPosition", "getVideoInfo", "setPosition"]
    );

    bench.desk.holds = true;
    let request = json!({ "jsonrpc": "2.0", "id": "seek", "method": "invoke", "params": {
        "object": player, "operation": "setPosition", "operationParams": { "position": -1 },
    } });
    bench.desk.send(bench.connection, &request.to_string());
    let job = bench.desk.held.pop().unwrap().job;
    let refused = media::Error::Refused {
        code: 40_700,
        kind: "PLAYER_SEEK_FAIL".to_owned(),
        message: "Seek fails".to_owned(),
    };
    let now = bench.desk.now;
    bench
        .desk
        .server
        .handle_replies(now, job, vec![Err(refused)]);
    let answer = bench.desk.messages(bench.connection).remove(0);
    assert_eq!(answer["error"]["code"], 40_700);
    assert_eq!(answer["error"]["data"]["type"], "PLAYER_SEEK_FAIL");
    assert_eq!(answer["error"]["message"], "Seek fails");
}

#[test]
fn media_of_a_player_flow_to_its_viewers() {
    let mut bench = Bench::new();
    let viewer = bench.create("PassThrough", json!({}));
    let player = bench.create("PlayerEndpoint", json!({ "uri": "x.webm" }));
    bench.invoke(&player, "connect", json!({ "sink": viewer }));
    for (object, event) in [
        (&player, "MediaFlowOutStateChanged"),
        (&viewer, "MediaFlowInStateChanged"),
    ] {
        bench.desk.subscribe(bench.connection, object, event);
    }
    let flow = |flowing| Event::MediaFlowInChanged {
        kind: MediaKind::Audio,
        flowing,
    };
    bench.happen(flow(true));
    bench.happen(flow(false));
    let events = bench.events();
    assert!(events.contains(&"MediaFlowOutStateChanged FLOWING".to_owned()));
    assert!(events.contains(&"MediaFlowInStateChanged FLOWING".to_owned()));
    assert!(events.contains(&"MediaFlowOutStateChanged NOT_FLOWING".to_owned()));
}

#[test]
fn recorders_stop_at_the_end_of_a_player_if_they_were_made_to() {
    for (stops, expected) in [(true, vec!["record", "stop"]), (false, vec!["record"])] {
        let mut bench = Bench::new();
        let options = json!({ "uri": "y.webm", "stopOnEndOfStream": stops });
        let recorder = bench.create("RecorderEndpoint", options);
        bench.invoke(&recorder, "record", json!({}));
        let player = bench.create("PlayerEndpoint", json!({ "uri": "x.webm" }));
        bench.invoke(&player, "connect", json!({ "sink": recorder }));
        bench
            .desk
            .subscribe(bench.connection, &player, "EndOfStream");
        bench.happen(Event::EndOfStream);
        assert_eq!(bench.operations(), expected);
        assert_eq!(bench.events(), ["EndOfStream"]);
    }
}

#[test]
fn a_recording_is_complete_before_its_release_is_answered() {
    let mut bench = Bench::new();
    let recorder = bench.create("RecorderEndpoint", json!({ "uri": "x.webm" }));
    bench.invoke(&recorder, "record", json!({}));
    bench.desk.subscribe(bench.connection, &recorder, "Stopped");
    bench.desk.holds = true;
    let pipeline = bench.pipeline.clone();
    let request = json!({ "jsonrpc": "2.0", "id": "end", "method": "release",
        "params": { "object": pipeline } });
    bench.desk.send(bench.connection, &request.to_string());
    assert!(bench.desk.messages(bench.connection).is_empty());
    let released = bench.desk.released;

    bench.happen(Event::RecordingChanged(Recording::Stopped));
    bench.desk.release_held();

    let messages = bench.desk.messages(bench.connection);
    let events = messages.iter().filter(|it| it["method"] == "onEvent");
    assert_eq!(events.count(), 1, "Stopped is still told");
    assert_eq!(messages.last().unwrap()["id"], "end");
    assert_eq!(bench.operations(), ["record", "stopAndWait"]);
    assert_eq!(bench.desk.released, released + 2);
}
