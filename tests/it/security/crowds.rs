//! Many executions at once, and starts and cancels by the thousand.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use holm_host_api::{Budget, BudgetName, Outcome};
use holm_runtime::ExecutionRequest;

use super::guests::Guest;
use super::{attack_at_once, beside_a_neighbour, request};
use crate::support::{Host, exceeded, name};

#[tokio::test]
async fn spinning_guests_by_the_thread_and_four_times_that() {
    const THREADS: usize = 2;
    let host = Host::with(|builder| builder.guest_threads(THREADS));
    let spin = Guest::endless(&[], "(nop)");
    for (guests, users) in [(THREADS, 1), (4 * THREADS, 1), (4 * THREADS, 4 * THREADS)] {
        let requests = (0..guests).map(|number| {
            let budget = Budget::default().with(BudgetName::Fuel, 200_000_000);
            request(&host, &format!("mallory-{}", number % users), &spin).budget(budget)
        });
        for execution in attack_at_once(&host, requests.collect()).await {
            assert_eq!(exceeded(&execution), BudgetName::Fuel);
        }
    }
}

/// A number that looks random, always the same.
fn scramble(number: u64) -> u64 {
    let mixed = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 11
}

/// Starts executions of every kind, and stops each at some moment, or drops its future, or lets it end.
async fn start_and_stop(count: u64) {
    let host = Host::with(|builder| builder.executions_max(40).guest_threads(2));
    let take = |guest: &Guest| host.runtime.intake(&guest.bytes()).unwrap();
    let sleep = "(call $block (call $timer (i64.const 360000000000000)))";
    let workloads = [
        take(&Guest::new(&[], "")),
        take(&Guest::endless(&[], "(nop)")),
        take(&Guest::new(&["timer", "block"], sleep)),
        take(&Guest::endless(&["now"], "(drop (call $now))")),
        take(&Guest::endless(
            &["start"],
            "(call $start (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 16))",
        )),
        take(&Guest::new(&[], "(unreachable)").pages(100)),
    ];
    let host = &host;
    let one = |number: u64| {
        let random = scramble(number);
        let workload = workloads[(random % workloads.len() as u64) as usize].clone();
        let user = name(&format!("mallory-{}", random / 8 % 3));
        let budget = Budget::default().with(BudgetName::Fuel, 2_000_000).with(BudgetName::WallMs, 5_000);
        let request = ExecutionRequest::new(user.clone(), workload).input("x").budget(budget);
        let (id, cancellation) = (request.execution, request.cancellation.clone());
        let moment = Duration::from_micros(random / 32 % 3_000);
        async move {
            let running = host.runtime.execute(request);
            match random / 128 % 4 {
                // Dropped, before or after its first poll.
                0 => drop(running),
                1 => drop(tokio::time::timeout(moment, running).await),
                how => {
                    let stop = async {
                        tokio::time::sleep(moment).await;
                        if how == 2 {
                            cancellation.cancel();
                        } else {
                            host.runtime.cancel(&user, id);
                            // It may not have been there yet, or any more.
                            cancellation.cancel();
                        }
                    };
                    let (execution, ()) = tokio::join!(running, stop);
                    let outcome = execution.record.outcome;
                    assert!(!matches!(outcome, Outcome::HostError | Outcome::Refused), "{:?}", execution.record);
                }
            }
        }
    };
    beside_a_neighbour(host, stream::iter(0..count).map(one).buffer_unordered(60).collect::<Vec<()>>()).await;
}

#[tokio::test]
async fn three_thousand_starts_and_cancels_leave_nothing() {
    start_and_stop(3_000).await;
}

/// The long version: `cargo test --workspace --test it a_hundred_thousand_starts -- --ignored`
#[tokio::test]
#[ignore = "holds both cores for ten seconds or more"]
async fn a_hundred_thousand_starts_and_cancels_leave_nothing() {
    start_and_stop(100_000).await;
}

/// Mallory asks for ten times the places that there are, and does nothing in them. Users take turns at the places
/// that get free: the neighbour waits for one of them and not for all of mallory's.
#[tokio::test]
async fn a_crowd_that_waits_for_places_holds_up_nobody_elses_turn() {
    let host = Host::with(|builder| builder.executions_max(20));
    let sleep = Guest::new(&["timer", "block"], "(call $block (call $timer (i64.const 360000000000000)))");
    let requests = (0..200).map(|_| {
        let budget = Budget::default().with(BudgetName::WallMs, 300);
        request(&host, "mallory", &sleep).budget(budget)
    });
    for execution in attack_at_once(&host, requests.collect()).await {
        assert_eq!(exceeded(&execution), BudgetName::WallMs);
    }
}
