//! Against aimock, which speaks as each provider does and keeps what it was asked.

use holm_host_api::llm::{Blob, FinishReason, Part, Tool, ToolResult};

use super::*;
use crate::support::output;

/// One way to ask aimock.
pub(super) struct Form {
    pub(super) name: &'static str,
    kind: fn() -> ProviderKind,
    /// Where it is spoken.
    base: &'static str,
    /// What is asked there comes into the journal as it was sent. Of the others it keeps what OpenAI's form has too, but
    /// no stop sequences and no images.
    verbatim: bool,
}

pub(super) const FORMS: [Form; 6] = [
    Form { name: "openai", kind: || ProviderKind::OpenAi, base: "/v1", verbatim: true },
    Form { name: "azure", kind: azure, base: "", verbatim: true },
    Form { name: "ollama", kind: || ProviderKind::Ollama, base: "/v1", verbatim: true },
    Form { name: "anthropic", kind: || ProviderKind::Anthropic, base: "/v1", verbatim: false },
    Form { name: "gemini", kind: || ProviderKind::Gemini, base: "/v1beta", verbatim: false },
    Form { name: "bedrock", kind: bedrock, base: "", verbatim: false },
];

fn azure() -> ProviderKind {
    ProviderKind::Azure { api_version: "2024-10-21".to_owned(), deployment: None }
}

fn bedrock() -> ProviderKind {
    ProviderKind::Bedrock { region: "eu-central-1".to_owned() }
}

pub(super) fn aimock(keys: Option<&str>) -> Peer {
    Peer::start("/ready", |port| {
        let mut command = program("node");
        command.arg(installed("node_modules/@copilotkit/aimock/dist/cli.js"));
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-f", &ours("aimock.json")]);
        command.args(["--strict", "--metrics", "--validate-on-load"]);
        command.envs(keys.map(|keys| ("AIMOCK_API_KEYS", keys)));
        command
    })
}

impl Form {
    pub(super) fn provider(&self, peer: &Peer) -> Provider {
        let credentials = match self.name {
            // Signed, as AWS wants it.
            "bedrock" => Credentials::Aws {
                access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
                secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
                session_token: None,
            },
            _ => Credentials::Key(Secret::new("sk-of-alice")),
        };
        self.provider_with(peer, credentials)
    }

    pub(super) fn provider_with(&self, peer: &Peer, credentials: Credentials) -> Provider {
        peer.provider(self.name, (self.kind)(), self.base, credentials)
    }
}

/// The bodies of what was asked, in OpenAI's form.
pub(super) fn asked(peer: &Peer) -> Vec<Value> {
    let journal: Vec<Value> = serde_json::from_str(&peer.get("/__aimock/journal")).unwrap();
    journal.into_iter().map(|mut entry| entry["body"].take()).collect()
}

fn last_asked(peer: &Peer) -> Value {
    asked(peer).pop().unwrap()
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn text_comes_whole_and_in_pieces() {
    let peer = aimock(None);
    for form in FORMS {
        let router = router(settings(vec![form.provider(&peer)]));
        let whole = Arc::clone(&router).complete(says("say hello")).await.unwrap();
        let streamed = stream(&router, says("say hello")).await.unwrap();
        assert!(streamed.texts.len() > 2, "{}: {:?}", form.name, streamed.texts);
        assert_eq!(streamed.texts.concat(), HELLO, "{}", form.name);
        for answer in [whole, streamed.response] {
            assert_eq!(answer.text(), HELLO, "{}", form.name);
            assert_eq!((answer.provider.as_str(), answer.model.as_str()), (form.name, "the-model"));
            assert_eq!(answer.finish_reason, FinishReason::Stop, "{}", form.name);
            assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens), (11, 7), "{}", form.name);
            assert_eq!(answer.attempts.len(), 1, "{}", form.name);
        }
        let cut = Arc::clone(&router).complete(says("go on for long")).await.unwrap();
        assert_eq!(cut.finish_reason, FinishReason::Length, "{}", form.name);
    }
}

pub(super) const HELLO: &str = "Hello from a server that nobody here wrote: äöü and 😀.";

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn guests_are_answered_whole_and_in_pieces() {
    let peer = aimock(None);
    for form in FORMS {
        let host = host(settings(vec![form.provider(&peer)]));
        let answer = output(&host.act(ask("say hello")).await);
        assert_eq!((&answer["text"], &answer["provider"]), (&json!(HELLO), &json!(form.name)));
        let streamed = output(&host.act(json!({ "do": "llm_stream", "prompt": "say hello" })).await);
        let texts: Vec<_> = streamed["deltas"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert!(texts.len() > 2 && texts.concat() == HELLO, "{}: {texts:?}", form.name);
        assert_eq!(streamed["response"]["output_tokens"], 7, "{}", form.name);
    }
}

pub(super) fn weather() -> Request {
    let tool = Tool {
        name: "get_weather".to_owned(),
        description: "The weather of a city.".to_owned(),
        parameters_schema: SCHEMA_OF_CITY.to_owned(),
    };
    Request { tools: vec![tool], ..says("tell me the weather") }
}

pub(super) const SCHEMA_OF_CITY: &str =
    r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn a_tool_is_asked_for_and_its_result_is_read() {
    let peer = aimock(None);
    for form in FORMS {
        let router = router(settings(vec![form.provider(&peer)]));
        let whole = Arc::clone(&router).complete(weather()).await.unwrap();
        let tools = &last_asked(&peer)["tools"];
        assert_eq!(tools[0]["function"]["name"], "get_weather", "{}: {tools}", form.name);
        assert_eq!(tools[0]["function"]["description"], "The weather of a city.", "{}", form.name);
        // What Gemini calls `parametersJsonSchema` the journal does not keep.
        if form.name != "gemini" {
            let schema: Value = serde_json::from_str(SCHEMA_OF_CITY).unwrap();
            assert_eq!(tools[0]["function"]["parameters"], schema, "{}", form.name);
        }
        let streamed = stream(&router, weather()).await.unwrap();
        assert_eq!(streamed.calls.len(), 1, "{}", form.name);
        for answer in [whole, streamed.response] {
            // Where Gemini says `STOP`, aimock says `FUNCTION_CALL`, which Gemini does not have.
            let reason = if form.name == "gemini" { FinishReason::Other } else { FinishReason::ToolCalls };
            assert_eq!(answer.finish_reason, reason, "{}", form.name);
            let [Part::ToolCall(call)] = answer.parts.as_slice() else { panic!("{}: {answer:?}", form.name) };
            let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
            assert_eq!((call.name.as_str(), arguments), ("get_weather", json!({ "city": "Oslo" })), "{}", form.name);

            let result =
                ToolResult { call_id: call.id.clone(), content: "snow, -3 degrees".to_owned(), is_error: false };
            let mut request = weather();
            request.messages.push(Message { role: Role::Assistant, parts: answer.parts.clone() });
            request.messages.push(Message { role: Role::Tool, parts: vec![Part::ToolResult(result)] });
            let told = Arc::clone(&router).complete(request.clone()).await.unwrap();
            assert_eq!(told.text(), "It snows in Oslo.", "{}", form.name);
            let messages = last_asked(&peer)["messages"].as_array().unwrap().clone();
            let [.., called, told] = messages.as_slice() else { panic!("{messages:?}") };
            assert_eq!(called["tool_calls"][0]["id"], json!(call.id), "{}", form.name);
            assert_eq!(told["tool_call_id"], json!(call.id), "{}", form.name);
            assert!(told["content"].as_str().unwrap().contains("snow, -3 degrees"), "{}: {told}", form.name);
            assert_eq!(stream(&router, request).await.unwrap().texts.concat(), "It snows in Oslo.", "{}", form.name);
        }
    }
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn an_answer_is_written_to_its_schema() {
    let peer = aimock(None);
    for form in FORMS {
        let router = router(settings(vec![form.provider(&peer)]));
        let request = Request { response_schema: Some(SCHEMA_OF_CITY.to_owned()), ..says("a city as JSON") };
        let whole = Arc::clone(&router).complete(request.clone()).await.unwrap();
        let sent = last_asked(&peer);
        let streamed = stream(&router, request).await.unwrap();
        for answer in [whole, streamed.response] {
            let city: Value = serde_json::from_str(&answer.text()).unwrap();
            assert_eq!((city, answer.finish_reason), (json!({ "city": "Oslo" }), FinishReason::Stop), "{}", form.name);
        }
        match form.name {
            "bedrock" => assert_eq!(sent["tools"][0]["function"]["parameters"]["required"], json!(["city"])),
            "anthropic" | "gemini" => {}
            _ => assert_eq!(
                sent["response_format"]["json_schema"]["schema"]["required"],
                json!(["city"]),
                "{}: {sent}",
                form.name
            ),
        }
        // The same through the guest, which has it checked.
        let schema: Value = serde_json::from_str(SCHEMA_OF_CITY).unwrap();
        let host = host(settings(vec![form.provider(&peer)]));
        let action = json!({ "do": "llm_json", "prompt": "a city as JSON", "schema": schema });
        assert_eq!(output(&host.act(action).await), json!({ "city": "Oslo" }), "{}", form.name);
    }
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn what_is_asked_arrives_as_it_was_asked() {
    let peer = aimock(None);
    let png = Blob { media_type: "image/png".to_owned(), data: vec![0x89, b'P', b'N', b'G'] };
    for form in FORMS {
        let router = router(settings(vec![form.provider(&peer)]));
        let look = Message {
            role: Role::User,
            parts: vec![Part::Text("look, and say hello".to_owned()), Part::Image(png.clone())],
        };
        let request = Request {
            messages: vec![Message::text(Role::System, "Be brief."), look],
            max_tokens: Some(77),
            temperature: Some(0.25),
            stop: vec!["END".to_owned(), "STOP".to_owned()],
            ..Request::default()
        };
        Arc::clone(&router).complete(request.clone()).await.unwrap();
        stream(&router, request).await.unwrap();
        let seen = asked(&peer);
        for (sent, streams) in seen[seen.len() - 2..].iter().zip([false, true]) {
            assert_eq!(sent["stream"].as_bool().unwrap_or(false), streams, "{}: {sent}", form.name);
            assert_eq!(sent["temperature"], 0.25, "{}: {sent}", form.name);
            // Azure's newest models take no other.
            let longest = if form.name == "azure" { "max_completion_tokens" } else { "max_tokens" };
            assert_eq!(sent[longest], 77, "{}: {sent}", form.name);
            assert_eq!(sent["model"], "the-model", "{}: {sent}", form.name);
            assert_eq!(sent["messages"][0], json!({ "role": "system", "content": "Be brief." }), "{}", form.name);
            let said = &sent["messages"][1]["content"];
            if form.verbatim {
                assert_eq!(sent["stop"], json!(["END", "STOP"]), "{}: {sent}", form.name);
                assert_eq!(said[0]["text"], "look, and say hello", "{}: {said}", form.name);
                assert_eq!(said[1]["image_url"]["url"], "data:image/png;base64,iVBORw==", "{}: {said}", form.name);
            } else {
                assert_eq!(said, "look, and say hello", "{}", form.name);
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn texts_become_vectors() {
    let peer = aimock(None);
    for form in FORMS.iter().filter(|form| form.verbatim) {
        let router = router(settings(vec![form.provider(&peer)]));
        let inputs = vec!["one text".to_owned(), "one text more".to_owned()];
        let embedded = router.embed(Some("the-model".to_owned()), inputs).await.unwrap();
        assert_eq!(embedded.vectors, [[0.25, -0.5, 1.0], [0.25, -0.5, 1.0]], "{}", form.name);
        assert_eq!(embedded.provider, form.name);
        assert_eq!(last_asked(&peer)["embeddingInput"], "one text one text more", "{}", form.name);
    }
}
