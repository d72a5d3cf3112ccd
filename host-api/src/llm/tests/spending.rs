//! Tokens are reserved before a request and settled after it; cost is added up.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::Budget;

/// What the input of `ask("")` is estimated at.
const EMPTY: u64 = 8;
/// What is reserved for the answer where the guest does not say.
const OUTPUT: u64 = 1_024;

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
        assert_eq!(held(&host), (0, 0));
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

/// Runs the steps, and gives the tokens that count as used in the end and those that the answers used.
async fn run(limit: u64, steps: Vec<Step>) -> (u64, u64) {
    let fates = Arc::<Mutex<Vec<Fate>>>::default();
    let answered = Arc::<AtomicU64>::default();
    let (told, sum) = (Arc::clone(&fates), Arc::clone(&answered));
    let fixture = answering(move |request| {
        // The model names the fate.
        let fate = request.model.as_deref().map(|model| told.lock().unwrap()[model.parse::<usize>().unwrap()]);
        let sum = Arc::clone(&sum);
        async move {
            match fate {
                Some(Fate::Answer { input, output }) => {
                    let input = share(request.input_tokens_estimate(), input);
                    let output = share(request.max_tokens.map_or(OUTPUT, u64::from), output);
                    sum.fetch_add(input + output, Ordering::Relaxed);
                    Ok(answer(input, output))
                }
                Some(Fate::Hang) => future::pending().await,
                Some(Fate::Fail) => Err(LlmError::Refused("no".to_owned())),
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
                streams.extend(start_stream(&mut host, named(ask)).ok())
            }
            Step::Stream(_) => {}
            Step::Embed(bytes) => {
                if embed(&mut host, &[&"x".repeat(bytes)]).await.is_ok() {
                    answered.fetch_add((bytes as u64).div_ceil(4), Ordering::Relaxed);
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
    host.finish(Outcome::Completed).await;
    let meter = host.meter();
    drop(host);
    assert_eq!(meter.used(LlmRequestsOpen), 0);
    (meter.used(LlmTokens), answered.load(Ordering::Relaxed))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_is_used_is_what_the_answers_used(limit in 0_u64..6_000, steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (used, answered) = runtime.block_on(run(limit, steps));
        prop_assert_eq!(used, answered);
        prop_assert!(used <= limit);
    }
}
