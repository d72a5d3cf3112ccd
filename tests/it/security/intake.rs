//! Bytes that are made to break the parser, the compiler or a terminal. What one limit each refuses is in
//! `runtime/src/workload/tests`; here a whole runtime takes the bytes, compiles them and runs them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use holm_host_api::{BudgetName, Outcome, sanitize_text};
use holm_runtime::ExecutionRequest;

use super::guests::Guest;
use super::{attack_with, beside_a_neighbour, request, small};
use crate::command::Place;
use crate::support::{Host, exceeded, name, repository};

/// Far more than any of these takes, far less than one would that has no end.
const TIME_MAX: Duration = Duration::from_secs(40);

/// A core module in the text format as a preview 1 command.
fn command(items: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {items} (memory (export \"memory\") 1) (func (export \"_start\")))")).unwrap()
}

/// A refusal that a user can be shown, or an execution that ends in some way that is nobody's fault but the guest's.
async fn answer(host: &Host, bytes: &[u8]) -> Result<Outcome, String> {
    // Intake holds its thread, which is to be one of its own.
    let (runtime, bytes) = (host.runtime.clone(), bytes.to_vec());
    let workload = match tokio::task::spawn_blocking(move || runtime.intake(&bytes)).await.unwrap() {
        Ok(workload) => workload,
        Err(error) => {
            let sentence = error.to_string();
            assert!(sentence.len() < 5_000 && !sentence.chars().any(char::is_control), "{sentence:?}");
            return Err(sentence);
        }
    };
    let request = ExecutionRequest::new(name("mallory"), workload).input("x").budget(small());
    let execution = host.runtime.execute(request).await;
    let outcome = execution.record.outcome;
    assert_ne!(outcome, Outcome::HostError, "{:?} {:?}", execution.record.error, execution.cause);
    if let Some(error) = execution.record.error {
        assert!(error.len() < 5_000 && sanitize_text(&error) == error, "{error:?}");
    }
    Ok(outcome)
}

#[tokio::test]
async fn proposals_that_are_switched_off_are_refused_by_name() {
    let host = Host::new();
    for (items, says) in [
        ("(memory 1 1 shared)", "thread"),
        ("(memory i64 1)", "memory64"),
        ("(memory 1) (memory 1)", "multi"),
        ("(type (struct (field i32)))", "gc"),
        ("(type (array i8))", "gc"),
        ("(func (param anyref))", ""),
        ("(func (param externref))", ""),
        ("(tag)", "exceptions"),
        ("(func (param (ref func)))", ""),
        ("(memory 1 (pagesize 1))", "page"),
        ("(type $f (func)) (type $c (cont $f))", ""),
        (
            "(func (param i64 i64 i64 i64) (result i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))",
            "wide",
        ),
        (
            "(func (param v128 v128 v128) (result v128) (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))",
            "relaxed",
        ),
        ("(memory (export \"memory\") 1) (func (return_call 0))", "tail"),
    ] {
        let Ok(bytes) = wat::parse_str(format!("(module {items} (func (export \"_start\")))")) else {
            panic!("no text: {items}")
        };
        match host.runtime.intake(&bytes) {
            Err(error) => {
                let sentence = error.to_string().to_lowercase();
                assert!(sentence.contains(says) || says.is_empty(), "{items}: {sentence}");
            }
            // What is switched on is no more dangerous than what it is made of.
            Ok(_) => assert_eq!(says, "tail", "{items}"),
        }
    }
    for items in [
        "(core func (canon stream.new 0)) (type (stream u8))",
        "(type (stream u8))",
        "(type (future u8))",
        "(type error-context)",
        "(core func (canon task.cancel))",
        "(core func (canon backpressure.inc))",
        "(core func (canon thread.yield))",
        "(type (map string u8))",
    ] {
        let Ok(bytes) = wat::parse_str(format!("(component {items})")) else { continue };
        let error = host.runtime.intake(&bytes).unwrap_err();
        assert_ne!(error.code(), "no_entry_point", "{items}: {error}");
    }
}

#[tokio::test]
async fn one_huge_function_is_compiled_or_refused_while_others_run() {
    let host = Host::new();
    // Megabytes of code with a value that is alive from its beginning to its end.
    let body = "(global.set 0 (i32.add (i32.mul (global.get 0) (local.get 0)) (local.get 0)))".repeat(200_000);
    let bytes = command(&format!("(global (mut i32) (i32.const 1)) (func (param i32) {body})"));
    assert!(bytes.len() > 2_000_000, "{}", bytes.len());
    let began = Instant::now();
    let ended = beside_a_neighbour(&host, answer(&host, &bytes)).await;
    assert!(matches!(ended, Ok(Outcome::Completed | Outcome::Refused) | Err(_)), "{ended:?}");
    assert!(began.elapsed() < TIME_MAX, "{:?}", began.elapsed());
}

#[tokio::test]
async fn large_uploads_of_every_kind_are_answered_while_others_run() {
    let host = Host::new();
    let functions = "(func)".repeat(20_000);
    let too_many = "(func)".repeat(310_000);
    let types: String = (0..90_000).map(|n| format!("(type (func (param{})))", " i32".repeat(n % 17))).collect();
    let data = format!("(data (i32.const 0) \"{}\")", "x".repeat(65_536)).repeat(600);
    let blocks = format!("(func {} {})", "block ".repeat(8_000), "end ".repeat(8_000));
    let tables = format!(
        "(func (param i32) {} (br_table {} (local.get 0)) {})",
        "block ".repeat(100),
        "0 ".repeat(100_000),
        "end ".repeat(100)
    );
    for (what, items, taken) in [
        ("functions", &functions, true),
        ("too many functions", &too_many, false),
        ("types", &types, true),
        ("data", &data, true),
        ("blocks", &blocks, true),
        ("targets", &tables, true),
    ] {
        let bytes = command(items);
        let began = Instant::now();
        let ended = beside_a_neighbour(&host, answer(&host, &bytes)).await;
        assert_eq!(ended.is_ok(), taken, "{what}: {ended:?}");
        if let Ok(outcome) = ended {
            assert!(matches!(outcome, Outcome::Completed | Outcome::Refused), "{what}: {outcome:?}");
        }
        assert!(began.elapsed() < TIME_MAX, "{what}: {:?}", began.elapsed());
    }
    // Sixty megabytes that nobody uses.
    let mut bytes = command("");
    bytes.extend([&[0][..], &[0x84, 0x80, 0x80, 0x1e, 3], b"abc", &vec![0; 60 << 20]].concat());
    let ended = beside_a_neighbour(&host, answer(&host, &bytes)).await;
    assert_eq!(ended, Ok(Outcome::Completed));
}

#[tokio::test]
async fn components_by_the_thousand_are_refused() {
    let host = Host::new();
    let many = format!("(component {})", "(component)".repeat(5_000));
    let modules = format!("(component {})", "(core module)".repeat(5_000));
    for text in [many, modules] {
        assert_eq!(host.runtime.intake(text.as_bytes()).unwrap_err().code(), "too_large");
    }
}

/// A name section may say anything; what a user sees of it steers no terminal.
#[tokio::test]
async fn names_of_functions_steer_no_terminal() {
    let host = Host::new();
    let evil = r"\1b]0;owned\07\1b[2J\0d\0aok\e2\80\ae\c2\9b31m";
    let guest = Guest::new(&[], "(call $down)").with(format!("(func $down (@name \"{evil}\") (unreachable))"));
    let execution = attack_with(&host, request(&host, "mallory", &guest)).await;
    assert_eq!(execution.record.outcome, Outcome::Trapped);
    let error = execution.record.error.unwrap();
    assert!(error.contains("owned"), "the name is shown: {error}");
    assert!(sanitize_text(&error) == error, "{error:?}");

    let place = Place::new();
    let workload = place.file("evil.wasm", guest.bytes());
    for args in [&["--input", "x"][..], &["--input", "x", "--json"]] {
        let ended = place.exec(&workload, args).with_status(5);
        for shown in [&*ended.stderr, ended.text()] {
            let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!shown.contains(steers), "{shown:?}");
        }
    }
}

/// The same numbers every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Damages a few bytes at places that are more often near the beginning, where the types are.
fn damage(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    for _ in 0..=numbers.below(3) {
        let end = if numbers.below(2) == 0 { damaged.len().min(4_096) } else { damaged.len() };
        let at = numbers.below(end);
        match numbers.below(4) {
            0 => damaged[at] ^= 1 << numbers.below(8),
            1 => damaged[at] = numbers.below(256) as u8,
            2 => {
                damaged.remove(at);
            }
            _ => damaged.insert(at, numbers.below(256) as u8),
        }
    }
    damaged
}

/// Whatever is left of a workload, there is a sentence or a workload; some of these are compiled and run.
#[tokio::test]
async fn damaged_examples_are_answered() {
    let host = Host::new();
    let mut numbers = Numbers(1);
    let mut taken = 0;
    let examples = ["guest-c.wasm", "guest-agents.wasm", "guest-evaluate.wasm"]
        .map(|file| std::fs::read(repository().join("examples/prebuilt").join(file)).unwrap());
    let own = Guest::new(&["start", "now", "complete"], "(drop (call $now))").bytes();
    let small_ones = own.as_slice();
    for (bytes, times) in [(small_ones, 1_500), (&examples[0], 250), (&examples[1], 40), (&examples[2], 40)] {
        for _ in 0..times {
            let damaged = damage(bytes, &mut numbers);
            let took = catch_unwind(AssertUnwindSafe(|| host.runtime.intake(&damaged)));
            let Ok(answer) = took else { panic!("the intake panicked") };
            match answer {
                Err(error) => {
                    let sentence = error.to_string();
                    assert!(sentence.len() < 5_000 && !sentence.chars().any(char::is_control), "{sentence:?}");
                }
                Ok(workload) if bytes.len() < 10_000 && taken < 60 => {
                    taken += 1;
                    let request = ExecutionRequest::new(name("mallory"), workload).input("x").budget(small());
                    let execution = host.runtime.execute(request).await;
                    assert_ne!(execution.record.outcome, Outcome::HostError, "{:?}", execution.cause);
                }
                Ok(_) => {}
            }
        }
    }
    assert!(taken > 0);
    host.assert_nothing_held().await;
}

/// The code of a workload that is refused at compilation leaves nothing, and says so every time.
#[tokio::test]
async fn what_is_compiled_once_is_judged_by_its_own_bytes() {
    let host = Host::new();
    let spin = Guest::endless(&[], "(nop)");
    let fine = Guest::new(&[], "");
    for _ in 0..3 {
        assert_eq!(exceeded(&attack_with(&host, request(&host, "mallory", &spin)).await), BudgetName::Fuel);
        let execution = attack_with(&host, request(&host, "mallory", &fine)).await;
        assert_eq!(execution.record.outcome, Outcome::Completed);
    }
}
