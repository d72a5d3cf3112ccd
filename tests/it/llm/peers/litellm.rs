//! Against LiteLLM's proxy, a gateway that translates between protocols: asked in four of them, it answers from fixed
//! texts, or asks aimock in OpenAI's, whose journal then has what was understood.

use holm_host_api::llm::{Blob, FinishReason, Part, Tool, ToolResult};

use super::aimock::{HELLO, SCHEMA_OF_CITY, aimock, asked, weather};
use super::*;
use crate::support::output;

const KEY: &str = "sk-test-master";

/// A name, a protocol, and where it is spoken.
type Form = (&'static str, fn() -> ProviderKind, &'static str);

const FORMS: [Form; 4] = [
    ("openai", || ProviderKind::OpenAi, "/v1"),
    ("azure", || ProviderKind::Azure { api_version: "2024-10-21".to_owned(), deployment: None }, ""),
    ("anthropic", || ProviderKind::Anthropic, "/v1"),
    ("gemini", || ProviderKind::Gemini, "/v1beta"),
];

/// The proxy, and what is behind it.
struct Gateway {
    proxy: Peer,
    aimock: Peer,
}

impl Gateway {
    fn start() -> Self {
        let aimock = aimock(None);
        let proxy = Peer::start("/health/liveliness", |port| {
            let mut command = program(&installed("venv/bin/litellm"));
            command.args(["--config", &ours("litellm.yaml"), "--host", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["--num_workers", "1"]).env("AIMOCK", format!("http://127.0.0.1:{}/v1", aimock.port));
            for (setting, value) in
                [("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("LITELLM_TELEMETRY", "False"), ("DISABLE_ADMIN_UI", "True")]
            {
                command.env(setting, value);
            }
            command
        });
        Gateway { proxy, aimock }
    }

    /// This form first, then the provider that needs no network.
    fn settings(&self, (called, kind, base): Form, model: &str, key: &str) -> LlmSettings {
        let provider = self.proxy.provider(called, kind(), base, Credentials::Key(Secret::new(key)));
        let provider = Provider { model: Some(model.to_owned()), ..provider };
        LlmSettings { fallback: Some(vec![target("offline")]), ..settings(vec![provider, Provider::offline()]) }
    }

    fn router(&self, form: Form, model: &str) -> Arc<dyn Router> {
        router(self.settings(form, model, KEY))
    }

    fn understood(&self) -> Value {
        asked(&self.aimock).pop().unwrap()
    }
}

// It takes its time to start, so it is started once for all of this.
#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn a_gateway_understands_each_protocol_and_is_understood() {
    let gateway = Gateway::start();
    for form in FORMS {
        fixed_answers_are_read(&gateway, form).await;
        what_is_asked_is_understood(&gateway, form).await;
        tools_and_schemas_are_understood(&gateway, form).await;
        who_fails_is_tried_again_and_then_the_next(&gateway, form).await;
        a_wrong_key_or_model_is_called_that(&gateway, form).await;
    }
}

async fn fixed_answers_are_read(gateway: &Gateway, form: Form) {
    let host = host(gateway.settings(form, "hello", KEY));
    let answer = output(&host.act(ask("anything")).await);
    assert_eq!((&answer["text"], &answer["provider"]), (&json!("Hello from the mock"), &json!(form.0)));
    assert!(answer["input_tokens"].as_u64() > Some(0) && answer["output_tokens"].as_u64() > Some(0), "{answer}");

    // In Anthropic's and Gemini's form its fixed answers do not come in events, so this goes on to aimock.
    if matches!(form.0, "openai" | "azure") {
        let streamed = stream(&gateway.router(form, "hello"), says("anything")).await.unwrap();
        assert!(
            streamed.texts.len() > 2 && streamed.texts.concat() == "Hello from the mock",
            "{}: {streamed:?}",
            form.0
        );
        // It counts in a last event that has choices, too.
        assert_eq!(streamed.response.usage.output_tokens, 4, "{}", form.0);
    }
    let router = gateway.router(form, "through");
    let whole = Arc::clone(&router).complete(says("say hello")).await.unwrap();
    let streamed = stream(&router, says("say hello")).await.unwrap();
    assert!(streamed.texts.len() > 2 && streamed.texts.concat() == HELLO, "{}: {:?}", form.0, streamed.texts);
    for answer in [&whole, &streamed.response] {
        assert_eq!((answer.text().as_str(), answer.finish_reason), (HELLO, FinishReason::Stop), "{}", form.0);
        assert_eq!((answer.provider.as_str(), answer.attempts.len()), (form.0, 1));
    }
    let counted = |answer: &Response| (answer.usage.input_tokens, answer.usage.output_tokens);
    assert_eq!(counted(&whole), (11, 7), "{}", form.0);
    match form.0 {
        // It says 0 of both there: so they are estimated.
        "gemini" => assert!(counted(&streamed.response).0 > 0 && counted(&streamed.response).1 > 0),
        _ => assert_eq!(counted(&streamed.response), (11, 7), "{}", form.0),
    }
    let host = super::host(gateway.settings(form, "through", KEY));
    let execution = host.act(json!({ "do": "llm_stream", "prompt": "say hello" })).await;
    assert_eq!(output(&execution)["response"]["text"], HELLO, "{}", form.0);
    assert!(execution.record.usage.get("llm_tokens") > Some(0), "{}", form.0);
}

async fn what_is_asked_is_understood(gateway: &Gateway, form: Form) {
    let png = Blob { media_type: "image/png".to_owned(), data: vec![0x89, b'P', b'N', b'G'] };
    let look =
        Message { role: Role::User, parts: vec![Part::Text("look, and say hello".to_owned()), Part::Image(png)] };
    let request = Request {
        messages: vec![Message::text(Role::System, "Be brief."), look],
        max_tokens: Some(77),
        temperature: Some(0.25),
        stop: vec!["END".to_owned(), "STOP".to_owned()],
        ..Request::default()
    };
    let router = gateway.router(form, "through");
    assert_eq!(Arc::clone(&router).complete(request).await.unwrap().provider, form.0);
    let sent = gateway.understood();
    // Azure's newest models take no other.
    let longest = if form.0 == "azure" { "max_completion_tokens" } else { "max_tokens" };
    assert_eq!((&sent["temperature"], &sent[longest]), (&json!(0.25), &json!(77)), "{}: {sent}", form.0);
    assert_eq!(sent["stop"], json!(["END", "STOP"]), "{}: {sent}", form.0);
    assert_eq!(sent["messages"][0]["role"], "system", "{}: {sent}", form.0);
    assert!(sent["messages"][0].to_string().contains("Be brief."), "{}: {sent}", form.0);
    let said = sent["messages"][1]["content"].to_string();
    assert!(said.contains("look, and say hello"), "{}: {said}", form.0);
    // It drops images from requests of Gemini's form, unless their fields are in snake case, which is not documented.
    assert_eq!(said.contains("data:image/png;base64,iVBORw=="), form.0 != "gemini", "{}: {said}", form.0);
}

async fn tools_and_schemas_are_understood(gateway: &Gateway, form: Form) {
    let router = gateway.router(form, "through");
    let schema: Value = serde_json::from_str(SCHEMA_OF_CITY).unwrap();
    let whole = Arc::clone(&router).complete(weather()).await.unwrap();
    let tool: Tool = weather().tools.remove(0);
    let function = gateway.understood()["tools"][0]["function"].clone();
    assert_eq!(
        (&function["name"], &function["description"], &function["parameters"]),
        (&json!(tool.name), &json!(tool.description), &schema),
        "{}",
        form.0
    );
    let streamed = stream(&router, weather()).await.unwrap();
    assert_eq!(streamed.calls.len(), 1, "{}: {streamed:?}", form.0);
    for answer in [whole, streamed.response] {
        assert_eq!(answer.finish_reason, FinishReason::ToolCalls, "{}", form.0);
        let [Part::ToolCall(call)] = answer.parts.as_slice() else { panic!("{}: {answer:?}", form.0) };
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        assert_eq!((call.name.as_str(), arguments), ("get_weather", json!({ "city": "Oslo" })), "{}", form.0);
        let result = ToolResult { call_id: call.id.clone(), content: "snow, -3 degrees".to_owned(), is_error: false };
        let mut request = weather();
        request.messages.push(Message { role: Role::Assistant, parts: answer.parts.clone() });
        request.messages.push(Message { role: Role::Tool, parts: vec![Part::ToolResult(result)] });
        assert_eq!(Arc::clone(&router).complete(request).await.unwrap().text(), "It snows in Oslo.", "{}", form.0);
        let sent = gateway.understood();
        let [.., called, told] = sent["messages"].as_array().unwrap().as_slice() else { panic!("{sent}") };
        assert_eq!(called["tool_calls"][0]["id"], told["tool_call_id"], "{}: {sent}", form.0);
        assert!(told["content"].to_string().contains("snow, -3 degrees"), "{}: {sent}", form.0);
    }

    let request = Request { response_schema: Some(SCHEMA_OF_CITY.to_owned()), ..says("a city as JSON") };
    let answer = Arc::clone(&router).complete(request).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&answer.text()).unwrap(), json!({ "city": "Oslo" }), "{}", form.0);
    let sent = gateway.understood();
    assert!(sent.to_string().contains("city"), "{}: {sent}", form.0);
    let host = host(gateway.settings(form, "json", KEY));
    let action = json!({ "do": "llm_json", "prompt": "a city as JSON", "schema": schema });
    assert_eq!(output(&host.act(action).await), json!({ "city": "Oslo" }), "{}", form.0);
}

async fn who_fails_is_tried_again_and_then_the_next(gateway: &Gateway, form: Form) {
    for (model, prompt, why) in [
        ("busy", "anything", "too many requests (429): litellm.RateLimitError"),
        ("broken", "anything", "the server failed (500): litellm."),
        ("through", "fail with 429", "too many requests (429): litellm.RateLimitError"),
        ("through", "fail with 500", "the server failed (500): litellm."),
    ] {
        // Asked in Gemini's form, it gives the name of the error that it should mock as an answer.
        if form.0 == "gemini" && model != "through" {
            continue;
        }
        let router = gateway.router(form, model);
        for answer in [
            Arc::clone(&router).complete(says(prompt)).await.unwrap(),
            stream(&router, says(prompt)).await.unwrap().response,
        ] {
            let failures = failures(&answer.attempts);
            assert_eq!((answer.provider.as_str(), failures.len()), ("offline", 3), "{}: {answer:?}", form.0);
            assert!(failures.iter().all(|failure| failure.starts_with(why)), "{}, {model}: {failures:?}", form.0);
        }
    }
}

async fn a_wrong_key_or_model_is_called_that(gateway: &Gateway, form: Form) {
    for wrong in ["sk-wrong-Zx81Qq7Lm20Pp55Rr", "wrong-Zx81Qq7Lm20Pp55Rr"] {
        let answer = router(gateway.settings(form, "hello", wrong)).complete(says("anything")).await.unwrap();
        let failures = failures(&answer.attempts);
        assert_eq!((answer.provider.as_str(), failures.len()), ("offline", 1), "{}: {answer:?}", form.0);
        assert!(failures[0].starts_with("the key is not accepted"), "{}: {failures:?}", form.0);
        assert!(!shows(&format!("{answer:?}"), wrong), "{}: {answer:?}", form.0);
    }
    let answer = gateway.router(form, "absent").complete(says("anything")).await.unwrap();
    let failures = failures(&answer.attempts);
    assert_eq!((answer.provider.as_str(), failures.len()), ("offline", 1), "{}: {answer:?}", form.0);
    assert!(failures[0].starts_with("there is no such model"), "{}: {failures:?}", form.0);
}
