//! One port for several workers.

use std::sync::mpsc;

use super::*;
use crate::StartError;

/// Sessions on workers 0, 1 and so on.
async fn sessions(server: &NativeMediaServer, workers: usize) -> Vec<Session> {
    let mut sessions = Vec::new();
    for worker in 0..workers {
        let session = Session::negotiate(server).await;
        assert_eq!(session.username[..4], format!("{worker:04x}"));
        sessions.push(session);
    }
    sessions
}

async fn handed_over(server: &NativeMediaServer) -> (u64, u64) {
    let metrics = server.metrics().await;
    let sockets = metrics.iter().map(|metrics| metrics.sockets);
    sockets.fold((0, 0), |(handed, dropped), counters| {
        (
            handed + counters.handed_over,
            dropped + counters.handover_dropped,
        )
    })
}

#[tokio::test]
async fn checks_are_answered_by_whomever_they_reach() {
    let server = start(3);
    let sessions = sessions(&server, 3).await;
    assert_eq!(server.ports().len(), 1);
    for ip in loopbacks() {
        let address = SocketAddr::new(ip, server.ports()[0]);
        for _ in 0..20 {
            let peer = udp_peer(address);
            // Each takes the flow from the one before.
            for session in sessions.iter().chain(sessions.iter().rev()) {
                check_udp(&peer, &session.request());
            }
        }
    }

    let metrics = server.metrics().await;
    assert!(metrics.iter().all(|worker| worker.sockets.handed_over > 0));
    assert_eq!(handed_over(&server).await.1, 0);
}

#[tokio::test]
async fn connection_moves_to_the_worker_that_its_peer_names() {
    let server = start(3);
    let sessions = sessions(&server, 3).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.ports()[0]));
    let mut peers = Vec::new();
    for number in 0..30 {
        let session = &sessions[number % 3];
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        check_tcp(&mut peer, &session.request());
        check_tcp(&mut peer, &session.request());
        peers.push(peer);
    }

    let metrics = server.metrics().await;
    let open: Vec<_> = metrics
        .iter()
        .map(|worker| worker.sockets.tcp_connections)
        .collect();
    assert_eq!(open, [10, 10, 10]);
    assert!(handed_over(&server).await.0 > 0);
}

#[tokio::test]
async fn connection_moves_once_only() {
    let server = start(3);
    let sessions = sessions(&server, 3).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.ports()[0]));
    for _ in 0..10 {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        for worker in (0..30).map(|number| number % 3) {
            let mut request = sessions[worker].request();
            // Unauthentic, so that nobody answers.
            *request.last_mut().unwrap() ^= 1;
            let len = u16::try_from(request.len()).unwrap();
            peer.write_all(&len.to_be_bytes()).unwrap();
            peer.write_all(&request).unwrap();
        }
    }
    // Each worker has heard of its connections when it answers.
    let received = async || {
        let metrics = server.metrics().await;
        let frames = metrics.iter().map(|worker| worker.sockets.tcp_received);
        frames.sum::<u64>()
    };
    while received().await < 300 {}

    assert!(handed_over(&server).await.0 <= 10);
}

#[tokio::test]
async fn second_server_on_the_same_port_is_refused() {
    for (first_workers, workers) in [(3, 3), (1, 3), (3, 1)] {
        let first = start(first_workers);
        let config = Config {
            udp_port: first.ports()[0],
            workers: NonZeroUsize::new(workers).unwrap(),
            ..Config::default()
        };

        let second = NativeMediaServer::start(&config);

        let Err(StartError::Bind(error)) = second else {
            panic!("{first_workers} and {workers} workers share a port");
        };
        assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
    }
}

#[tokio::test]
async fn stalled_worker_does_not_hold_up_the_others() {
    let server = start(2);
    let sessions = sessions(&server, 2).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.ports()[0]));
    // One whose datagrams reach worker 0, as it answers without a hand-over.
    let peer = loop {
        let peer = udp_peer(address);
        let before = handed_over(&server).await.0;
        check_udp(&peer, &sessions[0].request());
        if handed_over(&server).await.0 == before {
            break peer;
        }
    };
    let before = handed_over(&server).await.0;
    let (release, released) = mpsc::channel::<()>();
    let (stall, stalled) = mpsc::channel();
    server.queues()[1]
        .call(Box::new(move |_, _, _| {
            stall.send(()).unwrap();
            // Ends with the sender as well.
            let _ = released.recv();
        }))
        .unwrap();
    stalled.recv().unwrap();

    for _ in 0..100 {
        for _ in 0..20 {
            peer.send(&sessions[1].request()).unwrap();
        }
        check_udp(&peer, &sessions[0].request());
    }

    release.send(()).unwrap();
    let (after, dropped) = handed_over(&server).await;
    let handed = after - before;
    assert!(handed > 0 && dropped > 0 && handed + dropped == 2000);
    // Every answer takes a turn, which works off some of what waits.
    for _ in 0..4 {
        server.metrics().await;
    }
    check_udp(&udp_peer(address), &sessions[1].request());
    let answered = server.metrics().await[1].engine.stun_answered;
    assert_eq!(answered, handed + 1);
}
