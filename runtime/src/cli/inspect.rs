//! `runtime inspect`: what a workload is made of, and whether it would be admitted.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::json;

use super::exec::read_workload;
use super::{Failure, exit_code, options, terminal};
use crate::host_api::{Name, Outcome, sanitize_line};
use crate::workload::inspect::Form;
use crate::workload::{IntakeError, Shape, Workload};
use crate::{ExecutionRequest, Runtime};

#[derive(Args)]
pub(super) struct Inspect {
    /// The workload: a component, a core module or the text format of either
    workload: PathBuf,

    /// Judge it with these grants, as `runtime exec` would [default: all]
    #[arg(long, value_name = "CAPABILITY")]
    grant: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let bytes = read_workload(&self.workload).map_err(Failure::Usage)?;
        let runtime = Runtime::builder()
            .executions_max(1)
            .build()
            .map_err(|error| Failure::Host(anyhow!("{}", error.message())))?;
        let grants = options::grants(&self.grant, runtime.capabilities()).map_err(Failure::Usage)?;
        let (workload, refused) = match runtime.intake(&bytes) {
            Ok(workload) => {
                let request = ExecutionRequest::new(inspector()?, workload.clone()).grants(grants);
                (Some(workload), runtime.check(&request).err())
            }
            Err(error) => (None, Some(IntakeError::to_string(&error))),
        };
        let text = if self.json {
            let inspection = workload.as_ref().map(Workload::inspection);
            let digest = workload.as_ref().map(|workload| workload.digest().to_string());
            terminal::json(&json!({
                "digest": digest, "inspection": inspection, "admitted": refused.is_none(), "refused": refused,
            }))? + "\n"
        } else {
            self.table(workload.as_ref(), refused.as_deref())
        };
        terminal::output(text.as_bytes()).context("stdout")?;
        Ok(exit_code(if refused.is_none() { &Outcome::Completed } else { &Outcome::Refused }))
    }

    fn table(&self, workload: Option<&Workload>, refused: Option<&str>) -> String {
        let mut rows = vec![("file", self.workload.display().to_string())];
        if let Some(workload) = workload {
            rows.push(("digest", workload.digest().to_string()));
            rows.extend(describe(workload));
        }
        rows.push(match refused {
            None => ("admitted", "yes".to_owned()),
            Some(reason) => ("admitted", format!("no: {reason}")),
        });
        rows.iter().map(|(name, value)| format!("{name:<10} {}\n", sanitize_line(value))).collect()
    }
}

fn inspector() -> Result<Name, Failure> {
    "inspect".parse().map_err(|error| Failure::Host(anyhow::Error::new(error)))
}

fn describe(workload: &Workload) -> Vec<(&'static str, String)> {
    let inspection = workload.inspection();
    let footprint = &inspection.footprint;
    let shape = match inspection.shape {
        Shape::Workload => "workload (exports run: func(input: string) -> result<string, string>)",
        Shape::Command => "command (reads stdin, writes stdout)",
    };
    let form = match inspection.form {
        Form::Component => "component",
        Form::CoreModule => "core module with a component type",
        Form::Preview1Command => "core module, a WASI preview 1 command",
    };
    let mut rows = vec![
        ("shape", shape.to_owned()),
        ("form", form.to_owned()),
        ("size", bytesize::ByteSize(inspection.bytes).to_string()),
        (
            "made of",
            format!("{} core modules, {} functions", inspection.counts.core_modules, inspection.counts.functions),
        ),
        (
            "needs",
            format!(
                "{} instances, {} of memory at the start, {} table elements",
                footprint.core_instances,
                bytesize::ByteSize(footprint.memory_bytes),
                footprint.table_elements
            ),
        ),
    ];
    rows.extend(inspection.imports.iter().map(|import| ("imports", import.name.clone())));
    rows.extend(inspection.exports.iter().map(|export| ("exports", export.clone())));
    rows
}
