//! No environment variable is read after start, or ever written.

use std::path::Path;

use serde_json::{Value, json};

use crate::command::{Ended, Place};
use crate::llm::server::Server;
use crate::support::repository;

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn only_the_command_and_its_configuration_know_of_the_environment() {
    let mut found = Vec::new();
    for folder in ["host-api/src", "runtime/src"] {
        sources(&repository().join(folder), &mut found);
    }
    assert!(found.len() > 40, "the sources are somewhere else now");
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = path.display();
        for writes in ["set_var", "remove_var"] {
            assert!(!text.contains(writes), "{shown} writes to the environment");
        }
        let may_read = path.components().any(|part| part.as_os_str() == "cli");
        for reads in ["env::var", "env::vars", "getenv", "temp_dir()", "from_env"] {
            assert!(may_read || !text.contains(reads), "{shown} reads the environment: {reads}");
        }
    }
}

/// What libraries that are in the command, or could come into it, are known to look at.
const POISON: &[(&str, &str)] = &[
    ("ALL_PROXY", "http://localhost:1"),
    ("ANTHROPIC_API_KEY", "nonsense"),
    ("CARGO_MANIFEST_DIR", "/nonexistent"),
    ("CLICOLOR_FORCE", "1"),
    ("COLUMNS", "1"),
    ("CUDA_VISIBLE_DEVICES", "nonsense"),
    ("HOSTALIASES", "/nonexistent"),
    ("HTTPS_PROXY", "http://localhost:1"),
    ("HTTP_PROXY", "http://localhost:1"),
    ("LANG", "nonsense"),
    ("LC_ALL", "nonsense"),
    ("LINES", "nonsense"),
    ("LOCALDOMAIN", "nonsense"),
    ("MALLOC_ARENA_MAX", "nonsense"),
    ("NO_COLOR", "nonsense"),
    ("NO_PROXY", "nonsense"),
    ("OPENAI_API_KEY", "nonsense"),
    ("OPENAI_BASE_URL", "http://localhost:1"),
    ("OPENAI_ORG_ID", "nonsense"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:1"),
    ("OTEL_SDK_DISABLED", "nonsense"),
    ("OTEL_SERVICE_NAME", "nonsense"),
    ("PATH", "/nonexistent"),
    ("PWD", "/nonexistent"),
    ("PYTHONPATH", "/nonexistent"),
    ("RAYON_NUM_THREADS", "nonsense"),
    ("RAYON_RS_NUM_CPUS", "nonsense"),
    ("RES_OPTIONS", "nonsense"),
    ("RUST_BACKTRACE", "full"),
    ("RUST_LIB_BACKTRACE", "full"),
    ("RUST_LOG", "trace"),
    ("RUST_MIN_STACK", "nonsense"),
    ("SHELL", "/nonexistent"),
    ("SSLKEYLOGFILE", "keys-of-connections"),
    ("SSL_CERT_DIR", "/nonexistent"),
    ("SSL_CERT_FILE", "/nonexistent"),
    ("TEMP", "/nonexistent"),
    ("TERM", "nonsense"),
    ("TMP", "/nonexistent"),
    ("TMPDIR", "/nonexistent"),
    ("TOKIO_CONSOLE_BIND", "nonsense"),
    ("TOKIO_WORKER_THREADS", "nonsense"),
    ("TZ", "nonsense"),
    ("USER", "mallory"),
    ("WANDB_API_KEY", "nonsense"),
    ("WASMTIME_BACKTRACE_DETAILS", "1"),
    ("WASMTIME_CACHE_CONFIG", "/nonexistent"),
    ("WASMTIME_HOME", "/nonexistent"),
    ("WASMTIME_LOG", "trace"),
    ("WASMTIME_TEST_FORCE_MPK", "1"),
    ("WEAVE_PROJECT", "nonsense"),
    ("XDG_CACHE_HOME", "/nonexistent"),
    ("XDG_CONFIG_HOME", "/nonexistent"),
    ("XDG_DATA_HOME", "/nonexistent"),
    ("XDG_RUNTIME_DIR", "/nonexistent"),
    ("http_proxy", "http://localhost:1"),
    ("https_proxy", "http://localhost:1"),
];

/// A record without what differs from run to run.
fn lasting(ended: &Ended) -> Value {
    let mut record = ended.json();
    for volatile in ["/execution", "/started_at", "/usage/fuel", "/usage/wall_ms", "/usage/cpu_ms"] {
        *record.pointer_mut(volatile).unwrap() = Value::Null;
    }
    record
}

#[test]
fn a_poisoned_environment_changes_nothing() {
    let place = Place::new();
    let action = json!({ "do": "sequence", "steps": [
        { "do": "env" },
        { "do": "args" },
        { "do": "config", "key": "HOME" },
        { "do": "llm", "prompt": "hello" },
        { "do": "publish", "name": "thing", "value": 1 },
        { "do": "catch", "step": { "do": "read_file", "path": "/etc/hostname" } },
        { "do": "call", "operation": "traced" },
        { "do": "log", "level": "info", "message": "logged" },
    ]});
    let run = |poison: &[(&str, &str)], options: &[&str]| {
        // With a cache of its own it compiles too.
        let fresh = tempfile::tempdir().unwrap();
        let mut command = place.bare(["exec", "--user", "alice", "--data", "data", "--trace", "--cache-dir"]);
        command.arg(fresh.path()).arg(holm_test_artifacts::PROBE).arg("--input").arg(action.to_string());
        Ended::of(command.args(options).envs(poison.iter().copied()).output().unwrap()).with_status(0)
    };
    let (clean, poisoned) = (run(&[], &["--json"]), run(POISON, &["--json"]));
    assert_eq!(lasting(&poisoned), lasting(&clean));
    assert_eq!(lasting(&clean)["output"].as_str().unwrap().split(',').next(), Some("[{}"), "the guest has none of it");

    let (clean, poisoned) = (run(&[], &["--quiet"]), run(POISON, &["--quiet"]));
    assert_eq!(poisoned.text(), clean.text());
    let calls = |ended: &Ended| {
        ended.stderr.lines().map(|line| line.split("  ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(calls(&poisoned), calls(&clean), "not a line more");
    assert!(!poisoned.stderr.contains('\u{1b}'), "no colours in a file: {}", poisoned.stderr);
    assert_eq!(place.records().len(), 4);
}

/// No proxy, no key, no certificate and no address comes from a variable.
#[test]
fn a_poisoned_environment_changes_nothing_about_who_is_asked() {
    let (place, server) = (Place::new(), Server::start());
    let url = format!("http://localhost:{}/v1", server.address.port());
    let providers = ["openai", "anthropic"]
        .map(|kind| format!("[[providers]]\nname = \"{kind}\"\nurl = \"{url}\"\nmodel = \"m\"\npublic_only = false\n"));
    let file = place.file("runtime.toml", providers.concat());
    let run = |provider: &str, poison: &[(&str, &str)]| {
        let action = json!({ "do": "llm", "prompt": "echo" }).to_string();
        let mut command = place.command(&["exec", "--user", "alice", holm_test_artifacts::PROBE, "--input", &action]);
        command.args(["--quiet", "--provider", provider, "--config-file"]).arg(&file).envs(poison.iter().copied());
        let ended = Ended::of(command.output().unwrap()).with_status(0);
        (ended.text().to_owned(), server.take())
    };
    for provider in ["openai", "anthropic"] {
        let (clean, poisoned) = (run(provider, &[]), run(provider, POISON));
        assert_eq!(poisoned, clean);
        assert_eq!((clean.1.len(), clean.1[0].key.as_str()), (1, ""));
    }
}

#[test]
fn the_folders_are_the_users_where_nobody_names_any() {
    let place = Place::new();
    let echo = place.file("echo.wat", crate::support::ECHO.as_bytes());
    let command = || {
        let mut command = place.bare(["exec", "--user", "alice", "--input", "x"]);
        command.arg(&echo).env("HOME", place.path("home"));
        command
    };
    Ended::of(command().output().unwrap()).with_status(0);
    assert_eq!(place.files("home/.local/share/holm/records").len(), 1);
    assert_eq!(place.files("home/.cache/holm/compiled").len(), 1);
    let mut elsewhere = command();
    elsewhere.env("XDG_DATA_HOME", place.path("data")).env("XDG_CACHE_HOME", place.path("cache"));
    Ended::of(elsewhere.output().unwrap()).with_status(0);
    assert_eq!((place.files("data/holm/records").len(), place.files("cache/holm/compiled").len()), (1, 1));
}

#[test]
fn without_a_home_the_folders_must_be_named() {
    let place = Place::new();
    let echo = place.file("echo.wat", crate::support::ECHO.as_bytes());
    for home in [None, Some("")] {
        for named in [&[][..], &["--data", "data"], &["--cache-dir", "cache"]] {
            let mut command = place.bare(["exec", "--user", "alice"]);
            command.arg(&echo).args(named).envs(home.map(|home| ("HOME", home)));
            let ended = Ended::of(command.output().unwrap()).with_status(2);
            let expected = "error: HOME is not set, so there is no place for records and compiled code; name folders \
                            with --data and --cache-dir\n";
            assert_eq!((ended.text(), ended.stderr.as_str()), ("", expected));
        }
    }
    let mut command = place.bare(["exec", "--user", "alice", "--data", "data", "--cache-dir", "cache"]);
    Ended::of(command.arg(&echo).output().unwrap()).with_status(0);
}
