//! What is refused, and with which code.

use super::*;

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
        "HttpPostEndpoint",
    ] {
        let params = json!({ "type": class, "constructorParams": { "mediaPipeline": pipeline } });
        let answer = desk.ask(connection, "create", params);
        assert_eq!(
            answer["error"]["message"],
            format!("Factory '{class}' not found")
        );
    }
    // A mixer that only chooses is none of them.
    let hub = desk.create(connection, "Mixer", in_pipeline(&pipeline));
    let [first, second, sink] =
        [(); 3].map(|()| desk.create(connection, "HubPort", json!({ "hub": hub })));
    let mut connect = |source: &str| {
        let parameters = json!({ "media": "AUDIO", "source": source, "sink": sink });
        let params =
            json!({ "object": hub, "operation": "connect", "operationParams": parameters });
        desk.ask(connection, "invoke", params)["error"]["code"].clone()
    };
    assert_eq!(connect(&first), Value::Null);
    assert_eq!(connect(&second), 40004);
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
