//! Laying datagrams one behind the other as runs that the kernel takes by one call, beside a copy of the bytes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use sfu::engine::flow::{Flow, FlowProtocol};
use sfu::engine::outbox::Outbox;

use super::PACKET_LEN;
use super::beside::Table;

/// Receivers. As many runs as one system call takes.
const FLOWS: u16 = 64;

/// Datagrams for one receiver in a row.
const RUNS: [usize; 3] = [1, 4, 8];

pub(super) fn run(criterion: &mut Criterion, table: &mut Table) {
    let packet = vec![0x5a; PACKET_LEN];
    let mut group = criterion.benchmark_group("runs");
    for run in RUNS {
        let flows: Vec<Flow> = (0..FLOWS).map(flow_to).collect();
        let mut outbox = Outbox::default();
        let mut build = || {
            outbox.clear();
            for flow in &flows {
                for _ in 0..run {
                    outbox.push(*flow, black_box(&packet));
                }
            }
            assert_eq!(outbox.runs().len(), flows.len());
        };
        group.throughput(Throughput::Elements((flows.len() * run) as u64));
        group.bench_function(BenchmarkId::from_parameter(run), |bencher| {
            bencher.iter(&mut build);
        });
        let mut copy = vec![0; flows.len() * run * PACKET_LEN];
        table.measure(
            &format!("runs/{run}, 64 receivers"),
            "memcpy of the datagrams",
            &mut build,
            || {
                for place in copy.chunks_exact_mut(PACKET_LEN) {
                    place.copy_from_slice(black_box(&packet));
                }
            },
        );
    }
    group.finish();
}

fn flow_to(peer: u16) -> Flow {
    Flow {
        protocol: FlowProtocol::Udp,
        local: ([10, 0, 0, 1], 7100).into(),
        remote: ([10, 0, 0, 2], 40_000 + peer).into(),
    }
}
