//! A plain WASI command, which knows nothing of Holm.
//!
//! It copies stdin to stdout in upper case and writes one line to stderr. `--args` then prints the arguments,
//! `--env` the environment, one a line, and `--exit N` ends with status N, of which WASI 0.2 lets the host see only
//! whether it is 0.

use std::io::{self, Read};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);

    let mut input = String::new();
    if let Err(error) = io::stdin().read_to_string(&mut input) {
        eprintln!("command: stdin: {error}");
        return ExitCode::FAILURE;
    }
    print!("{}", input.to_uppercase());
    eprintln!("command: {} bytes read", input.len());
    if has("--args") {
        for arg in &args {
            println!("{arg}");
        }
    }
    if has("--env") {
        for (key, value) in std::env::vars() {
            println!("{key}={value}");
        }
    }

    let exit = args.iter().position(|arg| arg == "--exit").and_then(|at| args.get(at + 1));
    match exit.map(|status| status.parse::<u8>()) {
        None => ExitCode::SUCCESS,
        Some(Ok(status)) => ExitCode::from(status),
        Some(Err(error)) => {
            eprintln!("command: --exit: {error}");
            ExitCode::from(2)
        }
    }
}
