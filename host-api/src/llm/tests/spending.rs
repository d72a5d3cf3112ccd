//! Tokens are reserved before a request and settled after it; cost is added up.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Budget;

/// What the input of `ask("")` is estimated at.
const EMPTY: u64 = 8;
/// What is reserved for the answer where the guest does not say.
const OUTPUT: u64 = 4_096;

fn at_most(max_tokens: u32, text: &str) -> guest::Request {
    guest::Request { max_tokens: Some(max_tokens), ..ask(text) }
}

/// An execution with this many tokens whose answers use these, and the longest answers it asked for.
fn using(tokens: u64, used: (u64, u64)) -> (Fixture, Arc<Mutex<Vec<Option<u32>>>>) {
    let asked = Arc::<Mutex<Vec<Option<u32>>>>::default();
    let seen = Arc::clone(&asked);
    let fixture = answering(move |request| {
        seen.lock().unwrap().push(request.max_tokens);
        future::ready(Ok(answer(used.0, used.1)))
    });
    (fixture.limit(LlmTokens, tokens), asked)
}

#[tokio::test]
async fn input_and_the_longest_answer_are_reserved() {
    let mut host = answering(|_| future::pending()).open().await;
    for (request, reserved) in [
        (ask(""), EMPTY + OUTPUT),
        (ask("123456"), EMPTY + 2 + OUTPUT),
        (at_most(10, ""), EMPTY + 10),
        (at_most(u32::MAX, ""), 1_000_000),
    ] {
        let pending = submit(&mut host, request).unwrap();
        assert_eq!(held(&host), (reserved, 1));
        drop_pending(&mut host, pending);
        settle().await;
        assert_eq!(held(&host), (0, 0), "it was not sent yet");
    }
}

/// Where a request may write what was not taken for it, many at once spend a multiple of the budget.
#[tokio::test]
async fn the_router_is_told_what_was_taken() {
    let (fixture, asked) = using(2 * (EMPTY + OUTPUT), (EMPTY, OUTPUT));
    let mut host = fixture.open().await;
    let pending: Vec<_> = (0..3).map(|_| submit(&mut host, ask(""))).collect();
    settle().await;
    assert_eq!(budget_of(pending[2].as_ref().unwrap_err()), "llm_tokens");
    assert_eq!(*asked.lock().unwrap(), [Some(4_096), Some(4_096)]);
    assert_eq!(host.used(LlmTokens), 2 * (EMPTY + OUTPUT));
}

/// What an answer cost that was given up nobody says; the price is known.
#[tokio::test(start_paused = true)]
async fn what_was_given_up_costs_its_price() {
    let mut host = answering(|_| future::pending()).limit(LlmCostMicrousd, 40).open().await;
    let priced = guest::Request { model: Some("priced".to_owned()), ..ask("") };
    let pending = submit(&mut host, priced.clone()).unwrap();
    settle().await;
    drop_pending(&mut host, pending);
    settle().await;
    assert_eq!((host.used(LlmTokens), host.used(LlmCostMicrousd)), (EMPTY, 2 * EMPTY));
    complete(&mut host, priced.clone()).await.unwrap_err();
    assert_eq!(budget_of(&complete(&mut host, priced).await.unwrap_err()), "llm_cost_microusd");
    assert_eq!(host.finish(Outcome::Completed).await.usage["llm"]["cost_microusd"], 4 * EMPTY);
}

/// A token of input is 2, one of output 3.
#[tokio::test]
async fn money_is_taken_before_the_request() {
    let priced = |text: &str| guest::Request { model: Some("priced".to_owned()), ..ask(text) };
    let mut host = answering(|_| future::pending()).limit(LlmCostMicrousd, 100).open().await;
    let first = submit(&mut host, guest::Request { max_tokens: Some(10), ..priced("") }).unwrap();
    assert_eq!(host.used(LlmCostMicrousd), 2 * EMPTY + 30);
    let second = submit(&mut host, priced("")).unwrap();
    assert_eq!(host.used(LlmCostMicrousd), 2 * (2 * EMPTY) + 30 + 36, "the longest answer is what is left");
    assert_eq!(budget_of(&submit(&mut host, priced("")).unwrap_err()), "llm_cost_microusd");
    drop_pending(&mut host, first);
    drop_pending(&mut host, second);
    settle().await;
    assert_eq!(host.used(LlmCostMicrousd), 0);
}

/// 64 requests at the last token: what is spent is what there was.
#[tokio::test]
async fn many_at_once_cannot_overspend() {
    let worst = |request: Request| {
        let output = u64::from(request.max_tokens.unwrap_or(u32::MAX));
        let usage = Usage { input_tokens: EMPTY, output_tokens: output, cost_microusd: Some(2 * EMPTY + 3 * output) };
        future::ready(Ok(Response { usage, ..answer(0, 0) }))
    };
    let priced = |max_tokens| guest::Request { model: Some("priced".to_owned()), max_tokens, ..ask("") };
    for (tokens, money) in [(1_000, 1_000_000), (1_000_000, 1_000)] {
        let mut host = answering(worst).limit(LlmTokens, tokens).limit(LlmCostMicrousd, money).open().await;
        let sent = (0..64).filter(|n| submit(&mut host, priced((n % 2 == 0).then_some(7))).is_ok()).count();
        settle().await;
        assert!(sent > 1 && host.used(LlmTokens) <= tokens && host.used(LlmCostMicrousd) <= money, "{sent}");
    }
}

/// Only who asked a provider can owe it something.
#[tokio::test]
async fn what_fails_costs_what_its_kind_says() {
    for (error, used) in [
        (LlmError::Unavailable(String::new()), 0),
        (LlmError::NoProvider(String::new()), 0),
        (LlmError::Invalid(String::new()), 0),
        (LlmError::Refused(String::new()), EMPTY),
        (LlmError::NotBegun(Vec::new()), 0),
        (LlmError::AllFailed(Vec::new()), EMPTY),
        (LlmError::SchemaMismatch(String::new()), EMPTY + 10),
    ] {
        let failure = error.clone();
        let mut host = answering(move |_| future::ready(Err(failure.clone()))).open().await;
        complete(&mut host, at_most(10, "")).await.unwrap_err();
        assert_eq!(host.used(LlmTokens), used, "{error:?}");
    }
}

#[tokio::test]
async fn where_less_is_left_the_longest_answer_is_what_is_left() {
    let (fixture, asked) = using(100, (5, 5));
    let mut host = fixture.open().await;
    complete(&mut host, ask("")).await.unwrap();
    complete(&mut host, at_most(50, "")).await.unwrap();
    complete(&mut host, at_most(500, "")).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), [Some(92), Some(50), Some(72)]);
    assert_eq!(held(&host), (30, 0));
    let long = "x".repeat(3 * 62);
    assert_eq!(
        budget_of(&complete(&mut host, ask(&long)).await.unwrap_err()),
        "llm_tokens",
        "no token is left to answer"
    );
    complete(&mut host, ask(&long[3..])).await.unwrap();
    assert_eq!(asked.lock().unwrap()[3], Some(1));
}

#[tokio::test]
async fn requests_at_once_do_not_spend_the_same_tokens() {
    let mut host = answering(|_| future::pending()).limit(LlmTokens, 3 * EMPTY + 50).open().await;
    let first = submit(&mut host, at_most(30, "")).unwrap();
    let _second = submit(&mut host, at_most(30, "")).unwrap();
    assert_eq!(held(&host), (74, 2), "the second has what the first left");
    assert_eq!(budget_of(&submit(&mut host, at_most(1, "")).unwrap_err()), "llm_tokens");
    drop_pending(&mut host, first);
    settle().await;
    submit(&mut host, at_most(1, "")).unwrap();
}

#[tokio::test]
async fn an_answer_beyond_its_reservation_is_paid_for() {
    let (fixture, _) = using(100, (90, 90));
    let mut host = fixture.open().await;
    complete(&mut host, at_most(1, "")).await.unwrap();
    assert_eq!(host.used(LlmTokens), 180);
    let Err(guest::Error::Denied(GuestDenied::Exhausted(denied))) = complete(&mut host, at_most(1, "")).await else {
        panic!()
    };
    assert_eq!((denied.budget.as_str(), denied.limit, denied.used), ("llm_tokens", 100, 180));
}

#[tokio::test]
async fn an_answer_of_absurd_size_breaks_nothing() {
    let (fixture, _) = using(100, (u64::MAX, u64::MAX));
    let mut host = fixture.open().await;
    complete(&mut host, ask("")).await.unwrap();
    assert_eq!(host.used(LlmTokens), u64::MAX);
    assert_eq!(budget_of(&complete(&mut host, ask("")).await.unwrap_err()), "llm_tokens");
    let half = u64::MAX / 2 + 1;
    let mut host =
        answering(move |_| future::ready(Ok(answer(half, 0)))).limit(LlmTokens, Budget::UNLIMITED).open().await;
    for _ in 0..2 {
        complete(&mut host, ask("")).await.unwrap();
    }
    let report = host.finish(Outcome::Completed).await;
    assert_eq!(report.usage["llm"]["input_tokens"], u64::MAX);
}

#[tokio::test]
async fn unlimited_tokens_are_counted_too() {
    let (fixture, asked) = using(Budget::UNLIMITED, (5, 6));
    let mut host = fixture.open().await;
    complete(&mut host, ask("")).await.unwrap();
    assert_eq!((host.used(LlmTokens), asked.lock().unwrap()[0]), (11, None));
}

#[tokio::test]
async fn cost_adds_up_until_its_limit_is_reached() {
    let priced = |cost_microusd| Usage { input_tokens: 1, output_tokens: 1, cost_microusd };
    let mut host = answering(move |request| {
        let cost = request.last_user_text().parse().ok();
        future::ready(Ok(Response { usage: priced(cost), ..answer(1, 1) }))
    })
    .limit(LlmCostMicrousd, 100)
    .open()
    .await;
    complete(&mut host, ask("of unknown price")).await.unwrap();
    complete(&mut host, ask("60")).await.unwrap();
    complete(&mut host, ask("60")).await.unwrap();
    let Err(guest::Error::Denied(GuestDenied::Exhausted(denied))) = complete(&mut host, ask("0")).await else {
        panic!()
    };
    assert_eq!((denied.budget.as_str(), denied.limit, denied.used), ("llm_cost_microusd", 100, 120));
    assert_eq!(budget_of(&embed(&mut host, &["x"]).await.unwrap_err()), "llm_cost_microusd");
    assert_eq!((host.used(LlmRequests), held(&host)), (3, (6, 0)));
}

/// One thing that a guest does.
#[derive(Clone, Debug)]
enum Step {
    Complete(Ask),
    Submit(Ask),
    Stream(Ask),
    Embed(usize),
    Drop(usize),
    Next,
    LetRun,
}

/// A request, and what comes of it: an answer that uses these shares of its reservation, or none.
#[derive(Clone, Debug)]
struct Ask {
    text_bytes: usize,
    max_tokens: Option<u32>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Answer { input: f64, output: f64 },
    Fail,
    Hang,
}

fn ask_strategy() -> impl Strategy<Value = Ask> {
    let share = || prop_oneof![Just(0.0), Just(1.0), 0.0..1.0];
    let fate = prop_oneof![
        4 => (share(), share()).prop_map(|(input, output)| Fate::Answer { input, output }),
        1 => Just(Fate::Fail),
        1 => Just(Fate::Hang),
    ];
    (0_usize..300, proptest::option::of(1_u32..2_000), fate).prop_map(|(text_bytes, max_tokens, fate)| Ask {
        text_bytes,
        max_tokens,
        fate,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // What never answers would make the guest wait: it is submitted instead.
        2 => ask_strategy().prop_map(|ask| if matches!(ask.fate, Fate::Hang) { Step::Submit(ask) } else { Step::Complete(ask) }),
        4 => ask_strategy().prop_map(Step::Submit),
        2 => ask_strategy().prop_map(Step::Stream),
        1 => (0_usize..200).prop_map(Step::Embed),
        2 => (0_usize..8).prop_map(Step::Drop),
        2 => Just(Step::Next),
        2 => Just(Step::LetRun),
    ]
}

fn share(of: u64, share: f64) -> u64 {
    ((of as f64 * share) as u64).min(of)
}

/// Runs the steps, and gives the tokens that count as used in the end, those that the record has, and those that
/// should: what the answers used, and of each request that was sent and never answered its input.
async fn run(limit: u64, steps: Vec<Step>) -> (u64, u64, u64) {
    let fates = Arc::<Mutex<Vec<Fate>>>::default();
    let due = Arc::<Mutex<BTreeMap<usize, u64>>>::default();
    let (told, owed) = (Arc::clone(&fates), Arc::clone(&due));
    let fixture = answering(move |request| {
        // The model names the fate.
        let number = request.model.as_deref().map(|model| model.parse::<usize>().unwrap());
        let fate = number.map(|number| (number, told.lock().unwrap()[number]));
        let (input_estimate, owed) = (request.input_tokens_estimate(), Arc::clone(&owed));
        if let Some((number, _)) = fate {
            owed.lock().unwrap().insert(number, input_estimate);
        }
        async move {
            match fate {
                Some((number, Fate::Answer { input, output })) => {
                    let input = share(input_estimate, input);
                    let output = share(request.max_tokens.map_or(OUTPUT, u64::from), output);
                    owed.lock().unwrap().insert(number, input + output);
                    Ok(answer(input, output))
                }
                Some((_, Fate::Hang)) => future::pending().await,
                Some((_, Fate::Fail)) => Err(LlmError::Refused("no".to_owned())),
                None => Ok(answer(0, 0)),
            }
        }
    });
    let mut host = fixture.limit(LlmTokens, limit).limit(LlmRequestsOpen, 6).open().await;
    let (mut pending, mut streams) = (Vec::new(), Vec::new());
    let named = |Ask { text_bytes, max_tokens, fate }: Ask| {
        let mut fates = fates.lock().unwrap();
        fates.push(fate);
        let model = Some((fates.len() - 1).to_string());
        guest::Request { max_tokens, model, ..ask(&"x".repeat(text_bytes)) }
    };
    for step in steps {
        match step {
            Step::Complete(ask) => drop(complete(&mut host, named(ask)).await),
            Step::Submit(ask) => pending.extend(submit(&mut host, named(ask)).ok()),
            Step::Stream(ask) if !matches!(ask.fate, Fate::Hang) => {
                let input = EMPTY + (ask.text_bytes as u64).div_ceil(3);
                if let Ok(stream) = start_stream(&mut host, named(ask)) {
                    due.lock().unwrap().insert(fates.lock().unwrap().len() - 1, input);
                    streams.push(stream);
                }
            }
            Step::Stream(_) => {}
            Step::Embed(bytes) => {
                if embed(&mut host, &[&"x".repeat(bytes)]).await.is_ok() {
                    *due.lock().unwrap().entry(usize::MAX).or_default() += 2 + (bytes as u64).div_ceil(3);
                }
            }
            Step::Drop(at) if at < pending.len() => drop_pending(&mut host, pending.remove(at)),
            Step::Drop(at) if at < streams.len() => {
                guest::HostCompletion::drop(&mut view(&mut host), streams.remove(at)).unwrap();
            }
            Step::Drop(_) => {}
            Step::Next => {
                if let Some(stream) = streams.first() {
                    next(&mut host, stream).await;
                }
            }
            Step::LetRun => settle().await,
        }
        assert!(host.used(LlmTokens) <= limit);
        assert!(host.used(LlmRequestsOpen) <= 6);
    }
    let report = host.finish(Outcome::Completed).await;
    let recorded = ["input_tokens", "output_tokens"].map(|key| report.usage["llm"][key].as_u64().unwrap());
    let meter = host.meter();
    assert_eq!(recorded.iter().sum::<u64>(), meter.used(LlmTokens), "all is settled before the record is written");
    drop(host);
    assert_eq!(meter.used(LlmRequestsOpen), 0);
    let due = due.lock().unwrap().values().sum();
    (meter.used(LlmTokens), recorded.iter().sum(), due)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_is_used_is_what_the_answers_used_and_what_was_sent_in_vain(limit in 0_u64..6_000, steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (used, recorded, due) = runtime.block_on(run(limit, steps));
        prop_assert_eq!((used, recorded), (due, due));
        prop_assert!(used <= limit);
    }
}
