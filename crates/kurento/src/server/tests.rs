//! The state machine alone: frames in, frames out, in simulated time.

use media::{ElementId, Event, IceCandidate, MediaKind, MediaState, PipelineId};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PERIOD: Duration = Duration::from_secs(240);

/// A server over a media server that agrees to everything at once, and remembers what it was asked.
struct Desk {
    server: Server,
    now: Instant,
    calls: Vec<Call>,
    released: usize,
    /// Calls are not made while it is set.
    holds: bool,
    held: Vec<Work>,
    made: u64,
    ids: u64,
}

impl Desk {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let now = Instant::now();
        Self {
            server: Server::new(config, now, Duration::from_secs(1_700_000_000)),
            now,
            calls: Vec::new(),
            released: 0,
            holds: false,
            held: Vec::new(),
            made: 0,
            ids: 0,
        }
    }

    fn open(&mut self) -> ConnectionId {
        self.server.handle_opened(self.now).unwrap()
    }

    fn send(&mut self, connection: ConnectionId, text: &str) {
        let frame = ClientFrame::parse(text);
        self.server.handle_frame(self.now, connection, frame);
        self.act();
    }

    fn act(&mut self) {
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Transmit(_) => {}
                Effect::ReleaseElement(_) | Effect::ReleasePipeline(_) => self.released += 1,
                Effect::Work(work) if self.holds => self.held.push(work),
                Effect::Work(work) => self.work(work),
            }
        }
    }

    fn work(&mut self, work: Work) {
        let replies = work.calls.iter().map(|call| Ok(self.reply(call))).collect();
        self.calls.extend(work.calls);
        self.server.handle_replies(self.now, work.job, replies);
    }

    fn reply(&mut self, call: &Call) -> Reply {
        self.made += 1;
        match call {
            Call::CreatePipeline { .. } => Reply::Pipeline(PipelineId::new(self.made.to_string())),
            Call::CreateElement { .. } => Reply::Element(ElementId::new(self.made.to_string())),
            Call::ProcessOffer { .. } | Call::GenerateOffer { .. } | Call::ProcessAnswer { .. } => {
                Reply::Text("v=0\r\nm=audio 9 X 0\r\na=mid:0\r\na=sendrecv\r\n".to_owned())
            }
            Call::Stats { .. } => Reply::Stats(Vec::new()),
            Call::MeasureCpu { .. } => Reply::CpuPercent(1.5),
            Call::MeasureMemory => Reply::MemoryKib(7),
            _ => Reply::Nothing,
        }
    }

    fn release_held(&mut self) {
        self.holds = false;
        for work in std::mem::take(&mut self.held) {
            self.work(work);
        }
        self.act();
    }

    /// Every message that waits for a connection.
    fn messages(&mut self, connection: ConnectionId) -> Vec<Value> {
        let server = &mut self.server;
        let outgoing = std::iter::from_fn(|| server.poll_transmit(connection));
        outgoing
            .map(|outgoing| match outgoing {
                Outgoing::Text(text) => serde_json::from_str(&text).unwrap(),
                Outgoing::Close(close) => json!({ "close": close.code }),
            })
            .collect()
    }

    fn ask(&mut self, connection: ConnectionId, method: &str, params: Value) -> Value {
        self.ids += 1;
        let request =
            json!({ "jsonrpc": "2.0", "id": self.ids, "method": method, "params": params });
        self.send(connection, &request.to_string());
        let messages = self.messages(connection);
        let mut answers = messages.into_iter().filter(|m| m["method"].is_null());
        answers.next().expect("every request is answered")
    }

    fn create(&mut self, connection: ConnectionId, class: &str, parameters: Value) -> String {
        let params = json!({ "type": class, "constructorParams": parameters });
        let answer = self.ask(connection, "create", params);
        let id = answer["result"]["value"].as_str();
        id.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    fn invoke(
        &mut self,
        connection: ConnectionId,
        object: &str,
        operation: &str,
        parameters: Value,
    ) -> Value {
        let params = json!({
            "object": object, "operation": operation, "operationParams": parameters,
        });
        let mut answer = self.ask(connection, "invoke", params);
        match answer.get("error") {
            Some(error) => error["code"].clone(),
            None => answer["result"]["value"].take(),
        }
    }

    fn subscribe(&mut self, connection: ConnectionId, object: &str, event: &str) -> Value {
        self.ask(
            connection,
            "subscribe",
            json!({ "object": object, "type": event }),
        )
    }

    fn events(&mut self, connection: ConnectionId) -> Vec<(String, Value)> {
        let messages = self.messages(connection).into_iter();
        let events = messages.filter(|message| message["method"] == "onEvent");
        events
            .map(|mut event| {
                let event = &mut event["params"]["value"];
                (
                    event["type"].as_str().unwrap().to_owned(),
                    event["data"].take(),
                )
            })
            .collect()
    }

    fn sleep(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.server.poll_timeout() <= end {
            self.now = self.server.poll_timeout();
            self.server.handle_timeout(self.now);
            self.act();
        }
        self.now = end;
    }

    /// Something happens to the object that was created last.
    fn happen(&mut self, event: Event) {
        let key = self.calls.iter().rev().find_map(|call| match call {
            Call::CreateElement { object, .. } => Some(*object),
            _ => None,
        });
        self.server
            .handle_media_event(self.now, key.unwrap(), event);
        self.act();
    }
}

fn in_pipeline(pipeline: &str) -> Value {
    json!({ "mediaPipeline": pipeline })
}

#[test]
fn bad_input_is_refused_with_the_codes_of_the_protocol() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let element = desk.create(connection, "PassThrough", in_pipeline(&pipeline));
    let hub = desk.create(connection, "Dispatcher", in_pipeline(&pipeline));
    let port = desk.create(connection, "HubPort", json!({ "hub": hub }));
    let web = desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline));
    let invoke = |object: &str, operation: &str, parameters: Value| json!({ "object": object, "operation": operation, "operationParams": parameters });
    let create =
        |class: &str, parameters: Value| json!({ "type": class, "constructorParams": parameters });
    let transact = |operations: Value| json!({ "operations": operations });
    let operation = |id: i64, params: Value| json!({ "jsonrpc": "2.0", "id": id, "method": "release", "params": params });
    let table = [
        ("nope", json!({}), -32601, "Method not found."),
        (
            "ping",
            json!([1]),
            -32603,
            "Unexpected error while processing method: 'params' should be an object",
        ),
        (
            "invoke",
            json!("x"),
            -32603,
            "Unexpected error while processing method: 'params' should be an object",
        ),
        ("create", json!({}), -32000, "'type' parameter is required"),
        (
            "create",
            json!({ "type": [] }),
            -32000,
            "'type' parameter should be a string",
        ),
        (
            "create",
            json!({ "type": null }),
            40108,
            "Factory '' not found",
        ),
        (
            "create",
            json!({ "type": 5 }),
            40108,
            "Factory '5' not found",
        ),
        (
            "create",
            create("ServerManager", json!({})),
            40108,
            "Factory 'ServerManager' not found",
        ),
        (
            "create",
            json!({ "type": "PassThrough" }),
            40001,
            "'constructorParams' is required",
        ),
        (
            "create",
            create("PassThrough", json!([])),
            40001,
            "'constructorParams' should be an object",
        ),
        (
            "create",
            create("MediaPipeline", json!("x")),
            40001,
            "'constructorParams' should be an object",
        ),
        (
            "create",
            create("PassThrough", json!({})),
            40001,
            "'mediaPipeline' parameter should be a string",
        ),
        (
            "create",
            create("PassThrough", in_pipeline("x")),
            40101,
            "Object 'x' not found",
        ),
        (
            "create",
            create("PassThrough", in_pipeline(&element)),
            40001,
            "'mediaPipeline' parameter should be a MediaPipeline",
        ),
        (
            "create",
            create("PassThrough", in_pipeline("manager_ServerManager")),
            40001,
            "'mediaPipeline' parameter should be a MediaPipeline",
        ),
        (
            "create",
            create("HubPort", json!({ "hub": pipeline })),
            40001,
            "'hub' parameter should be a Hub",
        ),
        (
            "create",
            create(
                "RecorderEndpoint",
                json!({ "mediaPipeline": pipeline, "uri": "x", "mediaProfile": "KURENTO_SPLIT_RECORDER" }),
            ),
            40107,
            "Kurento Split Recorder not supported",
        ),
        (
            "create",
            create(
                "RtpEndpoint",
                json!({ "mediaPipeline": pipeline, "crypto": { "keyBase64": "?" } }),
            ),
            40107,
            "Master key is not valid Base64",
        ),
        (
            "invoke",
            json!({}),
            -32000,
            "'operation' parameter is required",
        ),
        (
            "invoke",
            json!({ "operation": "getName" }),
            -32000,
            "'object' parameter is required",
        ),
        (
            "invoke",
            json!({ "object": {}, "operation": "x" }),
            -32000,
            "'object' parameter should be a string",
        ),
        (
            "invoke",
            invoke("nope", "getName", json!({})),
            40101,
            "Object 'nope' not found",
        ),
        (
            "invoke",
            invoke(&element, "nope", json!({ "a": 1 })),
            40008,
            "Method 'nope' with 1 parameters not found",
        ),
        (
            "invoke",
            invoke("newref:0", "getName", json!({})),
            40109,
            "Object 'newref:0' not found. Possibly using a transactional object without committing the transaction.",
        ),
        (
            "invoke",
            invoke(&element, "connect", json!({ "sink": pipeline })),
            40001,
            "'sink' parameter should be a MediaElement",
        ),
        (
            "invoke",
            invoke(&element, "disconnect", json!({ "sink": pipeline })),
            40001,
            "'sink' parameter should be a MediaElement",
        ),
        (
            "invoke",
            invoke(&hub, "connect", json!({ "source": port, "sink": element })),
            40001,
            "'sink' parameter should be a HubPort",
        ),
        (
            "invoke",
            invoke(&element, "getTag", json!({ "key": "x" })),
            40110,
            "Tag key not found",
        ),
        (
            "invoke",
            invoke(&element, "isMediaFlowingIn", json!({ "mediaType": "DATA" })),
            40107,
            "Media type DATA is not supported",
        ),
        (
            "invoke",
            invoke(
                "manager_ServerManager",
                "getKmd",
                json!({ "moduleName": "x" }),
            ),
            40500,
            "Requested kmd module doesn't exist",
        ),
        (
            "invoke",
            invoke(&web, "processOffer", json!({ "offer": "" })),
            40201,
            "Empty offer not valid",
        ),
        (
            "invoke",
            invoke(&web, "processOffer", json!({ "offer": "x" })),
            40201,
            "Invalid SDP",
        ),
        (
            "invoke",
            invoke(&web, "processAnswer", json!({ "answer": "v=0" })),
            40209,
            "Offer not generated. It is not possible to process an answer.",
        ),
        (
            "invoke",
            invoke(&web, "getLocalSessionDescriptor", json!({})),
            40202,
            "No local SDP",
        ),
        (
            "invoke",
            invoke(&web, "getRemoteSessionDescriptor", json!({})),
            40203,
            "No remote SDP",
        ),
        (
            "invoke",
            invoke(&web, "createDataChannel", json!({})),
            40111,
            "Data channels are not supported",
        ),
        (
            "invoke",
            invoke(&web, "requestKeyframe", json!({})),
            40111,
            "Keyframe request failed (must be requested from a subscriber element)",
        ),
        (
            "subscribe",
            json!({ "object": element }),
            -32000,
            "'type' parameter is required",
        ),
        (
            "subscribe",
            json!({ "object": element, "type": "Nope" }),
            40106,
            "Event 'Nope' not supported",
        ),
        (
            "subscribe",
            json!({ "object": "x", "type": "Error" }),
            40101,
            "Object 'x' not found",
        ),
        (
            "describe",
            json!({}),
            -32000,
            "'object' parameter is required",
        ),
        (
            "ref",
            json!({ "object": "x" }),
            40101,
            "Object 'x' not found",
        ),
        (
            "unsubscribe",
            json!({ "object": "x" }),
            -32000,
            "'subscription' parameter is required",
        ),
        (
            "connect",
            json!({ "sessionId": "nobody's" }),
            40007,
            "Invalid session",
        ),
        (
            "keepAlive",
            json!({ "sessionId": "nobody's" }),
            40007,
            "Invalid session",
        ),
        (
            "ping",
            json!({ "sessionId": "x".repeat(300) }),
            -32000,
            "'sessionId' parameter is too long",
        ),
        (
            "transaction",
            json!({}),
            -32000,
            "'operations' parameter is required",
        ),
        (
            "transaction",
            transact(json!({})),
            -32000,
            "'operations' parameter should be an array",
        ),
        (
            "transaction",
            transact(json!([operation(5, json!({}))])),
            40008,
            "Id of request '0' should be '0'",
        ),
        (
            "transaction",
            transact(json!([operation(0, json!({ "object": "newref:x" }))])),
            40008,
            "Invalid index of newref 'x'",
        ),
        (
            "transaction",
            transact(json!([operation(0, json!({ "object": "newref:7" }))])),
            40008,
            "Result not found on request 7",
        ),
    ];
    for (method, params, code, message) in table {
        let answer = desk.ask(connection, method, params.clone());
        let error = &answer["error"];
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!(code), &json!(message)),
            "{params}"
        );
        assert_eq!(error.get("data").is_some(), code > 0, "{error}");
        assert_eq!(answer.get("result"), None);
    }
}

#[test]
fn unreadable_frames_are_answered_without_an_id() {
    let mut desk = Desk::new();
    let connection = desk.open();
    for (text, code) in [("x", -32700), ("[]", -32600), (r#"{"id":1}"#, -32600)] {
        desk.send(connection, text);
        let messages = desk.messages(connection);
        assert_eq!(messages[0]["error"]["code"], code);
        assert_eq!(messages[0]["id"], Value::Null);
    }
}

#[test]
fn notifications_run_and_their_results_are_not_results() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let text = r#"{"jsonrpc":"2.0","method":"create","params":{"type":"MediaPipeline"}}"#;
    desk.send(connection, text);
    let message = &desk.messages(connection)[0];
    assert_eq!(message["id"], Value::Null);
    assert_eq!(message["error"]["code"], -32000);
    assert_eq!(desk.server.objects(), 2);
}

#[test]
fn the_session_of_the_connection_is_added_to_requests() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pong = desk.ask(connection, "ping", json!({}));
    assert_eq!(pong["result"], json!({ "value": "pong" }));
    let manager = json!({ "object": "manager_ServerManager" });
    let session = desk.ask(connection, "describe", manager)["result"]["sessionId"].clone();
    let created = desk.ask(connection, "create", json!({ "type": "MediaPipeline" }));
    assert_eq!(created["result"]["sessionId"], session);
    for params in [Value::Null, json!({}), json!({ "sessionId": {} })] {
        let pong = desk.ask(connection, "ping", params);
        assert_eq!(pong["result"]["sessionId"], session);
    }
}

#[test]
fn sessions_without_a_connection_die_after_one_to_two_periods() {
    let mut desk = Desk::new();
    let (watcher, connection) = (desk.open(), desk.open());
    desk.subscribe(watcher, "manager_ServerManager", "ObjectDestroyed");
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    desk.create(connection, "PassThrough", in_pipeline(&pipeline));
    desk.sleep(PERIOD * 3);
    assert_eq!(
        desk.server.objects(),
        3,
        "an open connection keeps its session"
    );
    desk.server.handle_closed(desk.now, connection);
    desk.sleep(PERIOD - Duration::from_secs(1));
    assert_eq!(desk.server.objects(), 3);
    desk.sleep(PERIOD + Duration::from_secs(1));
    assert_eq!(desk.server.objects(), 1);
    let destroyed: Vec<_> = desk
        .events(watcher)
        .into_iter()
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(destroyed, ["ObjectDestroyed", "ObjectDestroyed"]);
    assert_eq!((desk.server.sessions(), desk.released), (1, 2));
}

#[test]
fn objects_live_as_long_as_a_session_holds_them() {
    let mut desk = Desk::new();
    let (first, second) = (desk.open(), desk.open());
    let pipeline = desk.create(first, "MediaPipeline", json!({}));
    let element = desk.create(first, "PassThrough", in_pipeline(&pipeline));
    assert_eq!(
        desk.invoke(second, &element, "getId", json!({})),
        json!(element)
    );
    desk.ask(first, "closeSession", json!({}));
    assert_eq!(
        desk.invoke(second, &pipeline, "getId", json!({})),
        json!(pipeline)
    );
    let released = desk.ask(second, "closeSession", json!({ "release": true }));
    assert_eq!(released["result"], Value::Null);
    assert_eq!(desk.server.objects(), 1);
    assert_eq!(
        desk.invoke(second, &element, "getId", json!({})),
        json!(40101)
    );
}

#[test]
fn a_session_goes_on_over_a_new_connection() {
    let mut desk = Desk::new();
    let first = desk.open();
    let pipeline = desk.create(first, "MediaPipeline", json!({}));
    let session = desk.subscribe(first, &pipeline, "Error")["result"]["sessionId"].clone();
    desk.server.handle_closed(desk.now, first);
    let second = desk.open();
    let connected = desk.ask(second, "connect", json!({ "sessionId": session }));
    assert_eq!(connected["result"]["sessionId"], session);
    assert_eq!(connected["result"]["serverId"], json!(desk.server.id));
    let failure = Event::Error {
        kind: media::ErrorKind::StreamFailed,
        description: "broken".to_owned(),
        code: 1,
    };
    let Call::CreatePipeline { object } = desk.calls[0] else {
        panic!("the pipeline was not made first");
    };
    desk.server.handle_media_event(desk.now, object, failure);
    let events = desk.events(second);
    assert_eq!(events[0].1["type"], "STREAM_ERROR_FAILED");
    assert_eq!(events[0].1["timestampMillis"], "1700000000000");
}

#[test]
fn requests_of_a_connection_wait_for_each_other() {
    let mut desk = Desk::new();
    let (slow, other) = (desk.open(), desk.open());
    desk.holds = true;
    desk.send(
        slow,
        r#"{"jsonrpc":"2.0","id":1,"method":"create","params":{"type":"MediaPipeline"}}"#,
    );
    desk.send(slow, r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#);
    assert!(desk.messages(slow).is_empty());
    assert_eq!(
        desk.ask(other, "ping", json!({}))["result"]["value"],
        "pong"
    );
    desk.release_held();
    let ids: Vec<_> = desk
        .messages(slow)
        .iter()
        .map(|m| m["id"].clone())
        .collect();
    assert_eq!(ids, [json!(1), json!(2)]);
}

#[test]
fn a_flood_is_slowed_down_and_then_cut_off() {
    let mut desk = Desk::new();
    let connection = desk.open();
    desk.holds = true;
    desk.send(
        connection,
        r#"{"jsonrpc":"2.0","id":1,"method":"create","params":{"type":"MediaPipeline"}}"#,
    );
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    let mut sent = 0;
    while desk.server.wants_frames(connection) {
        desk.send(connection, ping);
        sent += 1;
        assert!(sent < 1000, "nothing slows the client down");
    }
    for _ in 0..1000 {
        desk.send(connection, ping);
    }
    assert_eq!(desk.messages(connection), [json!({ "close": 1008 })]);
}

#[test]
fn repeated_requests_are_answered_again_and_not_run_again() {
    let mut desk = Desk::new();
    let connection = desk.open();
    desk.ask(
        connection,
        "describe",
        json!({ "object": "manager_ServerManager" }),
    );
    let create =
        r#"{"jsonrpc":"2.0","id":"a","method":"create","params":{"type":"MediaPipeline"}}"#;
    desk.send(connection, create);
    let first = desk.messages(connection);
    desk.send(connection, create);
    assert_eq!(desk.messages(connection), first);
    assert_eq!(desk.server.objects(), 2);
    let other = create.replace("MediaPipeline", "kurento.MediaPipeline");
    desk.send(connection, &other);
    assert_ne!(desk.messages(connection), first);
    desk.sleep(Duration::from_secs(20));
    desk.send(connection, create);
    assert_ne!(desk.messages(connection), first);
    assert_eq!(desk.server.objects(), 4);
}

#[test]
fn a_request_repeated_while_under_way_is_answered_twice_and_run_once() {
    let mut desk = Desk::new();
    let first = desk.open();
    let manager = json!({ "object": "manager_ServerManager" });
    let session = desk.ask(first, "describe", manager)["result"]["sessionId"].clone();
    desk.holds = true;
    let create = json!({
        "jsonrpc": "2.0", "id": 7, "method": "create",
        "params": { "type": "MediaPipeline", "sessionId": session },
    });
    desk.send(first, &create.to_string());
    desk.server.handle_closed(desk.now, first);
    let second = desk.open();
    desk.send(second, &create.to_string());
    desk.release_held();
    assert!(desk.messages(second)[0]["result"]["value"].is_string());
    assert_eq!(desk.server.objects(), 2);
}

#[test]
fn transactions_refer_to_their_own_results_and_stop_at_a_failure() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let operation = |id: i64, method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let operations = json!([
        operation(0, "create", json!({ "type": "MediaPipeline" })),
        operation(
            1,
            "create",
            json!({ "type": "PassThrough", "constructorParams": { "mediaPipeline": "newref:0" } })
        ),
        operation(
            2,
            "invoke",
            json!({ "object": "newref:1", "operation": "getMediaPipeline" })
        ),
        operation(3, "nope", json!({})),
        operation(4, "release", json!({ "object": "newref:0" })),
    ]);
    let answer = desk.ask(
        connection,
        "transaction",
        json!({ "operations": operations }),
    );
    let responses = answer["result"]["value"].as_array().unwrap();
    assert_eq!(responses.len(), 4);
    assert_eq!(
        responses[2]["result"]["value"],
        responses[0]["result"]["value"]
    );
    assert_eq!(responses[3]["error"]["code"], -32601);
    assert_eq!(responses[3]["id"], 3);
    assert_eq!(
        responses[1]["result"]["sessionId"],
        answer["result"]["sessionId"]
    );
    assert_eq!(desk.server.objects(), 3);
}

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
fn subscriptions_are_counted_down_with_their_objects() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let session = desk.subscribe(connection, &pipeline, "Error")["result"]["sessionId"].clone();
    let session: SessionName = session.as_str().unwrap().into();
    for _ in 0..3 {
        let element = desk.create(connection, "PassThrough", in_pipeline(&pipeline));
        desk.subscribe(connection, &element, "Error");
        desk.ask(connection, "release", json!({ "object": element }));
    }
    assert_eq!(
        desk.server
            .sessions
            .get_mut(&session)
            .unwrap()
            .subscriptions,
        1
    );
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
            "MediaStateChanged CONNECTED",
            "IceComponentStateChanged READY",
            "IceComponentStateChanged DISCONNECTED",
            "ConnectionStateChanged DISCONNECTED",
            "MediaStateChanged DISCONNECTED",
        ]
    );
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

#[test]
fn classes_that_need_decoded_media_can_be_refused() {
    let mut desk = Desk::with(Config {
        unsupported: Unsupported::Reject,
        ..Config::default()
    });
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    for class in [
        "GStreamerFilter",
        "ZBarFilter",
        "Composite",
        "AlphaBlending",
    ] {
        let params = json!({ "type": class, "constructorParams": { "mediaPipeline": pipeline } });
        let answer = desk.ask(connection, "create", params);
        assert_eq!(
            answer["error"]["message"],
            format!("Factory '{class}' not found")
        );
    }
    let info = desk.invoke(connection, "manager_ServerManager", "getInfo", json!({}));
    let names: Vec<_> = info["modules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["name"].clone())
        .collect();
    assert_eq!(names, ["core", "elements", "filters"]);
    assert_eq!(info["modules"][2]["factories"], json!([]));
}

#[test]
fn sessions_are_bounded_in_objects_tags_and_subscriptions() {
    let mut desk = Desk::with(Config {
        objects_per_session_max: 5,
        ..Config::default()
    });
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let create = json!({ "type": "PassThrough", "constructorParams": in_pipeline(&pipeline) });
    let mut codes = Vec::new();
    for _ in 0..8 {
        let answer = desk.ask(connection, "create", create.clone());
        codes.push(answer["error"]["code"].clone());
    }
    assert_eq!(codes.last(), Some(&json!(40009)));
    let other = desk.open();
    assert!(
        desk.create(other, "MediaPipeline", json!({}))
            .ends_with("MediaPipeline")
    );
    for (operation, parameters, code) in [
        (
            "setName",
            json!({ "name": "x".repeat(10_000) }),
            json!(40001),
        ),
        (
            "addTag",
            json!({ "key": "k", "value": "x".repeat(2000) }),
            json!(40001),
        ),
    ] {
        assert_eq!(
            desk.invoke(connection, &pipeline, operation, parameters),
            code
        );
    }
    for number in 0..objects::TAGS_MAX {
        let tag = json!({ "key": number, "value": "" });
        assert_eq!(
            desk.invoke(connection, &pipeline, "addTag", tag),
            Value::Null
        );
    }
    let tag = json!({ "key": "one more", "value": "" });
    assert_eq!(
        desk.invoke(connection, &pipeline, "addTag", tag),
        json!(40009)
    );
}

#[test]
fn a_client_that_does_not_read_loses_its_connection_only() {
    let mut desk = Desk::new();
    let (lazy, busy) = (desk.open(), desk.open());
    let manager = "manager_ServerManager";
    desk.subscribe(lazy, manager, "ObjectCreated");
    for number in 0..objects::TAGS_MAX {
        let tag = json!({ "key": number, "value": "x".repeat(1000) });
        desk.invoke(busy, manager, "addTag", tag);
    }
    desk.invoke(
        busy,
        manager,
        "setSendTagsInEvents",
        json!({ "sendTagsInEvents": true }),
    );
    for _ in 0..300 {
        desk.create(busy, "MediaPipeline", json!({}));
    }
    assert_eq!(desk.messages(lazy), [json!({ "close": 1008 })]);
    assert_eq!(desk.server.sessions(), 2);
}

#[test]
fn a_pipeline_released_while_an_element_is_made_takes_it_along() {
    let mut desk = Desk::new();
    let (maker, other) = (desk.open(), desk.open());
    let pipeline = desk.create(maker, "MediaPipeline", json!({}));
    desk.holds = true;
    let create = json!({ "jsonrpc": "2.0", "id": 99, "method": "create", "params": {
        "type": "WebRtcEndpoint", "constructorParams": in_pipeline(&pipeline),
    } });
    desk.send(maker, &create.to_string());
    desk.ask(other, "release", json!({ "object": pipeline }));
    desk.release_held();
    assert_eq!(desk.messages(maker)[0]["error"]["code"], 40101);
    assert_eq!((desk.server.objects(), desk.released), (1, 2));
}

/// Requests of every kind with arguments of every kind, some of which make sense.
fn any_request() -> impl Strategy<Value = String> {
    let methods = prop::sample::select(vec![
        "create",
        "invoke",
        "subscribe",
        "unsubscribe",
        "describe",
        "release",
        "ref",
        "unref",
        "connect",
        "keepAlive",
        "closeSession",
        "transaction",
        "ping",
        "nope",
    ]);
    let operations: Vec<_> = crate::model::Class::all()
        .flat_map(|class| {
            let methods = class.methods.iter().map(|method| method.name.to_owned());
            let getters = class.properties.iter().flat_map(|property| {
                let (first, rest) = property.name.split_at(1);
                ["get", "set"].map(|verb| format!("{verb}{}{rest}", first.to_uppercase()))
            });
            methods.chain(getters).collect::<Vec<_>>()
        })
        .collect();
    let classes: Vec<_> = crate::model::Class::all().map(|class| class.name).collect();
    let object = prop::sample::select(vec![
        "P",
        "W",
        "T",
        "H",
        "Q",
        "manager_ServerManager",
        "x",
        "newref:0",
    ]);
    let value = prop_oneof![
        object.clone().prop_map(|text| json!(text)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<bool>().prop_map(|flag| json!(flag)),
        Just(Value::Null),
        Just(json!("v=0\r\nm=audio 9 X 0\r\n")),
        prop::sample::select(vec!["AUDIO", "VIDEO", "DATA", "VP8"]).prop_map(|text| json!(text)),
        Just(json!({ "candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0 })),
        Just(json!([[], {}])),
    ];
    let name = prop::sample::select(vec![
        "mediaPipeline",
        "hub",
        "sink",
        "source",
        "mediaType",
        "media",
        "key",
        "value",
        "name",
        "offer",
        "answer",
        "candidate",
        "uri",
        "command",
        "caps",
        "port",
        "zOrder",
        "options",
        "channelId",
        "mtu",
        "interval",
        "moduleName",
    ]);
    let arguments = prop::collection::hash_map(name, value, 0..5);
    (
        methods,
        prop::sample::select(operations),
        prop::sample::select(classes),
        object,
        arguments,
        any::<bool>(),
    )
        .prop_map(|(method, operation, class, object, arguments, nested)| {
            let mut params = json!({
                "type": class, "object": object, "operation": operation, "subscription": "x",
                "constructorParams": arguments, "operationParams": arguments,
            });
            if nested {
                let operation =
                    json!({ "jsonrpc": "2.0", "id": 0, "method": method, "params": params });
                params = json!({ "operations": [operation] });
            }
            let method = if nested { "transaction" } else { method };
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_request_is_answered_and_none_does_harm(requests in prop::collection::vec(any_request(), 1..40)) {
        let mut desk = Desk::with(Config { request_cache: false, ..Config::default() });
        let (connection, bystander) = (desk.open(), desk.open());
        let other = desk.create(bystander, "MediaPipeline", json!({}));
        let pipeline = desk.create(connection, "MediaPipeline", json!({}));
        let names = [
            ("\"P\"", pipeline.clone()),
            ("\"W\"", desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline))),
            ("\"T\"", desk.create(connection, "PassThrough", in_pipeline(&pipeline))),
            ("\"H\"", desk.create(connection, "Mixer", in_pipeline(&pipeline))),
        ];
        let port = desk.create(connection, "HubPort", json!({ "hub": names[3].1 }));
        for request in requests {
            let mut request = request.replace("\"Q\"", &json!(port).to_string());
            for (name, id) in &names {
                request = request.replace(name, &json!(id).to_string());
            }
            desk.send(connection, &request);
            let messages = desk.messages(connection);
            let answers = messages.iter().filter(|message| message["method"].is_null());
            prop_assert_eq!(answers.count(), 1, "{} got {:?}", request, messages);
        }
        prop_assert_eq!(desk.invoke(bystander, &other, "getId", json!({})), json!(other));
        desk.server.handle_closed(desk.now, connection);
        desk.server.handle_closed(desk.now, bystander);
        desk.sleep(PERIOD * 2);
        prop_assert_eq!((desk.server.objects(), desk.server.sessions(), desk.server.jobs.len()), (1, 0, 0));
    }
}
