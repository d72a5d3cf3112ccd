use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn config(text: &str) -> Result<RuntimeConfig, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runtime.toml");
    fs::write(&path, text).unwrap();
    RuntimeConfig::read(&path)
}

fn settings(text: &str) -> Result<LlmSettings, String> {
    config(text).and_then(|config| config.llm_settings(&Secrets::default())).map_err(|error| error.what)
}

fn secrets(text: &str, mode: u32) -> Result<Secrets, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    Secrets::read(&path).map_err(|error| error.what)
}

#[test]
fn nothing_is_the_offline_provider() {
    let settings = settings("").unwrap();
    assert_eq!(settings.providers.len(), 1);
    assert_eq!(settings.providers.first().unwrap().kind, ProviderKind::Offline);
}

#[test]
fn all_that_a_file_can_say() {
    let settings = settings(
        r#"
        [llm]
        provider = "openai"
        model = "gpt-4o-mini"
        fallback = ["local/llama3", "anthropic/claude-haiku-4-5"]
        tier = "fast"
        embedding = "openai/text-embedding-3-small"
        models_allowed = ["openai/*", "local/*", "anthropic/*"]
        cache = "on"
        cache_ttl_ms = 5000
        repairs_max = 1
        tiers = { fast = "groq/llama-3.1-8b-instant", quality = "anthropic/claude-opus-4-5" }
        retries = { max = 1, base_ms = 10, wait_ms_max = 100 }
        timeouts = { connect_ms = 1000, first_token_ms = 2000, answer_ms = 3000 }
        limits = { llm_tokens = 1000, llm_cost_microusd = 5 }

        [[providers]]
        name = "local"
        kind = "openai"
        url = "http://127.0.0.1:8000/v1/"
        models = ["llama*"]

        [[providers]]
        name = "eu"
        kind = "azure"
        url = "https://eu.openai.azure.com"
        api_version = "2024-10-21"
        deployment = "four-o"

        [[providers]]
        name = "bedrock"
        region = "eu-central-1"
        "#,
    )
    .unwrap();
    let names: Vec<_> = settings.providers.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(names, ["local", "eu", "bedrock", "anthropic", "groq", "openai"]);
    let urls: Vec<_> = settings.providers.iter().map(|provider| provider.url.as_str()).collect();
    assert_eq!(urls.first(), Some(&"http://127.0.0.1:8000/v1"));
    assert_eq!(urls.get(2), Some(&"https://bedrock-runtime.eu-central-1.amazonaws.com/"));
    assert_eq!(settings.cache, CacheMode::On { ttl_ms: 5_000 });
    assert_eq!(settings.limits, RouterLimits { tokens: 1_000, cost_microusd: 5 });
    crate::backends::llm::RouterConfig::new(settings).unwrap_err();
}

#[test]
fn the_example_says_what_the_defaults_are() {
    let text = include_str!("../../../examples/runtime.toml");
    let settings = settings(text).unwrap();
    let defaults = LlmSettings::default();
    assert_eq!((settings.retries, settings.timeouts), (defaults.retries, defaults.timeouts));
    assert_eq!((settings.cache, settings.repairs_max), (defaults.cache, defaults.repairs_max));
    crate::backends::llm::RouterConfig::new(settings).unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    for (text, says) in [
        ("[llm]\nprovder = \"openai\"", "line 2: unknown field `provder`"),
        ("[llm", "line 1"),
        ("[llm]\nmodel = \"x\"", "`model` needs a `provider`"),
        ("[llm]\nprovider = \"a/b\"\nmodel = \"x\"", "`model` needs a `provider`"),
        ("[llm]\nprovider = \"a b\"", "PROVIDER/MODEL"),
        ("[[providers]]\nname = \"x\"\nkind = \"opnai\"", "`kind` is none of openai"),
        ("[[providers]]\nname = \"x/y\"\nkind = \"openai\"", "is no name"),
        ("[[providers]]\nname = \"azure\"", "`api_version` is missing"),
        ("[[providers]]\nname = \"openai\"\nregion = \"x\"", "`region` means nothing"),
        ("[[providers]]\nname = \"openai\"\nurl = \"ftp://x\"", "http or https"),
        ("[[providers]]\nname = \"openai\"\nurl = \"nonsense\"", "is no address"),
        ("[llm]\ncache = \"maybe\"", "line 2"),
    ] {
        let error = settings(text).unwrap_err();
        assert!(error.contains(says), "{text:?}: {error}");
    }
    let missing = RuntimeConfig::read(Path::new("/nonexistent/runtime.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/runtime.toml: it cannot be read"), "{missing}");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_quoted() {
    let error = settings("[[providers]]\nname = \"openai\"\nkey = \"sk-very-secret\"").unwrap_err();
    assert!(error.contains("unknown field `key`") && !error.contains("very-secret"), "{error}");
    let error = secrets("openai = \"sk-very-secret\nx = 1", 0o600).unwrap_err();
    assert!(!error.contains("very-secret"), "{error}");
    let error = secrets("openai = { key = \"sk-very-secret\" }", 0o600).unwrap_err();
    assert!(!error.contains("very-secret"), "{error}");
}

#[test]
fn secrets_are_for_their_owner() {
    let text = "openai = \"sk-1\"\nbedrock = { access_key_id = \"AKIA\", secret_access_key = \"s\" }";
    let read = secrets(text, 0o600).unwrap();
    assert!(matches!(read.get("openai"), Some(Credentials::Key(_))));
    assert!(matches!(read.get("bedrock"), Some(Credentials::Aws { .. })));
    assert!(read.get("other").is_none());
    assert!(!format!("{read:?}").contains("sk-1"));
    secrets(text, 0o400).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o660] {
        assert!(secrets(text, mode).unwrap_err().contains("chmod 600"), "{mode:o}");
    }
}
