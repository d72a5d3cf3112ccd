//! The `runtime` command: one file a verb.

mod events;
mod exec;
mod inspect;
mod limits;
mod llm;
mod options;
mod paths;
mod records;
mod signals;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::host_api::Outcome;

/// The verb by which this program starts itself to compile. Nobody else needs it.
const COMPILE_WORKER: &str = "compile-worker";

/// Where help lists what all verbs have: after what each has of its own.
const LAST: usize = 100;

/// Run other people's LLM workloads, each execution in a WebAssembly instance of its own.
#[derive(Parser)]
#[command(name = "runtime", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,

    #[command(flatten)]
    folders: Folders,

    /// Show what the runtime does, on stderr; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = LAST)]
    verbose: u8,
}

/// Where things are.
#[derive(Args)]
struct Folders {
    /// Folder for records and scratch folders [default: the user's data folder, `holm` in it]
    #[arg(long, global = true, value_name = "DIR", display_order = LAST)]
    data: Option<PathBuf>,

    /// Folder for compiled code, which must be yours alone [default: the user's cache folder, `holm` in it]
    #[arg(long, global = true, value_name = "DIR", display_order = LAST)]
    cache_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a workload once, for a user, and print its output
    Exec(Box<exec::Exec>),
    /// Show what a workload imports, exports and needs, and whether it would be admitted
    Inspect(inspect::Inspect),
    /// List every budget with its default and meaning
    Limits(limits::Limits),
    /// Compile for the process that started this one
    #[command(name = COMPILE_WORKER, hide = true)]
    CompileWorker,
}

/// What the process says about an execution that ended.
fn exit_code(outcome: &Outcome) -> ExitCode {
    ExitCode::from(match outcome {
        Outcome::Completed => 0,
        Outcome::GuestError => 1,
        Outcome::Refused => 3,
        Outcome::BudgetExceeded(_) => 4,
        Outcome::Trapped => 5,
        Outcome::HostError => HOST_ERROR,
        Outcome::Cancelled => 130,
    })
}

/// What was asked makes no sense: exit status 2, as for a wrong flag.
const USAGE: u8 = 2;
const HOST_ERROR: u8 = 6;

/// Why a verb failed before there was an outcome.
enum Failure {
    Usage(anyhow::Error),
    Host(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Host(error)
    }
}

/// Reads a text as the value of each option that takes one, for the fuzz target that mistypes them.
#[cfg(fuzzing)]
pub fn read_as_option_values(text: &str) {
    let capabilities = crate::host_api::CapabilitySet::default();
    let given: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let sentences = [
        options::key_value(text).err(),
        options::dir(text).err(),
        options::guest_path(text).err(),
        options::fuel(text).err(),
        options::memory(text).err(),
        options::timeout(text).err(),
        options::limit(text).err(),
        options::grants(&given, &capabilities).err(),
    ];
    for sentence in sentences.into_iter().flatten().map(|error| format!("{error:#}")) {
        assert!(!sentence.is_empty());
    }
}

/// Runs the command with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    std::panic::catch_unwind(run).unwrap_or_else(|_panic| {
        terminal::error("the runtime failed; with --verbose it says where");
        ExitCode::from(HOST_ERROR)
    })
}

fn run() -> ExitCode {
    let cli = Cli::parse();
    terminal::start();
    start_log(cli.verbose);
    let result = match cli.verb {
        Verb::Exec(exec) => exec.run(&cli.folders),
        Verb::Inspect(inspect) => inspect.run(),
        Verb::Limits(limits) => limits.run(),
        Verb::CompileWorker => return crate::compile_worker(),
    };
    let (code, error) = match result {
        Ok(code) => return code,
        Err(Failure::Usage(error)) => (USAGE, error),
        Err(Failure::Host(error)) => (HOST_ERROR, error),
    };
    terminal::error(&format!("{error:#}"));
    ExitCode::from(code)
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::ERROR,
        1 => tracing::Level::WARN,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(terminal::colour_on_stderr())
        .without_time()
        .init();
    // A panic of the host is the operator's business; it must not write over the workload's output.
    std::panic::set_hook(Box::new(|panic| tracing::warn!("{panic}")));
}
