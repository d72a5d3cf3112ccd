//! Attacks. Each runs beside a neighbour of another user who goes on all the while, ends with the outcome that it
//! should have, and leaves nothing.
//!
//! | file | what is attacked |
//! |---|---|
//! | `cpu` | endless code and endless calls: they end by a budget and let others run |
//! | `waiting` | timers and polls: waiting is no compute, and compute cannot hide in waiting |
//! | `crowds` | many executions at once, starts and cancels by the thousand |
//! | `memory` | memories, tables, handles and what the host keeps: all summed, all bounded |
//! | `arguments` | the largest arguments that a guest can send, and pointers to nowhere |
//! | `peak` | the memory of a whole host process while a guest sends all that it can |
//! | `stack` | recursion in the guest and through the host |
//! | `intake` | bytes that are made to break the parser, the compiler or a terminal |
//! | `isolation` | what one execution leaves for the next, and handles and names that are not its own |
//! | `panics` | host functions, backends and sinks that panic |
//!
//! `guests` has what the guests are made of. Further attacks on the intake are beside it, in
//! `runtime/src/workload/tests`.

mod arguments;
mod cpu;
mod crowds;
mod guests;
mod intake;
mod isolation;
mod memory;
mod names;
mod panics;
mod peak;
mod stack;
mod waiting;

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures::future::join_all;
use holm_host_api::{Budget, BudgetName, Outcome};
use holm_runtime::{Execution, ExecutionRequest};

use crate::support::{Host, name};

use guests::Guest;

/// The neighbour completes at least one execution in each such time on average, and none takes longer than ten of
/// them: far more than it takes, far less than a neighbour that starves.
const NEIGHBOUR_PERIOD: Duration = Duration::from_millis(400);

/// A budget that a hostile guest burns in a moment.
fn small() -> Budget {
    Budget::default().with(BudgetName::Fuel, 30_000_000).with(BudgetName::WallMs, 20_000)
}

fn request(host: &Host, user: &str, guest: &Guest) -> ExecutionRequest {
    ExecutionRequest::new(name(user), host.runtime.intake(&guest.bytes()).unwrap()).input("x").budget(small())
}

/// Does this while a neighbour's small executions follow one another, and shows that these are not held up, that
/// the host is well afterwards, and that nothing is left.
async fn beside_a_neighbour<T>(host: &Host, attack: impl Future<Output = T>) -> T {
    // It computes for a few slices: what begins on the caller's thread has to go on on the guests'.
    let work = "(local.set $n (i32.const 100000))
        (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))";
    let work = host.runtime.intake(&Guest::new(&[], work).bytes()).unwrap();
    let small_execution = async || {
        let request = ExecutionRequest::new(name("neighbour"), work.clone()).input("still here");
        let began = Instant::now();
        let execution = host.runtime.execute(request).await;
        assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
        assert_eq!(execution.output, b"still here");
        began.elapsed()
    };
    small_execution().await;
    let over = Cell::new(false);
    let began = Instant::now();
    let neighbour = async {
        let (mut done, mut slowest) = (0u32, Duration::ZERO);
        while !over.get() {
            slowest = slowest.max(small_execution().await);
            done += 1;
            tokio::task::yield_now().await;
        }
        (done, slowest)
    };
    let attack = async {
        let ended = attack.await;
        over.set(true);
        ended
    };
    let ((done, slowest), ended) = tokio::join!(neighbour, attack);
    let took = began.elapsed();
    assert!(NEIGHBOUR_PERIOD * (done + 2) >= took, "the neighbour ran {done} times in {took:?}");
    assert!(slowest < NEIGHBOUR_PERIOD * 10, "the neighbour waited {slowest:?}");
    small_execution().await;
    host.assert_nothing_held().await;
    ended
}

/// Runs a guest for mallory beside a neighbour.
async fn attack(host: &Host, guest: &Guest) -> Execution {
    attack_with(host, request(host, "mallory", guest)).await
}

async fn attack_with(host: &Host, request: ExecutionRequest) -> Execution {
    beside_a_neighbour(host, host.runtime.execute(request)).await
}

/// Runs all of these at once beside a neighbour.
async fn attack_at_once(host: &Host, requests: Vec<ExecutionRequest>) -> Vec<Execution> {
    beside_a_neighbour(host, join_all(requests.into_iter().map(|request| host.runtime.execute(request)))).await
}
