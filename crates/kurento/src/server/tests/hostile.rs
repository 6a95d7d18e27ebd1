//! Clients that mean harm, or act at random.

use super::*;

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
