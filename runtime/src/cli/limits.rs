//! `runtime limits`: every budget, its default and its meaning.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Failure, terminal};
use crate::host_api::BudgetName;

#[derive(Args)]
pub(super) struct Limits {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Limits {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let text = if self.json {
            let limits: Vec<_> = BudgetName::ALL
                .iter()
                .map(|name| json!({ "name": name, "default": name.default_limit(), "meaning": name.meaning() }))
                .collect();
            terminal::json(&limits)? + "\n"
        } else {
            let mut text = format!("{:<20} {:>16}  {}\n", "NAME", "DEFAULT", "MEANING");
            for name in BudgetName::ALL {
                let default = terminal::grouped(name.default_limit());
                text.push_str(&format!("{name:<20} {default:>16}  {}\n", name.meaning()));
            }
            text.push_str("\nSet one with `runtime exec --limit NAME=VALUE`; `unlimited` is a value too.\n");
            text
        };
        terminal::output(text.as_bytes()).map_err(anyhow::Error::from)?;
        Ok(ExitCode::SUCCESS)
    }
}
