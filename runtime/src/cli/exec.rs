//! `runtime exec`: run a workload once, for a user.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::Value;
use uuid::Uuid;

use super::events::TerminalEvents;
use super::llm::LlmOptions;
use super::signals::Interrupts;
use super::{COMPILE_WORKER, Failure, Folders, exit_code, options, paths, records, terminal};
use crate::host_api::trace::MemoryTrace;
use crate::host_api::wasi::{Preopen, SCRATCH_GUEST_PATH, WasiSettings};
use crate::host_api::{Budget, BudgetName, Name, Outcome, sanitize_text};
use crate::workload::{CompiledFrom, Digest, IntakeLimits};
use crate::{CompileIn, CompilerCommand, Execution, ExecutionRequest, Record, Runtime};

/// A compilation that takes longer than this is shown.
const QUIET_COMPILE: Duration = Duration::from_millis(300);

#[derive(Args)]
pub(super) struct Exec {
    /// The workload: a component, a core module or the text format of either
    workload: PathBuf,

    /// Who it runs for: the owner of all that it touches
    #[arg(long)]
    user: Name,

    /// The input, as text
    #[arg(long, value_name = "TEXT", conflicts_with = "input_file", allow_hyphen_values = true)]
    input: Option<String>,

    /// A file with the input; `-` is stdin
    #[arg(long, value_name = "PATH")]
    input_file: Option<PathBuf>,

    /// A value of the configuration that the workload reads
    #[arg(long, value_name = "KEY=VALUE", value_parser = options::key_value)]
    config: Vec<(String, String)>,

    /// A variable of the workload's environment, which is empty otherwise
    #[arg(long, value_name = "KEY=VALUE", value_parser = options::key_value)]
    env: Vec<(String, String)>,

    /// A folder that the workload sees; there are no files otherwise
    #[arg(long, value_name = "HOST::GUEST[:ro]", value_parser = options::dir)]
    dir: Vec<Preopen>,

    /// Give the workload an empty folder of its own, which goes when it ends [default: at /scratch]
    #[arg(long, value_name = "GUEST", num_args = 0..=1, require_equals = true, value_parser = options::guest_path,
        default_missing_value = SCRATCH_GUEST_PATH)]
    scratch: Option<String>,

    /// Grant this capability (`llm`) or function (`llm.complete`) and no other; `none` grants nothing
    /// [default: all]
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    grant: Vec<String>,

    /// Compute that it may use, in units of about one instruction [default: 10G]
    #[arg(long, value_name = "UNITS", value_parser = options::fuel, allow_hyphen_values = true)]
    fuel: Option<u64>,

    /// Memory that it may use [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = options::memory, allow_hyphen_values = true)]
    memory: Option<u64>,

    /// Wall time that it may use [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = options::timeout, allow_hyphen_values = true)]
    timeout: Option<u64>,

    /// Any other budget; `runtime limits` lists them
    #[arg(long, value_name = "NAME=VALUE", value_parser = options::limit)]
    limit: Vec<(BudgetName, u64)>,

    /// Print the record as JSON instead of the output
    #[arg(long)]
    json: bool,

    /// Print the tree of calls, on stderr
    #[arg(long)]
    trace: bool,

    /// Print nothing but the output and errors
    #[arg(short, long)]
    quiet: bool,

    /// Arguments for a command
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,

    #[command(flatten)]
    llm: LlmOptions,
}

impl Exec {
    pub(super) fn run(self, folders: &Folders) -> Result<ExitCode, Failure> {
        let cache = &folders.cache_dir;
        let data_dir = paths::data_dir(&folders.data).map_err(Failure::Usage)?;
        let interrupts = Interrupts::listen()?;
        let bytes = read_workload(&self.workload).map_err(Failure::Usage)?;
        let input = self.read_input().map_err(Failure::Usage)?;
        for preopen in &self.dir {
            if !preopen.host.is_dir() {
                return Err(Failure::Usage(anyhow!("--dir: there is no folder {}", preopen.host.display())));
            }
            if self.dir.iter().filter(|other| other.guest == preopen.guest).count() > 1 {
                return Err(Failure::Usage(anyhow!("--dir: two folders are given as {}", preopen.guest)));
            }
        }
        if let Some(taken) = self.dir.iter().find(|preopen| self.scratch.as_ref() == Some(&preopen.guest)) {
            return Err(Failure::Usage(anyhow!("--scratch: a folder is given as {} already", taken.guest)));
        }
        let traces = MemoryTrace::default();
        let llm = self.llm.backend(self.cost_limit())?;
        let build = |cache_dir: Option<PathBuf>| {
            let builder = Runtime::builder()
                .executions_max(4)
                .compile_in(CompileIn::Child(CompilerCommand::this_program(COMPILE_WORKER)))
                .events(TerminalEvents::start(self.quiet))
                .trace(traces.clone())
                .llm(Arc::clone(&llm));
            let builder = match cache_dir {
                Some(dir) => builder.cache_dir(dir),
                None => builder,
            };
            match self.scratch {
                Some(_) => builder.scratch_dir(data_dir.join("scratch")).build(),
                None => builder.build(),
            }
        };
        let built = match build(Some(paths::cache_dir(cache).map_err(Failure::Usage)?)) {
            // Nobody asked for this folder; without it only time is lost.
            Err(error) if cache.is_none() => {
                terminal::line(&format!("warning: nothing compiled is kept: {}", error.message()));
                build(None)
            }
            built => built,
        };
        let runtime = built.map_err(|error| Failure::Host(operator_error(error.message(), error.cause())))?;
        let execution = self.execute(&runtime, &bytes, input, &interrupts)?;
        if let Err(error) = records::keep(&data_dir, &execution.record) {
            terminal::line(&format!("warning: {error:#}"));
        }
        self.show(&execution, &traces)?;
        Ok(exit_code(&execution.record.outcome))
    }

    fn execute(
        &self,
        runtime: &Runtime,
        bytes: &[u8],
        input: Vec<u8>,
        interrupts: &Interrupts,
    ) -> Result<Execution, Failure> {
        let workload = match runtime.intake(bytes) {
            Ok(workload) => workload,
            Err(error) => {
                let digest = Digest::of(bytes);
                let record = Record::refused(Uuid::now_v7(), self.user.clone(), digest, error.to_string());
                return Ok(Execution {
                    record,
                    output: Vec::new(),
                    cause: None,
                    journal: Vec::new(),
                    journal_missed: 0,
                });
            }
        };
        let mut request = ExecutionRequest::new(self.user.clone(), workload).input(input).budget(self.budget());
        request.grants = Arc::new(options::grants(&self.grant, runtime.capabilities()).map_err(Failure::Usage)?);
        request.config = Arc::new(BTreeMap::from_iter(self.config.iter().cloned()));
        request.wasi = self.wasi();
        request.cancellation = interrupts.begin_execution();
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")?;
        let execution = threads.block_on(async {
            self.compile(runtime, &request).await;
            runtime.execute(request).await
        });
        // A compilation that nobody waits for any more must not hold up the end.
        threads.shutdown_background();
        Ok(execution)
    }

    /// Compiles ahead, so that a long wait can be shown for what it is. Failures come up in the execution.
    async fn compile(&self, runtime: &Runtime, request: &ExecutionRequest) {
        if runtime.check(request).is_err() {
            return;
        }
        let compiled = runtime.compile(&request.workload);
        tokio::pin!(compiled);
        let first = tokio::time::timeout(QUIET_COMPILE, &mut compiled).await;
        if first.is_ok() {
            return;
        }
        let size = bytesize::ByteSize(request.workload.component().len() as u64);
        let message = format!("compiling {} ({size}), once", self.workload.display());
        if !self.quiet {
            use std::io::IsTerminal as _;
            if !std::io::stderr().is_terminal() {
                terminal::line(&message);
            }
        }
        let spinner = terminal::spinner(message, self.quiet);
        spinner.enable_steady_tick(Duration::from_millis(100));
        let from = tokio::select! {
            from = compiled => from,
            () = request.cancellation.cancelled() => Ok(CompiledFrom::Memory),
        };
        tracing::debug!(?from, "compiled");
        spinner.finish_and_clear();
    }

    fn show(&self, execution: &Execution, traces: &MemoryTrace) -> anyhow::Result<()> {
        let record = &execution.record;
        if self.json {
            terminal::output((terminal::json(record)? + "\n").as_bytes()).context("stdout")?;
        } else {
            terminal::output(&execution.output).context("the output could not be written to stdout")?;
        }
        if self.trace
            && let Some(tree) = traces.tree(record.execution)
        {
            terminal::line(tree.render(&terminal::tree_style()).trim_end());
        }
        if !self.json
            && let Some(error) = &record.error
        {
            terminal::error(error);
        }
        if let Some(cause) = &execution.cause {
            terminal::line(&format!("cause: {}", sanitize_text(cause)));
        }
        if !self.quiet && !self.json && record.outcome != Outcome::Refused {
            terminal::line(&summary(record));
        }
        for failure in &record.finish.failures {
            terminal::line(&format!("warning: {failure}"));
        }
        Ok(())
    }

    fn read_input(&self) -> anyhow::Result<Vec<u8>> {
        match (&self.input, &self.input_file) {
            (Some(text), _) => Ok(text.clone().into_bytes()),
            (None, None) => Ok(Vec::new()),
            (None, Some(path)) if path == Path::new("-") => {
                let mut input = Vec::new();
                std::io::stdin().take(self.input_bytes_readable()).read_to_end(&mut input).context("stdin")?;
                Ok(input)
            }
            (None, Some(path)) => read(path, self.input_bytes_readable()),
        }
    }

    /// One byte more than the budget: enough for admission to refuse it, without reading for ever.
    fn input_bytes_readable(&self) -> u64 {
        self.budget().limit(BudgetName::InputBytes).saturating_add(1)
    }

    fn budget(&self) -> Budget {
        let mut budget = Budget::default();
        for (name, limit) in &self.limit {
            budget.set(*name, *limit);
        }
        let named =
            [(BudgetName::Fuel, self.fuel), (BudgetName::MemoryBytes, self.memory), (BudgetName::WallMs, self.timeout)];
        for (name, limit) in named {
            if let Some(limit) = limit {
                budget.set(name, limit);
            }
        }
        budget
    }

    fn cost_limit(&self) -> Option<u64> {
        let limits = self.limit.iter().rev();
        limits.filter(|(name, _)| *name == BudgetName::LlmCostMicrousd).map(|(_, limit)| *limit).next()
    }

    fn wasi(&self) -> WasiSettings {
        let name = self.workload.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        WasiSettings {
            args: std::iter::once(name).chain(self.args.iter().cloned()).collect(),
            // As everywhere, the last one holds.
            env: BTreeMap::from_iter(self.env.iter().cloned()).into_iter().collect(),
            preopens: self.dir.clone(),
            scratch: self.scratch.clone(),
        }
    }
}

/// Reads a workload: one byte more than the intake takes, so that it can say so, and not for ever.
pub(super) fn read_workload(path: &Path) -> anyhow::Result<Vec<u8>> {
    read(path, IntakeLimits::default().bytes_max.saturating_add(1))
}

/// Reads the first `bytes_max` bytes of a file.
pub(super) fn read(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(bytes_max).read_to_end(&mut bytes))
        .with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(bytes)
}

pub(super) fn operator_error(message: &str, cause: Option<String>) -> anyhow::Error {
    match cause {
        Some(cause) => anyhow!("{message}: {cause}"),
        None => anyhow!("{message}"),
    }
}

fn summary(record: &Record) -> String {
    let used = |name: &str| record.usage.get(name).unwrap_or(0);
    let mut text = format!(
        "{} in {} ms: {} fuel, {} of memory, {} host calls",
        record.outcome.kind(),
        terminal::grouped(used("wall_ms")),
        terminal::grouped(used("fuel")),
        bytesize::ByteSize(used("memory_bytes_peak")),
        terminal::grouped(used("host_calls")),
    );
    if used("llm_requests") > 0 {
        text.push_str(&format!(
            ", {} llm requests{}, {} tokens, {} $",
            terminal::grouped(used("llm_requests")),
            answered_by(record),
            terminal::grouped(used("llm_tokens")),
            used("llm_cost_microusd") as f64 / 1e6,
        ));
        let of_models = record.usage.capability("llm");
        let unpriced = of_models.and_then(|usage| usage.get("unpriced")?.as_u64()).unwrap_or(0);
        if unpriced > 0 {
            text.push_str(&format!(" and {} answers of unknown price", terminal::grouped(unpriced)));
        }
    }
    text
}

/// Who answered how many requests: answers that `offline` made up look like any others.
fn answered_by(record: &Record) -> String {
    let models = record.usage.capability("llm").and_then(|usage| usage.get("models")?.as_array());
    let mut providers = BTreeMap::<&str, u64>::new();
    for model in models.into_iter().flatten() {
        let requests = model.get("requests").and_then(Value::as_u64).unwrap_or(0);
        if let Some(provider) = model.get("provider").and_then(Value::as_str).filter(|_| requests > 0) {
            *providers.entry(provider).or_default() += requests;
        }
    }
    let said: Vec<_> = providers.iter().map(|(provider, requests)| format!("{requests} by {provider}")).collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) }
}
