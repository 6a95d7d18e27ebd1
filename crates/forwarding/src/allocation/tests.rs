use proptest::prelude::*;

use super::*;

fn level(kbps: u64, height: u16, frame_rate: u8) -> Level {
    Level {
        stream: 0,
        top: LayerId::BASE,
        limit: LayerId::BASE,
        bitrate: Bitrate::from_kbps(kbps),
        height,
        frame_rate,
    }
}

/// A camera in three sizes.
fn camera() -> [Level; 3] {
    [
        level(150, 180, 30),
        level(500, 360, 30),
        level(1_500, 720, 30),
    ]
}

fn request(priority: Priority, levels: &[Level]) -> Request<'_> {
    Request {
        priority,
        wishes: Wishes::default(),
        levels,
        current: None,
    }
}

fn granted(kbps: u64, requests: &[Request<'_>]) -> Vec<Option<usize>> {
    let mut grants = Vec::new();
    allocate(Bitrate::from_kbps(kbps), requests, &mut grants);
    grants.into_iter().map(Grant::level).collect()
}

use Priority::{Audio, High, Low, Normal};

#[test]
fn everybody_is_seen_before_anybody_is_improved() {
    let (levels, audio) = (camera(), [level(40, 0, 0)]);
    let requests = [
        request(Normal, &levels),
        request(High, &levels),
        request(Low, &levels),
        request(Audio, &audio),
    ];
    // (budget, normal, high, low)
    let rows = [
        (0, None, None, None),
        (100, None, None, None),
        (210, None, Some(0), None),
        (400, Some(0), Some(0), None),
        (550, Some(0), Some(0), Some(0)),
        (840, Some(0), Some(0), Some(0)),
        (900, Some(0), Some(1), Some(0)),
        (2_000, Some(0), Some(2), Some(0)),
        (2_300, Some(1), Some(2), Some(0)),
        (3_000, Some(1), Some(2), Some(1)),
        (4_000, Some(2), Some(2), Some(1)),
        (10_000, Some(2), Some(2), Some(2)),
    ];
    for (budget, normal, high, low) in rows {
        let expected = [normal, high, low, Some(0)];
        assert_eq!(granted(budget, &requests), expected, "{budget} kbit/s");
    }
}

#[test]
fn equals_are_improved_in_turn() {
    let levels = camera();
    let requests = [request(Normal, &levels); 3];
    assert_eq!(granted(1_300, &requests), [Some(1), Some(1), Some(0)]);
    assert_eq!(granted(2_900, &requests), [Some(2), Some(1), Some(1)]);
}

#[test]
fn what_a_better_level_costs_less_is_not_lost() {
    let kbps = [20, 41, 70, 27, 55, 96, 55, 103, 177];
    let levels = kbps.map(|kbps| level(kbps, 180, 30));
    let requests = [request(Normal, &levels)];
    // (budget, level)
    let rows = [(192, Some(8)), (190, Some(7)), (60, Some(6)), (59, Some(3))];
    for (budget, expected) in rows {
        assert_eq!(granted(budget, &requests), [expected], "{budget} kbit/s");
    }
}

#[test]
fn larger_picture_does_not_come_at_a_quarter_of_its_frames() {
    let layered = |stream, temporal, kbps| Level {
        stream,
        top: LayerId {
            spatial: 0,
            temporal,
        },
        ..level(kbps, 180 << stream, 30)
    };
    let rates = [(0, [60, 90, 150]), (1, [200, 300, 500])];
    let levels: Vec<_> = rates
        .into_iter()
        .flat_map(|(stream, rates)| (0..).zip(rates).map(move |it| layered(stream, it.0, it.1)))
        .collect();
    let plain = request(Normal, &levels);
    // (budget, given)
    let rows = [(70, 0), (170, 2), (250, 2), (330, 4), (600, 5)];
    for (budget, given) in rows {
        assert_eq!(granted(budget, &[plain]), [Some(given)], "{budget} kbit/s");
    }
    let mut chosen = plain;
    chosen.wishes.top_max = Some(LayerId {
        spatial: 1,
        temporal: 0,
    });
    assert_eq!(granted(600, &[chosen]), [Some(3)], "asked for");
}

#[test]
fn wishes_bound_the_level() {
    let levels = [
        level(100, 180, 7),
        level(150, 180, 30),
        level(400, 360, 15),
        level(500, 360, 30),
    ];
    // (wishes, level)
    let wishes = |paused, height_max, frame_rate_max| Wishes {
        paused,
        height_max,
        frame_rate_max,
        ..Wishes::default()
    };
    let rows = [
        (wishes(false, None, None), Some(3)),
        (wishes(false, Some(200), None), Some(1)),
        (wishes(false, None, Some(15)), Some(2)),
        (wishes(false, Some(200), Some(15)), Some(0)),
        (wishes(false, Some(90), None), Some(0)),
        (wishes(true, None, None), None),
    ];
    let slow = Request {
        wishes: wishes(false, None, Some(15)),
        ..request(Normal, &levels)
    };
    assert_eq!(granted(300, &[slow]), [Some(0)]);
    for (wishes, expected) in rows {
        let request = Request {
            wishes,
            ..request(Normal, &levels)
        };
        assert_eq!(granted(5_000, &[request]), [expected], "{wishes:?}");
    }
}

#[test]
fn reason_of_a_pause_is_told() {
    let levels = camera();
    let by_wish = Request {
        wishes: Wishes {
            paused: true,
            ..Wishes::default()
        },
        ..request(Normal, &levels)
    };
    let requests = [by_wish, request(High, &[]), request(Normal, &levels)];
    let mut grants = Vec::new();
    allocate(Bitrate::from_kbps(10), &requests, &mut grants);
    let reasons = [PauseReason::Wish, PauseReason::NoLevel, PauseReason::NoRoom];
    assert_eq!(grants, reasons.map(Grant::Paused));
    assert_eq!(demand(&requests), Bitrate::from_kbps(1_500).scaled(1.3));
}

#[test]
fn level_is_kept_where_it_would_not_be_given() {
    let levels = camera();
    let new = request(Normal, &levels);
    let kept = Request {
        current: Some(1),
        ..new
    };
    assert_eq!(granted(510, &[new]), [Some(0)]);
    assert_eq!(granted(510, &[kept]), [Some(1)]);
    assert_eq!(granted(490, &[kept]), [Some(0)]);
}

#[test]
fn larger_picture_needs_more_room_than_a_smoother_one() {
    let top = |spatial, temporal| LayerId { spatial, temporal };
    let levels =
        [(150, 0, 0), (200, 0, 1), (300, 1, 0), (500, 1, 1)].map(|(kbps, spatial, temporal)| {
            Level {
                top: top(spatial, temporal),
                ..level(kbps, 180, 30)
            }
        });
    let after = |current| Request {
        current: Some(current),
        ..request(Normal, &levels)
    };
    // (has, budget, gets)
    let rows = [
        (0, 217, 1),
        (1, 389, 1),
        (1, 391, 2),
        (2, 539, 2),
        (2, 541, 3),
    ];
    for (has, kbps, gets) in rows {
        assert_eq!(granted(kbps, &[after(has)]), [Some(gets)], "{has} {kbps}");
    }
}

#[test]
fn better_level_that_costs_less_is_taken() {
    // A still picture: the larger stream is between two frames.
    let levels = [
        level(150, 180, 30),
        level(700, 360, 30),
        level(140, 720, 30),
    ];
    assert_eq!(granted(200, &[request(Normal, &levels)]), [Some(2)]);
}

#[derive(Clone, Debug)]
struct Plan {
    priority: Priority,
    paused: bool,
    height_max: Option<u16>,
    steps: Vec<u64>,
    current: Option<usize>,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let priority = prop_oneof![Just(Audio), Just(High), Just(Normal), Just(Low)];
    let height_max = proptest::option::of(0u16..600);
    let plan = (
        priority,
        proptest::bool::weighted(0.1),
        height_max,
        proptest::collection::vec(1u64..800, 0..6),
        proptest::option::of(0usize..6),
    );
    let plan = plan.prop_map(|(priority, paused, height_max, steps, current)| Plan {
        priority,
        paused,
        height_max,
        steps,
        current,
    });
    proptest::collection::vec(plan, 0..8)
}

/// Levels of growing rate and height.
fn levels(plan: &Plan) -> Vec<Level> {
    let rates = plan.steps.iter().scan(0, |sum, step| {
        *sum += step;
        Some(*sum)
    });
    let heights = (1..).map(|index| 100 * index);
    rates
        .zip(heights)
        .map(|(kbps, height)| level(kbps, height, 30))
        .collect()
}

fn with_requests<T>(plans: &[Plan], run: impl FnOnce(&[Request<'_>]) -> T) -> T {
    let all: Vec<_> = plans.iter().map(levels).collect();
    let requests: Vec<_> = plans
        .iter()
        .zip(&all)
        .map(|(plan, levels)| Request {
            priority: plan.priority,
            wishes: Wishes {
                paused: plan.paused,
                height_max: plan.height_max,
                ..Wishes::default()
            },
            levels,
            current: plan.current.filter(|current| *current < levels.len()),
        })
        .collect();
    run(&requests)
}

fn cost(request: &Request<'_>, grant: Grant) -> u64 {
    grant.level().map_or(0, |level| request.bitrate(level))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn budget_is_kept_and_nobody_improved_at_the_cost_of_being_seen(plans in plans(), kbps in 0u64..6000) {
        with_requests(&plans, |requests| {
            let mut grants = Vec::new();
            allocate(Bitrate::from_kbps(kbps), requests, &mut grants);
            prop_assert_eq!(grants.len(), requests.len());
            let (mut audio, mut video, mut improvements) = (0, 0, 0);
            for (request, grant) in requests.iter().zip(&grants) {
                match request.priority {
                    Audio => audio += cost(request, *grant),
                    _ => video += cost(request, *grant),
                }
                if let (Grant::Level(level), false) = (grant, request.priority == Audio) {
                    prop_assert!(request.may_have(*level));
                    improvements += request.bitrate(*level) - request.bitrate(0);
                }
            }
            prop_assert!(video == 0 || audio + video <= 1000 * kbps, "{audio} + {video}");
            for (request, grant) in requests.iter().zip(&grants) {
                if *grant == Grant::Paused(PauseReason::NoRoom) {
                    prop_assert!(request.priority != Audio);
                    let margin = request.levels[0].bitrate.scaled(STEP_UP_MARGIN).0;
                    let room = (1000 * kbps).saturating_sub(audio + video) + improvements;
                    prop_assert!(request.bitrate(0) + margin > room);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn same_again_changes_nothing(plans in plans(), kbps in 0u64..6000) {
        with_requests(&plans, |requests| {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            allocate(Bitrate::from_kbps(kbps), requests, &mut first);
            let again: Vec<_> = requests
                .iter()
                .zip(&first)
                .map(|(request, grant)| Request { current: grant.level(), ..*request })
                .collect();
            allocate(Bitrate::from_kbps(kbps), &again, &mut second);
            prop_assert_eq!(first, second);
            Ok(())
        })?;
    }

    /// In the order in which steps are taken, the first one that differs is taken with the larger budget.
    #[test]
    fn more_budget_is_never_worse_for_the_most_important(plans in plans(), kbps in 0u64..4000, more in 0u64..2000) {
        with_requests(&plans, |requests| {
            let (mut less, mut greater) = (Vec::new(), Vec::new());
            allocate(Bitrate::from_kbps(kbps), requests, &mut less);
            allocate(Bitrate::from_kbps(kbps + more), requests, &mut greater);
            let mut steps = Vec::new();
            for levels in [0..1, 1..LEVELS_MAX] {
                for priority in Priority::VIDEO {
                    for level in levels.clone() {
                        for (index, request) in requests.iter().enumerate() {
                            if request.priority == priority {
                                steps.push((index, level));
                            }
                        }
                    }
                }
            }
            let taken = |grants: &[Grant], (index, level): (usize, usize)| {
                grants[index].level().is_some_and(|given| level <= given)
            };
            let differs = steps.into_iter().find(|step| taken(&less, *step) != taken(&greater, *step));
            prop_assert!(differs.is_none_or(|step| taken(&greater, step)), "{less:?} {greater:?}");
            Ok(())
        })?;
    }
}

#[test]
fn client_that_cannot_tell_spatial_layers_gets_the_lowest_of_the_best_stream() {
    let layers = [(0, 0, 0), (0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2)];
    let levels = layers.map(|(stream, spatial, temporal)| Level {
        stream,
        top: LayerId { spatial, temporal },
        ..level(100, 0, 0)
    });
    for (flat, expected) in [(false, 4), (true, 3)] {
        let wishes = Wishes {
            flat,
            ..Wishes::default()
        };
        let request = Request {
            wishes,
            ..request(Normal, &levels)
        };
        assert_eq!(granted(9_000, &[request]), [Some(expected)], "{flat}");
    }
}

#[test]
fn size_and_rate_may_be_bounded() {
    let [small, middle, large] = camera();
    let levels = [
        small,
        Level {
            stream: 1,
            ..middle
        },
        Level { stream: 2, ..large },
    ];
    let with = |wishes| Request {
        wishes,
        ..request(Normal, &levels)
    };
    let top = |spatial| Wishes {
        top_max: LayerId::new(spatial, 0),
        ..Wishes::default()
    };
    let rate = |kbps| Wishes {
        bitrate_max: Some(Bitrate::from_kbps(kbps)),
        ..Wishes::default()
    };
    let rows = [
        (top(0), 0),
        (top(1), 1),
        (top(3), 2),
        (rate(600), 1),
        (rate(10), 0),
    ];
    for (wishes, expected) in rows {
        assert_eq!(
            granted(9_000, &[with(wishes)]),
            [Some(expected)],
            "{wishes:?}"
        );
    }
}
