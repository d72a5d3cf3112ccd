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
    let mut secrets = Secrets::default();
    for name in ["openai", "anthropic", "groq"] {
        secrets.set(name, crate::backends::llm::Secret::new("sk-1"));
    }
    config(text).and_then(|config| config.llm_settings(&secrets)).map_err(|error| error.what)
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
        ("[llm]\nprovider = \"gemini/x\"", "there is no key for `gemini`: put `gemini = "),
        ("[llm]\nmodels_allowed = []", "leave it out to allow all"),
        ("[llm]\nmodels_allowed = [\"gpt-*\"]", "patterns such as `openai/gpt-4o*`"),
        ("[[providers]]\nname = \"mine\"\nkind = \"openai\"", "`url` is missing"),
        ("[[providers]]\nname = \"mine\"", "`kind` is missing; it is one of"),
        ("[[providers]]\nname = \"auto\"\nkind = \"openai\"", "cannot be the name of one"),
        ("[[providers]]\nname = \"openai\"\nsecret = \"other\"", "there is no secret `other`"),
        ("[[providers]]\nname = \"ollama\"\npublic_only = true", "`public_only` needs an address with https"),
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
fn a_value_in_the_wrong_place_is_not_quoted() {
    for text in [
        "[llm]\nretries = \"sk-very-secret\"",
        "[llm]\ncache = \"sk-very-secret\"",
        "[llm]\ntier = \"sk-very-secret\"",
        "[llm]\nfallback = \"sk-very-secret, expected nothing\"",
        "[llm]\ntimeouts = { answer_ms = \"sk-very-secret\" }",
        "providers = \"sk-very-secret\"",
        "[[providers]]\nname = \"openai\"\npublic_only = \"sk-very-secret\"",
        "[[providers]]\nname = \"openai\"\nmodels = [\"a\", 5, \"sk-very-secret\"]",
        "[[providers]]\nname = \"openai\"\nurl = \"sk-very-secret\"",
        "secrets = \"sk-very-secret",
        "sk-very-secret",
    ] {
        let error = settings(text).unwrap_err();
        assert!(error.len() > 15 && !error.contains("very-secret"), "{text}: {error}");
    }
    for text in [
        "sk-very-secret",
        "openai = [\"sk-very-secret\"]",
        "openai = \"sk-very-secret\" x",
        "[a\nb = \"sk-very-secret\"",
    ] {
        let error = secrets(text, 0o600).unwrap_err();
        assert!(!error.contains("very-secret"), "{text}: {error}");
    }
    // The wrong file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runtime.toml");
    fs::write(&path, "llm = { prices = \"secrets.toml\" }").unwrap();
    fs::write(folder.path().join("secrets.toml"), "openai = \"sk-very-secret\"").unwrap();
    let error = RuntimeConfig::read(&path).unwrap_err().to_string();
    assert!(error.contains("secrets.toml: line 1") && !error.contains("very-secret"), "{error}");
}

#[test]
fn keys_are_not_shown() {
    let key = "sk-very-secret";
    let secrets = secrets(
        &format!("openai = \"{key}\"\nbedrock = {{ access_key_id = \"A\", secret_access_key = \"{key}\", session_token = \"{key}\" }}"),
        0o600,
    )
    .unwrap();
    let config = config("[llm]\nprovider = \"openai/x\"\n[[providers]]\nname = \"bedrock\"\nregion = \"r\"").unwrap();
    let settings = config.llm_settings(&secrets).unwrap();
    let router = crate::backends::llm::RouterConfig::new(settings.clone()).unwrap();
    let shown = format!("{secrets:#?} {config:#?} {settings:#?} {router:#?}");
    assert!(shown.matches("[secret]").count() >= 3 && !shown.contains("very-secret"), "{shown}");
    let with_password = "[[providers]]\nname = \"openai\"\nurl = \"https://me:sk-very-secret@x\"";
    let error = crate::backends::llm::RouterConfig::new(super::tests::settings(with_password).unwrap()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("very-secret"), "{error}");
}

#[test]
fn only_whole_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets.toml");
    let long = format!("a = \"1\"\n#{}\nopenai = \"sk-1\"", "x".repeat(4 << 20));
    assert!(config(&long).unwrap_err().what.contains("more than"));
    assert!(secrets(&long, 0o600).unwrap_err().contains("more than"));
    // What is no file is not waited for.
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(Secrets::read(&path).unwrap_err().what, "it is no file");
    assert_eq!(Secrets::read(folder.path()).unwrap_err().what, "it is no file");
    // A link is what it leads to.
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, "openai = \"sk-1\"").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Secrets::read(&link).unwrap_err().what.contains("chmod 600"));
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Secrets::read(&link).unwrap().get("openai").is_some());
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
