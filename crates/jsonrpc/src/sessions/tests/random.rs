//! Random clients, and what holds whatever they do.

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Open(u64),
    Lose(u64),
    Frame(u64, String),
    Connect(u64, usize),
    Respond(usize),
    Leave(usize),
    Notify(usize),
    Read(u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let socket = 0..6_u64;
    let frame = prop_oneof![
        Just(r#"{"method":"m","id":1}"#.to_owned()),
        Just(r#"{"method":"ping","params":{"interval":1000},"id":2}"#.to_owned()),
        Just(r#"{"method":"connect","id":3}"#.to_owned()),
        Just(r#"{"method":"closeSession","id":4}"#.to_owned()),
        (0..9).prop_map(|id| format!(r#"{{"method":"m","id":{id}}}"#)),
    ];
    prop_oneof![
        socket.clone().prop_map(Step::Open),
        socket.clone().prop_map(Step::Lose),
        (socket.clone(), frame).prop_map(|(socket, text)| Step::Frame(socket, text)),
        (socket.clone(), any::<usize>()).prop_map(|(socket, pick)| Step::Connect(socket, pick)),
        any::<usize>().prop_map(Step::Respond),
        any::<usize>().prop_map(Step::Leave),
        any::<usize>().prop_map(Step::Notify),
        socket.prop_map(Step::Read),
        (0..20_000_u64).prop_map(Step::Pass),
    ]
}

fn run(steps: Vec<Step>) {
    let mut server = Server::with(Limits {
        outbox_frames: 4,
        queue_requests: 3,
        sockets: 4,
        sessions: 5,
        ..Limits::default()
    });
    let mut generation = 10;
    let mut sockets: HashMap<u64, SocketId> = HashMap::new();
    for step in steps {
        let pick = |index: usize, server: &Server| {
            let opened = &server.opened;
            (!opened.is_empty()).then(|| opened[index % opened.len()].clone())
        };
        match step {
            Step::Open(slot) => {
                generation += 1;
                let socket = SocketId(generation);
                if !sockets.contains_key(&slot) && server.sessions.handle_opened(socket).is_ok() {
                    sockets.insert(slot, socket);
                }
            }
            Step::Lose(slot) => {
                if let Some(socket) = sockets.remove(&slot) {
                    server.lose(socket);
                }
            }
            Step::Frame(slot, text) => {
                let socket = sockets.get(&slot).copied().unwrap_or(A);
                server.receive(socket, &text);
            }
            Step::Connect(slot, index) => {
                if let (Some(socket), Some((_, id))) = (sockets.get(&slot), pick(index, &server)) {
                    server.reconnect(*socket, &id);
                }
            }
            Step::Respond(index) => {
                if let Some((key, _)) = pick(index, &server) {
                    server.respond(key, Ok(json!({})));
                }
            }
            Step::Leave(index) => {
                if let Some((key, _)) = pick(index, &server) {
                    server.leave(key);
                    server.drain();
                }
            }
            Step::Notify(index) => {
                if let Some((key, _)) = pick(index, &server) {
                    server.notify(key, "m");
                }
            }
            Step::Read(slot) => {
                if let Some(socket) = sockets.get(&slot) {
                    server.outgoing(*socket);
                }
            }
            Step::Pass(milliseconds) => server.pass(Duration::from_millis(milliseconds)),
        }
        check(&server.sessions);
    }
    // Whatever happened, nothing stays once everybody is gone.
    for socket in sockets.into_values().chain([A, B]) {
        server.lose(socket);
    }
    server.pass(seconds(10));
    assert_eq!(server.sessions.sessions(), 0);
    assert_eq!(server.sessions.sockets(), 0);
    assert!(server.sessions.keys.is_empty());
    assert_eq!(server.sessions.poll_timeout(), None);
    assert_eq!(server.opened.len(), server.ended.len());
}

/// What holds between any two calls.
fn check(sessions: &Sessions) {
    let limits = &sessions.config.limits;
    assert!(sessions.sockets.len() <= limits.sockets);
    assert!(sessions.sessions.len() <= limits.sessions);
    assert_eq!(sessions.sessions.len(), sessions.keys.len());
    for (key, session) in &sessions.sessions {
        match &session.attachment {
            Attachment::Socket(socket) => {
                assert_eq!(sessions.sockets[socket].session, Some(*key));
            }
            Attachment::Lost(lost) => {
                assert!(
                    sessions
                        .timers
                        .contains(&(lost.deadline, Timer::Grace(*key)))
                );
            }
        }
    }
    for (socket, state) in &sessions.sockets {
        assert!(state.session.is_none() || state.close.is_none());
        if let Some(key) = state.session {
            assert_eq!(sessions.socket_of(key), Some(*socket));
        }
    }
}

proptest! {
    #[test]
    fn any_course_of_events_leaves_nothing_behind(steps in prop::collection::vec(step(), 0..120)) {
        run(steps);
    }

    #[test]
    fn any_text_is_handled(text in any::<String>()) {
        let mut server = Server::new();
        server.receive(A, &text);
    }
}
