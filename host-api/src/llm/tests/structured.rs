//! Answers that must match a schema, from a router that leaves it to the room to look.

use std::collections::VecDeque;

use super::*;
use crate::Budget;

/// Says these one after the other, then the last one again; keeps what it was asked.
#[derive(Clone)]
struct Says {
    answers: Arc<Mutex<VecDeque<Response>>>,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl LlmBackend for Says {
    fn open(&self, _: &Arc<Scope>) -> Result<Arc<dyn Router>, LlmError> {
        Ok(Arc::new(self.clone()))
    }
}

impl Router for Says {
    fn complete(self: Arc<Self>, request: Request) -> BoxFuture<'static, Result<Response, LlmError>> {
        self.asked.lock().unwrap().push(request);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        future::ready(Ok(answer.unwrap())).boxed()
    }

    fn stream(self: Arc<Self>, _: Request) -> BoxStream<'static, Result<Delta, LlmError>> {
        unreachable!("an answer that must match is not shown before it is whole")
    }

    fn embed(self: Arc<Self>, _: Option<String>, _: Vec<String>) -> BoxFuture<'static, Result<Embeddings, LlmError>> {
        unreachable!()
    }

    fn repairs_max(&self) -> Option<u32> {
        Some(2)
    }
}

fn says(answers: &[&str]) -> (Fixture, Arc<Mutex<Vec<Request>>>) {
    let attempt = Attempt { provider: "test".into(), model: "test-1".into(), latency_ms: 1, failure: None };
    let answers = answers.iter().map(|text| Response {
        parts: vec![Part::Text((*text).to_owned())],
        attempts: vec![attempt.clone()],
        ..answer(10, 5)
    });
    let says = Says { answers: Arc::new(Mutex::new(answers.collect())), asked: Arc::default() };
    let asked = Arc::clone(&says.asked);
    (Fixture::new().with(Llm::new(Arc::new(says))), asked)
}

fn ask_for_number() -> guest::Request {
    guest::Request { response_schema: Some(r#"{"type":"object","required":["n"]}"#.to_owned()), ..ask("") }
}

#[tokio::test]
async fn what_matches_is_given() {
    let (fixture, asked) = says(&["```json\n{\"n\": 1}\n```"]);
    let mut host = fixture.open().await;
    let response = complete(&mut host, ask_for_number()).await.unwrap();
    assert!(matches!(&response.parts[..], [guest::Part::Text(text)] if text == "{\"n\": 1}"));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_does_not_is_asked_for_again_and_paid_for() {
    let (fixture, asked) = says(&["nonsense", "{}", "{\"n\": 3}"]);
    let mut host = fixture.open().await;
    let response = complete(&mut host, ask_for_number()).await.unwrap();
    assert_eq!((response.usage.input_tokens, response.usage.output_tokens), (30, 15));
    assert_eq!((host.used(LlmTokens), host.used(LlmRequests)), (45, 1));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.iter().map(|request| request.messages.len()).collect::<Vec<_>>(), [1, 3, 5]);
    let again = asked[2].last_user_text();
    assert!(again.contains("\"n\" is a required property"), "{again}");
    let usage = host.finish(Outcome::Completed).await.usage;
    assert_eq!((&usage["llm"]["attempts"], &usage["llm"]["models"][0]["requests"]), (&json!(3), &json!(1)));
}

#[tokio::test]
async fn there_is_a_limit() {
    let (fixture, asked) = says(&["nonsense"]);
    let mut host = fixture.open().await;
    let error = complete(&mut host, ask_for_number()).await.unwrap_err();
    assert!(
        matches!(error, guest::Error::SchemaMismatch(why) if why.starts_with("test/test-1, asked 3 times: it is not JSON"))
    );
    assert_eq!((asked.lock().unwrap().len(), host.used(LlmTokens)), (3, 45), "three answers, and all are paid for");
}

#[tokio::test]
async fn another_round_is_taken_from_the_budget_first() {
    let (fixture, asked) = says(&["nonsense"]);
    let mut host = fixture.limit(LlmTokens, 60).open().await;
    assert_eq!(budget_of(&complete(&mut host, ask_for_number()).await.unwrap_err()), "llm_tokens");
    assert_eq!((asked.lock().unwrap().len(), host.used(LlmTokens)), (1, 15));
}

/// The first round takes all that there is, and gives back what it did not use.
#[tokio::test]
async fn what_a_round_did_not_use_is_there_for_the_next() {
    let (fixture, asked) = says(&["nonsense", "{\"n\": 1}"]);
    let mut host = fixture.limit(LlmTokens, 500).open().await;
    complete(&mut host, ask_for_number()).await.unwrap();
    assert_eq!((asked.lock().unwrap().len(), host.used(LlmTokens)), (2, 30));
    let usage = host.finish(Outcome::Completed).await.usage;
    assert_eq!((&usage["llm"]["input_tokens"], &usage["llm"]["models"][0]["output_tokens"]), (&json!(20), &json!(10)));
}

#[tokio::test]
async fn a_schema_that_is_none_costs_nothing_but_fuel() {
    let (fixture, asked) = says(&["{}"]);
    let mut host = fixture.limit(LlmTokens, Budget::UNLIMITED).open().await;
    let schema = Some("{\"type\": 5}".to_owned());
    let error = complete(&mut host, guest::Request { response_schema: schema, ..ask("") }).await.unwrap_err();
    assert!(matches!(error, guest::Error::Denied(GuestDenied::Invalid(_))), "{error:?}");
    assert_eq!((asked.lock().unwrap().len(), host.used(LlmTokens)), (0, 0));
}

#[tokio::test]
async fn an_answer_that_was_cut_is_not_asked_for_again() {
    let cut = Response { finish_reason: FinishReason::Length, ..answer(1, 1) };
    let says = Says { answers: Arc::new(Mutex::new([cut].into())), asked: Arc::default() };
    let mut host = Fixture::new().with(Llm::new(Arc::new(says.clone()))).open().await;
    let error = complete(&mut host, ask_for_number()).await.unwrap_err();
    assert!(matches!(error, guest::Error::SchemaMismatch(why) if why.contains("max_tokens")));
    assert_eq!(says.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_stream_gives_it_once_it_is_known_to_match() {
    let (fixture, asked) = says(&["nonsense", "{\"n\": 1}"]);
    let mut host = fixture.open().await;
    let completion = view(&mut host).start_stream(ask_for_number()).unwrap().unwrap();
    let mut given = Vec::new();
    while let Some(delta) = view(&mut host).next(lend(&completion)).await.unwrap() {
        given.push(match delta.unwrap() {
            guest::Delta::Text(text) => text,
            guest::Delta::Done(response) => format!("done, {} tokens", response.usage.output_tokens),
            guest::Delta::ToolCall(_) => panic!(),
        });
    }
    assert_eq!(given, ["{\"n\": 1}", "done, 10 tokens"]);
    assert_eq!((asked.lock().unwrap().len(), host.used(LlmTokens)), (2, 30));
}
