//! The host functions of `execution`, called directly.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test should stop there")]

use serde_json::json;

use super::ExecutionContext;
use super::bindings::execution::Host as _;
use crate::BudgetName::{Fuel, HostCalls, LlmCostMicrousd, LlmTokens, MemoryBytes, WallMs};
use crate::fixture::{Fixture, Host};
use crate::{Budget, View};

fn view(host: &mut Host) -> View<'_, ExecutionContext> {
    host.view()
}

#[tokio::test]
async fn the_identity_is_the_scopes() {
    let fixture = Fixture::new().scoped(|scope| {
        scope.session = Some("research".parse().unwrap());
        scope.program = Some("critic".parse().unwrap());
        scope.profile = Some("cheap".parse().unwrap());
    });
    let mut host = fixture.open().await;
    let identity = view(&mut host).get_identity().unwrap();
    assert_eq!(identity.execution, host.scope().execution.to_string());
    assert_eq!((identity.user.as_str(), identity.workload.as_str()), ("alice", "sha256:00"));
    assert_eq!(identity.session.as_deref(), Some("research"));
    assert_eq!(identity.program.as_deref(), Some("critic"));
    assert_eq!(identity.profile.as_deref(), Some("cheap"));

    let plain = view(&mut Fixture::new().open().await).get_identity().unwrap();
    assert_eq!((plain.session, plain.program, plain.profile), (None, None, None));
}

#[tokio::test]
async fn it_needs_no_grant() {
    let mut host = Fixture::new().grants(&[]).open().await;
    assert_eq!(view(&mut host).get_identity().unwrap().user, "alice");
    assert!(view(&mut host).get_remaining().unwrap().fuel.is_some());
    assert_eq!(view(&mut host).get_config("k".to_owned()).unwrap(), None);
    assert!(!view(&mut host).is_cancelled().unwrap());
}

#[tokio::test]
async fn what_remains_is_the_limit_less_what_was_used() {
    let fixture = Fixture::new().limit(Fuel, 10_000).limit(MemoryBytes, 1_000).limit(LlmTokens, 100);
    let mut host = fixture.limit(HostCalls, 10).limit(LlmCostMicrousd, 50).limit(WallMs, 30_000).open().await;
    host.meter().charge(MemoryBytes, 400).unwrap();
    host.meter().charge(LlmTokens, 30).unwrap();
    host.meter().overdraw(LlmCostMicrousd, 60);
    let remaining = view(&mut host).get_remaining().unwrap();
    assert_eq!((remaining.memory_bytes, remaining.llm_tokens), (Some(600), Some(70)));
    assert_eq!((remaining.host_calls, remaining.llm_cost_microusd), (Some(9), Some(0)));
    let fuel = remaining.fuel.unwrap();
    assert!(fuel < 10_000, "this call itself costs fuel");
    assert!(remaining.wall_ms.is_some_and(|left| left <= 30_000));
    assert!(view(&mut host).get_remaining().unwrap().fuel.unwrap() < fuel);
}

#[tokio::test]
async fn what_is_unlimited_is_none() {
    let names = [Fuel, WallMs, MemoryBytes, HostCalls, LlmTokens, LlmCostMicrousd];
    let unlimited = names.into_iter().fold(Fixture::new(), |fixture, name| fixture.limit(name, Budget::UNLIMITED));
    let remaining = view(&mut unlimited.open().await).get_remaining().unwrap();
    assert_eq!((remaining.fuel, remaining.wall_ms, remaining.memory_bytes), (None, None, None));
    assert_eq!((remaining.host_calls, remaining.llm_tokens, remaining.llm_cost_microusd), (None, None, None));
}

#[tokio::test]
async fn configuration_is_read_by_key_and_billed_by_the_byte() {
    let mut host = Fixture::new().config("model", &"x".repeat(5_000)).open().await;
    let before = host.meter().fuel_owed();
    assert_eq!(view(&mut host).get_config("model".to_owned()).unwrap().unwrap().len(), 5_000);
    assert!(host.meter().fuel_owed() - before >= 5_005);
    assert_eq!(view(&mut host).get_config("Model".to_owned()).unwrap(), None);
}

#[tokio::test]
async fn the_journal_has_what_was_answered() {
    let mut host = Fixture::new().config("k", "v").limit(LlmTokens, 7).open().await;
    view(&mut host).get_identity().unwrap();
    view(&mut host).get_remaining().unwrap();
    view(&mut host).get_config("k".to_owned()).unwrap();
    view(&mut host).is_cancelled().unwrap();
    let (entries, _) = host.state.gate().journal().unwrap().entries();
    let answers: Vec<_> = entries.iter().map(|entry| (entry.function, entry.result.as_ref().unwrap())).collect();
    assert_eq!((answers[0].0, &answers[0].1["user"]), ("get-identity", &json!("alice")));
    assert_eq!((answers[1].0, &answers[1].1["llm_tokens"]), ("get-remaining", &json!(7)));
    assert_eq!(answers[2..], [("get-config", &json!("v")), ("is-cancelled", &json!(false))]);
}

#[tokio::test]
async fn a_cancellation_shows_at_once() {
    let mut host = Fixture::new().open().await;
    assert!(!view(&mut host).is_cancelled().unwrap());
    host.scope().cancellation.cancel();
    assert!(view(&mut host).is_cancelled().unwrap());
}

/// Every room's calls pass the same place, so this shows it for all of them.
#[tokio::test]
async fn the_call_that_passes_host_calls_ends_the_execution() {
    let mut host = Fixture::new().limit(HostCalls, 2).open().await;
    for _ in 0..2 {
        view(&mut host).is_cancelled().unwrap();
    }
    assert_eq!(host.meter().tripped(), None);
    let ended = view(&mut host).is_cancelled().unwrap_err();
    assert_eq!(ended.downcast_ref(), host.meter().tripped().as_ref());
    let tripped = host.meter().tripped().unwrap();
    assert_eq!((tripped.budget, tripped.limit, tripped.used), (HostCalls, 2, 2));
}
