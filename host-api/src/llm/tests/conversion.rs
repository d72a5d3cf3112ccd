//! What the guest says reaches the backend, and what the backend says reaches the guest.

use super::*;

fn blob(media_type: &str) -> guest::Blob {
    guest::Blob { media_type: media_type.to_owned(), data: vec![1, 2, 3] }
}

fn guest_parts() -> Vec<guest::Part> {
    vec![
        guest::Part::Text("text".to_owned()),
        guest::Part::Image(blob("image/png")),
        guest::Part::ImageUrl("https://example.org/x.png".to_owned()),
        guest::Part::Document(blob("application/pdf")),
        guest::Part::ToolCall(guest::ToolCall {
            id: "id".to_owned(),
            name: "name".to_owned(),
            arguments: "{}".to_owned(),
        }),
        guest::Part::ToolResult(guest::ToolResult {
            call_id: "id".to_owned(),
            content: "21".to_owned(),
            is_error: true,
        }),
    ]
}

fn parts() -> Vec<Part> {
    let blob = |media_type: &str| Blob { media_type: media_type.to_owned(), data: vec![1, 2, 3] };
    vec![
        Part::Text("text".to_owned()),
        Part::Image(blob("image/png")),
        Part::ImageUrl("https://example.org/x.png".to_owned()),
        Part::Document(blob("application/pdf")),
        Part::ToolCall(ToolCall { id: "id".to_owned(), name: "name".to_owned(), arguments: "{}".to_owned() }),
        Part::ToolResult(ToolResult { call_id: "id".to_owned(), content: "21".to_owned(), is_error: true }),
    ]
}

/// What the backend is asked for each of these requests.
async fn asked(requests: Vec<guest::Request>) -> Vec<Request> {
    let seen = Arc::<Mutex<Vec<Request>>>::default();
    let see = Arc::clone(&seen);
    let fixture = answering(move |request| {
        see.lock().unwrap().push(request);
        future::ready(Ok(answer(0, 0)))
    });
    let mut host = fixture.open().await;
    for request in requests {
        complete(&mut host, request).await.unwrap();
    }
    std::mem::take(&mut *seen.lock().unwrap())
}

#[tokio::test]
async fn a_request_arrives_whole() {
    let roles = [guest::Role::System, guest::Role::User, guest::Role::Assistant, guest::Role::Tool];
    let message = |role| guest::Message { role, parts: guest_parts() };
    let tool = guest::Tool {
        name: "weather".to_owned(),
        description: "Tells it.".to_owned(),
        parameters_schema: "{\"type\":\"object\"}".to_owned(),
    };
    let request = guest::Request {
        messages: roles.into_iter().map(message).collect(),
        tier: Some(guest::Tier::Balanced),
        model: Some("big".to_owned()),
        max_tokens: Some(77),
        temperature: Some(0.5),
        stop: vec!["END".to_owned()],
        tools: vec![tool],
        response_schema: Some("{}".to_owned()),
    };
    let expected = Request {
        messages: [Role::System, Role::User, Role::Assistant, Role::Tool]
            .map(|role| Message { role, parts: parts() })
            .into(),
        tier: Some(Tier::Balanced),
        model: Some("big".to_owned()),
        max_tokens: Some(77),
        temperature: Some(0.5),
        stop: vec!["END".to_owned()],
        tools: vec![Tool {
            name: "weather".to_owned(),
            description: "Tells it.".to_owned(),
            parameters_schema: "{\"type\":\"object\"}".to_owned(),
        }],
        response_schema: Some("{}".to_owned()),
    };
    let tiers = [guest::Tier::Fast, guest::Tier::Quality].map(|tier| guest::Request { tier: Some(tier), ..ask("x") });
    let mut seen = asked([vec![request], tiers.into()].concat()).await;
    assert_eq!(seen.remove(0), expected);
    assert_eq!(seen.iter().map(|request| request.tier).collect::<Vec<_>>(), [Some(Tier::Fast), Some(Tier::Quality)]);
    assert_eq!(
        (seen[0].max_tokens, seen[0].temperature, &seen[0].model),
        (Some(4096), None, &None),
        "what was not said is not there, but for what was reserved"
    );
}

#[tokio::test]
async fn an_answer_arrives_whole() {
    let mut host = answering(async |_| {
        Ok(Response {
            parts: parts(),
            finish_reason: FinishReason::ContentFilter,
            provider: "p".to_owned(),
            model: "m".to_owned(),
            usage: Usage { input_tokens: 1, output_tokens: 2, cost_microusd: Some(3) },
            cached: true,
            attempts: vec![Attempt {
                provider: "q".to_owned(),
                model: "n".to_owned(),
                latency_ms: 4,
                failure: Some("5".to_owned()),
            }],
        })
    })
    .open()
    .await;
    let response = complete(&mut host, ask("x")).await.unwrap();
    assert_eq!(response.parts.into_iter().map(Part::from).collect::<Vec<_>>(), parts());
    assert_eq!((response.provider.as_str(), response.model.as_str(), response.cached), ("p", "m", true));
    let guest::Usage { input_tokens, output_tokens, cost_microusd } = response.usage;
    assert_eq!((input_tokens, output_tokens, cost_microusd), (1, 2, Some(3)));
    let attempt = &response.attempts[0];
    assert_eq!((attempt.provider.as_str(), attempt.model.as_str(), attempt.latency_ms), ("q", "n", 4));
    assert_eq!(attempt.failure.as_deref(), Some("5"));
    assert!(matches!(response.finish_reason, guest::FinishReason::ContentFilter));
}

#[tokio::test]
async fn every_reason_to_stop_has_its_own_word() {
    for (reason, expected) in [
        (FinishReason::Stop, guest::FinishReason::Stop),
        (FinishReason::Length, guest::FinishReason::Length),
        (FinishReason::ToolCalls, guest::FinishReason::ToolCalls),
        (FinishReason::ContentFilter, guest::FinishReason::ContentFilter),
        (FinishReason::Other, guest::FinishReason::Other),
    ] {
        let mut host =
            answering(move |_| future::ready(Ok(Response { finish_reason: reason, ..answer(0, 0) }))).open().await;
        assert_eq!(complete(&mut host, ask("x")).await.unwrap().finish_reason, expected);
    }
}

#[tokio::test]
async fn every_failure_is_its_own_value() {
    let failed =
        Attempt { provider: "p".to_owned(), model: "m".to_owned(), latency_ms: 1, failure: Some("503".to_owned()) };
    let why = || "why".to_owned();
    for error in [
        LlmError::Unavailable(why()),
        LlmError::Invalid(why()),
        LlmError::NoProvider(why()),
        LlmError::SchemaMismatch(why()),
        LlmError::Refused(why()),
        LlmError::AllFailed(vec![failed]),
    ] {
        let said = error.clone();
        let mut host = answering(move |_| future::ready(Err(said.clone()))).open().await;
        let seen = complete(&mut host, ask("x")).await.unwrap_err();
        let same = match (&error, &seen) {
            (LlmError::Unavailable(_), guest::Error::Denied(GuestDenied::Unavailable(why)))
            | (LlmError::Invalid(_), guest::Error::Denied(GuestDenied::Invalid(why)))
            | (LlmError::NoProvider(_), guest::Error::NoProvider(why))
            | (LlmError::SchemaMismatch(_), guest::Error::SchemaMismatch(why))
            | (LlmError::Refused(_), guest::Error::Refused(why)) => why == "why",
            (LlmError::AllFailed(_), guest::Error::AllFailed(attempts)) => {
                attempts.len() == 1 && attempts[0].failure.as_deref() == Some("503")
            }
            _ => false,
        };
        assert!(same, "{error:?} became {seen:?}");
        assert_eq!((held(&host).1, host.shape().as_str()), (0, "execution open(llm.complete error())"));
        assert_eq!(host.tree().children[0].error, Some(error.to_string()));
        assert_eq!(host.journal(), [format!("llm.complete: {error}")]);
    }
}
