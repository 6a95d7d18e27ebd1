use super::*;

fn flow(peer: u16) -> Flow {
    Flow {
        protocol: FlowProtocol::Udp,
        local: ([10, 0, 0, 1], 7100).into(),
        remote: ([10, 0, 0, 2], peer).into(),
    }
}

/// Datagrams as (peer, length in bytes); runs as (peer, length in bytes, number of datagrams).
#[track_caller]
fn check(datagrams: &[(u16, usize)], expected: &[(u16, usize, usize)]) {
    let mut outbox = Outbox::default();
    for (number, &(peer, len)) in (0..).zip(datagrams) {
        outbox.push(flow(peer), &vec![number; len]);
    }
    let runs: Vec<_> = outbox
        .runs()
        .iter()
        .map(|run| (run.flow.remote.port(), run.range.len(), run.datagrams()))
        .collect();
    assert_eq!(runs, expected, "{datagrams:?}");
    let sent: Vec<_> = outbox
        .datagrams()
        .map(|(flow, bytes)| (flow.remote.port(), bytes.len()))
        .collect();
    let whole = datagrams.iter().filter(|(_, len)| *len > 0);
    assert!(sent.iter().eq(whole), "{sent:?}");
    assert!(outbox.bytes(0..outbox.len_bytes()).is_sorted());
}

#[test]
fn runs_have_one_peer_and_one_size() {
    check(&[(1, 100), (1, 100), (1, 100)], &[(1, 300, 3)]);
    check(&[(1, 100), (1, 101), (1, 101)], &[(1, 100, 1), (1, 202, 2)]);
    check(
        &[(1, 100), (1, 100), (2, 70), (2, 70)],
        &[(1, 200, 2), (2, 140, 2)],
    );
    check(
        &[(1, 100), (2, 100), (1, 100)],
        &[(1, 100, 1), (2, 100, 1), (1, 100, 1)],
    );
}

#[test]
fn what_a_panic_left_unfinished_does_not_leave() {
    let mut outbox = Outbox::default();
    outbox.push(flow(1), b"sealed");
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        outbox.push_with(&flow(1), 6, |out| {
            out.copy_from_slice(b"secret");
            panic!("on purpose")
        })
    }));
    assert!(broken.is_err());
    outbox.push(flow(1), b"sealed");

    let sent: Vec<_> = outbox.datagrams().map(|(_, bytes)| bytes).collect();
    assert_eq!(sent, [b"sealed", b"sealed"]);
}

#[test]
fn shorter_datagram_ends_a_run() {
    check(
        &[(1, 100), (1, 100), (1, 40), (1, 40)],
        &[(1, 240, 3), (1, 40, 1)],
    );
}

#[test]
fn empty_datagram_travels_alone() {
    check(
        &[(1, 0), (1, 10), (1, 0)],
        &[(1, 0, 1), (1, 10, 1), (1, 0, 1)],
    );
}

#[test]
fn runs_keep_to_the_limits_of_the_kernel() {
    check(&[(1, 1); 65], &[(1, 64, 64), (1, 1, 1)]);
    check(&[(1, 1300); 60], &[(1, 65_000, 50), (1, 13_000, 10)]);
}

/// What a datagram is part of.
#[derive(Clone, Copy, PartialEq)]
enum Track {
    Sound,
    Picture,
}
use Track::{Picture, Sound};

/// Queues as routes do.
fn push(outbox: &mut Outbox, sounds: &mut [Option<Place>], flow: Flow, datagram: (Track, &[u8])) {
    let (track, bytes) = datagram;
    let sound = &mut sounds[usize::from(flow.remote.port())];
    outbox.push(flow, bytes);
    match track {
        Sound => *sound = Some(outbox.place()),
        Picture => {
            if let Some(sound) = sound.take() {
                outbox.join(sound);
            }
        }
    }
}

/// Datagrams as (peer, track, length in bytes); what leaves as (peer, length of the run, of what closes it).
#[track_caller]
fn check_joined(datagrams: &[(u16, Track, usize)], expected: &[(u16, usize, Option<usize>)]) {
    let mut outbox = Outbox::default();
    let mut sounds = [None; 4];
    // What lies there from before is not mixed up with anything.
    for filling in 0..2 {
        outbox.clear();
        for (number, &(peer, track, len)) in (0..).zip(datagrams) {
            let bytes = vec![number; len];
            push(&mut outbox, &mut sounds, flow(peer), (track, &bytes));
        }
        let leaving: Vec<_> = outbox
            .departures(true)
            .map(|Departure { run, closing }| {
                let closing = closing.map(|closing| closing.range.len());
                (run.flow.remote.port(), run.range.len(), closing)
            })
            .collect();
        assert_eq!(leaving, expected, "filling {filling}");
        let count: usize = outbox.departures(true).map(|it| it.datagrams()).sum();
        assert_eq!(count, datagrams.len());
        let alone = outbox.departures(false).map(|leaving| leaving.run);
        assert!(alone.eq(outbox.runs()));
        for track in [Sound, Picture] {
            let of_track = |number: &u8| datagrams[usize::from(*number)].1 == track;
            for peer in 0..4 {
                let sent = outbox.datagrams().filter(|(to, _)| *to == flow(peer));
                assert!(sent.map(|(_, bytes)| bytes[0]).filter(of_track).is_sorted());
            }
        }
    }
}

#[test]
fn sound_closes_the_run_behind_it() {
    check_joined(
        &[(1, Sound, 60), (1, Picture, 100), (1, Picture, 100)],
        &[(1, 200, Some(60))],
    );
    check_joined(
        &[
            (1, Sound, 60),
            (2, Sound, 60),
            (3, Sound, 60),
            (3, Picture, 100),
            (1, Picture, 100),
            (1, Picture, 100),
        ],
        &[(1, 200, Some(60)), (2, 60, None), (3, 100, Some(60))],
    );
    // Those of one track keep their order.
    check_joined(
        &[
            (1, Sound, 60),
            (2, Sound, 60),
            (1, Sound, 70),
            (1, Picture, 100),
            (2, Picture, 100),
            (1, Picture, 110),
        ],
        &[
            (1, 60, None),
            (2, 100, Some(60)),
            (1, 100, Some(70)),
            (1, 110, None),
        ],
    );
    // A picture, more sound, and another picture.
    check_joined(
        &[
            (1, Sound, 60),
            (1, Picture, 100),
            (1, Sound, 60),
            (1, Picture, 100),
            (1, Picture, 100),
        ],
        &[(1, 60, None), (1, 160, None), (1, 200, None)],
    );
    check_joined(
        &[
            (1, Sound, 100),
            (2, Sound, 60),
            (1, Picture, 100),
            (1, Sound, 100),
            (1, Picture, 100),
            (2, Picture, 100),
        ],
        &[(1, 100, None), (2, 100, Some(60)), (1, 300, None)],
    );
    check_joined(
        &[
            (1, Sound, 60),
            (1, Picture, 100),
            (2, Sound, 60),
            (1, Sound, 60),
            (1, Picture, 100),
            (1, Picture, 100),
        ],
        &[(1, 100, Some(60)), (2, 60, None), (1, 200, Some(60))],
    );
}

#[test]
fn sound_and_picture_that_do_not_fit_leave_where_they_lie() {
    for (sound, picture) in [
        // Two of sound.
        (&[60, 60][..], &[100, 100][..]),
        // Longer than the picture's.
        (&[101], &[100, 100]),
        // The last of the picture is shorter.
        (&[60], &[100, 100, 99]),
        // One run already.
        (&[100], &[100, 60]),
        // Too many datagrams, or bytes to wait for.
        (&[60], &[100; 64]),
        (&[60], &[1200; 9]),
        (&[0], &[100]),
        (&[60], &[0]),
    ] {
        let mut outbox = Outbox::default();
        let mut sounds = [None; 2];
        for len in sound {
            push(&mut outbox, &mut sounds, flow(1), (Sound, &vec![1; *len]));
        }
        for len in picture {
            push(&mut outbox, &mut sounds, flow(1), (Picture, &vec![2; *len]));
        }
        let leaving = outbox.departures(true);
        assert!(
            leaving.eq(outbox.departures(false)),
            "{sound:?} {picture:?}"
        );
    }
    check_joined(
        &[(1, Sound, 100), (2, Sound, 9), (1, Picture, 100)],
        &[(1, 100, Some(100)), (2, 9, None)],
    );
    let most = [
        [(1, Sound, 60), (2, Sound, 60)].as_slice(),
        &[(1, Picture, 90); 63],
    ];
    check_joined(&most.concat(), &[(1, 5_670, Some(60)), (2, 60, None)]);
}

#[test]
fn nothing_is_joined_but_on_one_way_of_udp() {
    let other_port = Flow {
        local: ([10, 0, 0, 1], 7101).into(),
        ..flow(1)
    };
    let tcp = Flow {
        protocol: FlowProtocol::Tcp,
        ..flow(1)
    };
    for (first, second, is_joined) in [
        (flow(1), flow(1), true),
        (flow(1), other_port, false),
        (tcp, flow(1), false),
        (tcp, tcp, false),
        (Flow::local_peer(1), Flow::local_peer(1), false),
    ] {
        let mut outbox = Outbox::default();
        outbox.push(first, &[1; 60]);
        let sound = outbox.place();
        outbox.push(second, &[2; 100]);
        outbox.join(sound);
        let is_one = outbox.departures(true).count() == 1;
        assert_eq!(is_one, is_joined, "{first:?} {second:?}");
    }
}
