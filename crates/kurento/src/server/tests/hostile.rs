//! Clients that mean harm, or act at random.

use super::*;
use crate::server::sessions::SESSIONS_MAX;

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

/// An operation with a large result, and a parameter that nobody reads.
fn get_tags(object: &str, number: usize, parameter: Value) -> Value {
    json!({
        "jsonrpc": "2.0", "id": number, "method": "invoke",
        "params": { "object": object, "operation": "getTags", "operationParams": { "x": parameter } },
    })
}

#[test]
fn what_a_transaction_multiplies_is_bounded() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    for number in 0..objects::TAGS_MAX {
        let tag = json!({ "key": number, "value": "x".repeat(1000) });
        desk.invoke(connection, &pipeline, "addTag", tag);
    }
    let mut transact = |operations: Value| {
        let answer = desk.ask(
            connection,
            "transaction",
            json!({ "operations": operations }),
        );
        answer["error"]["code"].clone()
    };
    // Few are served, in lists of lists too.
    let references = |count| Value::from(vec!["newref:0"; count]);
    let first = get_tags(&pipeline, 0, Value::Null);
    let some = get_tags(&pipeline, 1, json!([[references(50)]]));
    assert_eq!(transact(json!([first, some])), Value::Null);
    // In one operation, a frame of some megabytes would become tens of gigabytes.
    let many = get_tags(&pipeline, 1, references(300_000));
    assert_eq!(transact(json!([first, many])), json!(40009));
    // In many operations.
    let operations = (0..10_000).map(|number| get_tags(&pipeline, number, Value::Null));
    assert_eq!(transact(operations.collect()), json!(40009));
    let operations = (1..200).map(|number| get_tags(&pipeline, number, references(10)));
    let operations = std::iter::once(first).chain(operations);
    assert_eq!(transact(operations.collect()), json!(40009));
}

#[test]
fn sessions_are_bounded_over_all_connections() {
    let mut desk = Desk::new();
    let (greedy, other) = (desk.open(), desk.open());
    desk.create(other, "MediaPipeline", json!({}));
    let describe = |session: usize| json!({ "sessionId": format!("s{session}"), "object": "manager_ServerManager" });
    let mut refused = 0;
    for number in 0..SESSIONS_MAX + 100 {
        let answer = desk.ask(greedy, "describe", describe(number));
        refused += usize::from(!answer["error"].is_null());
    }
    assert!(refused >= 100, "{refused}");
    assert!(desk.server.sessions() <= SESSIONS_MAX);
    // Who was there is served, and what nobody uses goes.
    desk.create(other, "MediaPipeline", json!({}));
    desk.sleep(PERIOD * 2);
    assert!(desk.server.sessions() <= 2, "{}", desk.server.sessions());
    desk.ask(greedy, "describe", describe(0));
}

#[test]
fn objects_are_bounded_over_all_sessions() {
    let mut desk = Desk::with(Config {
        objects_max: 100,
        ..Config::default()
    });
    let greedy = desk.open();
    let create = |session: usize| json!({ "sessionId": format!("s{session}"), "type": "MediaPipeline", "constructorParams": {} });
    let codes: Vec<_> = (0..120)
        .map(|session| desk.ask(greedy, "create", create(session))["error"]["code"].clone())
        .collect();
    assert!(codes[..90].iter().all(Value::is_null), "{codes:?}");
    assert!(codes[110..].iter().all(|code| *code == json!(40009)));
    assert!(desk.server.objects() <= 100);
    desk.server.handle_closed(desk.now, greedy);
    desk.sleep(PERIOD * 2);
    let other = desk.open();
    desk.create(other, "MediaPipeline", json!({}));
}

#[test]
fn subscriptions_to_one_event_are_bounded() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    for _ in 0..objects::SUBSCRIPTIONS_PER_EVENT_MAX {
        let answer = desk.subscribe(connection, &pipeline, "Error");
        assert_eq!(answer["error"], Value::Null);
    }
    let answer = desk.subscribe(connection, &pipeline, "Error");
    assert_eq!(answer["error"]["code"], json!(40009));
    let other = desk.create(connection, "MediaPipeline", json!({}));
    let answer = desk.subscribe(connection, &other, "Error");
    assert_eq!(answer["error"], Value::Null, "another object's");
}

#[test]
fn what_elements_keep_of_pads_and_candidates_is_short() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    let [source, sink, endpoint] = ["PassThrough", "PassThrough", "WebRtcEndpoint"]
        .map(|class| desk.create(connection, class, in_pipeline(&pipeline)));
    for (bytes, expected) in [(64, json!(null)), (65, json!(40001))] {
        for pad in ["sourceMediaDescription", "sinkMediaDescription"] {
            let mut given = json!({
                "sink": sink,
                "mediaType": "AUDIO",
                "sourceMediaDescription": "default",
                "sinkMediaDescription": "default",
            });
            given[pad] = "x".repeat(bytes).into();
            let code = desk.invoke(connection, &source, "connect", given);
            assert_eq!(code, expected, "{pad}");
        }
    }
    for (line, mid, expected) in [
        (512, 64, json!(null)),
        (513, 1, json!(40001)),
        (200, 65, json!(40001)),
    ] {
        let candidate = json!({
            "candidate": "x".repeat(line),
            "sdpMid": "x".repeat(mid),
            "sdpMLineIndex": 0,
        });
        let given = json!({ "candidate": candidate });
        let code = desk.invoke(connection, &endpoint, "addIceCandidate", given);
        assert_eq!(code, expected, "{line} {mid}");
    }
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

/// Any JSON, with references among it.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        "newref:[0-9-]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 32, 8, |inner| {
        let name = prop_oneof![
            ".{0,8}",
            prop::sample::select(vec![
                "operations",
                "object",
                "type",
                "params",
                "method",
                "id",
                "sessionId",
            ])
            .prop_map(str::to_owned),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..8)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_parameters_are_answered(params in any_json(), operations in prop::collection::vec(any_json(), 0..6)) {
        let mut desk = Desk::with(Config { request_cache: false, ..Config::default() });
        let connection = desk.open();
        desk.create(connection, "MediaPipeline", json!({}));
        let methods = ["create", "invoke", "subscribe", "describe", "ref", "connect", "keepAlive", "transaction"];
        for method in methods {
            desk.ask(connection, method, params.clone());
        }
        // As operations of every method, each after one that succeeds.
        for method in methods {
            let operations = operations.iter().map(|params| json!({ "method": method, "params": params }));
            let mut operations: Vec<_> = std::iter::once(json!({ "method": "describe", "params": { "object": "manager_ServerManager" } }))
                .chain(operations)
                .collect();
            for (id, operation) in operations.iter_mut().enumerate() {
                operation["jsonrpc"] = json!("2.0");
                operation["id"] = json!(id);
            }
            desk.ask(connection, "transaction", json!({ "operations": operations }));
        }
    }

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
