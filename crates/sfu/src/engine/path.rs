//! What applications are told of the path to a peer.

use media::{DtlsState, Event, IceState};

use super::flow::{Flow, FlowProtocol};
use super::sdp::{Candidate, CandidateAddress, CandidateTransport};

/// RTP, and everything that is bundled with it.
const COMPONENT: u8 = 1;

/// The events of a path that was chosen. Before the first handshake that begins here too: it is the peer that starts
/// it, or it has waited for a path.
pub(super) fn chosen(ours: &[Candidate], flow: Flow, is_connected: bool) -> Vec<Event> {
    let local = local(ours, flow).map_or_else(String::new, ToString::to_string);
    let remote = Candidate::peer_reflexive(flow.remote, transport(flow.protocol));
    let mut events = vec![
        Event::CandidatePairSelected {
            component: COMPONENT,
            local,
            remote: remote.to_string(),
        },
        Event::IceStateChanged {
            component: COMPONENT,
            state: IceState::Connected,
        },
    ];
    if !is_connected {
        events.push(Event::DtlsStateChanged(DtlsState::Connecting));
    }
    events
}

/// The peer does not reach us, or no longer does.
pub(super) fn failed() -> Event {
    Event::IceStateChanged {
        component: COMPONENT,
        state: IceState::Failed,
    }
}

/// The candidate of ours that the peer reached. Behind an address translator none has our own address: then it is the
/// first that could have been.
fn local(ours: &[Candidate], flow: Flow) -> Option<&Candidate> {
    let address = flow.local.ip().to_canonical();
    let is_exact = |candidate: &&Candidate| matches!(candidate.address, CandidateAddress::Ip(ip) if ip == address);
    let same = |candidate: &&Candidate| {
        let is_tcp = matches!(candidate.transport, CandidateTransport::Tcp(_));
        is_tcp == (flow.protocol == FlowProtocol::Tcp)
    };
    let mut of_protocol = ours.iter().filter(same);
    let first = of_protocol.clone().next();
    of_protocol.find(is_exact).or(first)
}

fn transport(protocol: FlowProtocol) -> CandidateTransport {
    match protocol {
        // Only what ICE validated is told, and files know no ICE.
        FlowProtocol::Udp | FlowProtocol::Local => CandidateTransport::Udp,
        FlowProtocol::Tcp => CandidateTransport::Tcp(super::sdp::TcpKind::Active),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_names_the_candidate_that_was_reached() {
        let ours = [
            Candidate::host_udp("192.0.2.1:7100".parse().unwrap(), 0),
            Candidate::host_udp("198.51.100.1:7100".parse().unwrap(), 1),
            Candidate::host_tcp("198.51.100.1:7100".parse().unwrap(), 0),
        ];
        for (protocol, local, expected) in [
            (FlowProtocol::Udp, "198.51.100.1:7100", 1),
            (FlowProtocol::Tcp, "198.51.100.1:7100", 2),
            (FlowProtocol::Udp, "10.0.0.1:7100", 0),
            (FlowProtocol::Udp, "[::ffff:198.51.100.1]:7100", 1),
        ] {
            let flow = Flow {
                protocol,
                local: local.parse().unwrap(),
                remote: "203.0.113.5:40000".parse().unwrap(),
            };
            let events = chosen(&ours, flow, false);
            let Event::CandidatePairSelected { local, remote, .. } = &events[0] else {
                panic!("{events:?}");
            };
            assert_eq!(*local, ours[expected].to_string());
            let remote = Candidate::parse(remote).unwrap();
            assert_eq!((remote.port, events.len()), (40000, 3));
            assert_eq!(chosen(&ours, flow, true).len(), 2);
        }
    }
}
