//! Order, repetition and grouping of requests.

use super::*;

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
fn the_first_video_of_a_pipeline_decides_what_others_are_asked_for() {
    let offer = |formats: &str| {
        format!(
            "v=0\r\nm=video 9 X {formats}\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:102 H264/90000\r\na=sendonly\r\n"
        )
    };
    for (aligns, expected) in [(true, "102 96"), (false, "96 102")] {
        let mut desk = Desk::with(Config {
            align_video_codecs: aligns,
            ..Config::default()
        });
        let connection = desk.open();
        let pipeline = desk.create(connection, "MediaPipeline", json!({}));
        let endpoint =
            |desk: &mut Desk| desk.create(connection, "WebRtcEndpoint", in_pipeline(&pipeline));
        // A viewer decides nothing.
        for answer in [
            offer("96 102"),
            offer("102 96").replace("sendonly", "recvonly"),
            offer("96 102").replace("sendonly", "recvonly"),
        ] {
            desk.description = answer;
            let endpoint = endpoint(&mut desk);
            let given = json!({ "offer": offer("96 102") });
            desk.invoke(connection, &endpoint, "processOffer", given);
        }
        let last = desk.calls.iter().rev().find_map(|call| match call {
            Call::ProcessOffer { offer, .. } => Some(offer.clone()),
            _ => None,
        });
        assert_eq!(last, Some(offer(expected)));
    }
}

#[test]
fn graphs_fit_into_a_message_of_any_client() {
    let mut desk = Desk::new();
    let connection = desk.open();
    let pipeline = desk.create(connection, "MediaPipeline", json!({}));
    for _ in 0..5_500 {
        desk.create(connection, "PassThrough", in_pipeline(&pipeline));
    }
    let dot = desk.invoke(connection, &pipeline, "getGstreamerDot", json!({}));
    let dot = dot.as_str().unwrap();
    assert!(dot.ends_with("}\n"));
    let bytes = serde_json::to_string(dot).unwrap().len();
    assert!((700_000..1_000_000).contains(&bytes), "{bytes}");
}
