//! Bedrock's requests, judged by AWS's own code for Python: aimock does not look at signatures, and drops much.

use holm_host_api::llm::{Blob, Part, Tool, ToolResult};

use super::aimock::SCHEMA_OF_CITY;
use super::*;

const KEY: (&str, &str) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");

fn judge() -> Peer {
    Peer::start("/", |port| {
        let mut command = program(&installed("venv/bin/python"));
        command.args([&ours("converse.py"), &port.to_string(), KEY.0, KEY.1, "eu-central-1"]);
        command
    })
}

fn bedrock(peer: &Peer, (id, secret): (&str, &str), region: &str) -> Arc<dyn Router> {
    let credentials =
        Credentials::Aws { access_key_id: id.to_owned(), secret_access_key: Secret::new(secret), session_token: None };
    let kind = ProviderKind::Bedrock { region: region.to_owned() };
    // The name has what is encoded in a path, and once more in what is signed.
    let model = Some("eu.amazon.nova-lite-v1:0/x y".to_owned());
    router(settings(vec![Provider { model, ..peer.provider("bedrock", kind, "", credentials) }]))
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn aws_reads_what_is_asked_and_accepts_how_it_is_signed() {
    let peer = judge();
    let router = bedrock(&peer, KEY, "eu-central-1");
    let blob = |media_type: &str, data: &[u8]| Blob { media_type: media_type.to_owned(), data: data.to_vec() };
    let look = vec![
        Part::Text("look: äöü".to_owned()),
        Part::Image(blob("image/png", &[0x89, b'P', b'N', b'G'])),
        Part::Document(blob("application/pdf", b"%PDF")),
    ];
    let call = ToolCall {
        id: "call_1".to_owned(),
        name: "get_weather".to_owned(),
        arguments: "{\"city\":\"Oslo\"}".to_owned(),
    };
    let result = ToolResult { call_id: "call_1".to_owned(), content: "no idea".to_owned(), is_error: true };
    let tool = Tool {
        name: "get_weather".to_owned(),
        description: "The weather of a city.".to_owned(),
        parameters_schema: SCHEMA_OF_CITY.to_owned(),
    };
    let request = Request {
        messages: vec![
            Message::text(Role::System, "Be brief."),
            Message { role: Role::User, parts: look },
            Message { role: Role::Assistant, parts: vec![Part::ToolCall(call)] },
            Message { role: Role::Tool, parts: vec![Part::ToolResult(result)] },
        ],
        max_tokens: Some(77),
        temperature: Some(0.25),
        stop: vec!["END".to_owned()],
        tools: vec![tool],
        ..Request::default()
    };
    let answer = Arc::clone(&router).complete(request).await.unwrap();
    let understood: Value = serde_json::from_str(&answer.text()).unwrap();
    let schema: Value = serde_json::from_str(SCHEMA_OF_CITY).unwrap();
    let document = json!({ "format": "pdf", "name": "document-1", "source": { "bytes": "25504446" } });
    let called = json!({ "toolUseId": "call_1", "name": "get_weather", "input": { "city": "Oslo" } });
    let failed = json!({ "toolUseId": "call_1", "content": [{ "text": "no idea" }], "status": "error" });
    let spec =
        json!({ "name": "get_weather", "description": "The weather of a city.", "inputSchema": { "json": schema } });
    let expected = json!({
        "modelId": "eu.amazon.nova-lite-v1:0/x y",
        "system": [{ "text": "Be brief." }],
        "messages": [
            { "role": "user", "content": [
                { "text": "look: äöü" },
                { "image": { "format": "png", "source": { "bytes": "89504e47" } } },
                { "document": document },
            ] },
            { "role": "assistant", "content": [{ "toolUse": called }] },
            { "role": "user", "content": [{ "toolResult": failed }] },
        ],
        "inferenceConfig": { "maxTokens": 77, "temperature": 0.25, "stopSequences": ["END"] },
        "toolConfig": { "tools": [{ "toolSpec": spec }] },
    });
    assert_eq!(understood, expected);

    // The answer's schema is a tool that must be used.
    let request = Request { response_schema: Some(SCHEMA_OF_CITY.to_owned()), ..says("a city as JSON") };
    let answer = router.complete(request).await.unwrap();
    let understood: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(understood["toolConfig"]["toolChoice"], json!({ "any": {} }));
    assert_eq!(understood["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"], schema);
}

#[tokio::test]
#[ignore = "needs tests/peers/install.sh"]
async fn aws_refuses_another_key_and_another_region() {
    let peer = judge();
    let secret = "Zx81Qq7Lm20Pp55RrEXAMPLEKEYZx81Qq7Lm20Pp";
    for router in [bedrock(&peer, (KEY.0, secret), "eu-central-1"), bedrock(&peer, KEY, "us-east-1")] {
        let Err(LlmError::AllFailed(attempts) | LlmError::NotBegun(attempts)) = router.complete(says("anything")).await
        else {
            panic!("it was accepted")
        };
        let failures = failures(&attempts);
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].starts_with("the key is not accepted (403): "), "{failures:?}");
        assert!(!shows(failures[0], secret) && !shows(failures[0], KEY.1), "{failures:?}");
    }
}
