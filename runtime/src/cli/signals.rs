//! Signals that end an execution before it ends by itself.

use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Ctrl-C, and the signals that service managers and closing terminals send. Before there is an execution they end
/// this process. After that the first one asks the execution to stop, which leaves its record, and a second one ends
/// this process, whatever it waits for by then. So this has a thread of its own.
pub(super) struct Interrupts {
    execution: Arc<OnceLock<CancellationToken>>,
}

impl Interrupts {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let signals = tokio::runtime::Builder::new_current_thread().enable_io().build().context("no async runtime")?;
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        let (mut interrupt, mut terminate, hangup) = {
            let _entered = signals.enter();
            let kinds = (SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup());
            // Under `nohup` a terminal that closes is nobody's business.
            (listen(kinds.0)?, listen(kinds.1)?, if hangups_are_ignored() { None } else { Some(listen(kinds.2)?) })
        };
        let execution: Arc<OnceLock<CancellationToken>> = Arc::default();
        let running = Arc::clone(&execution);
        std::thread::spawn(move || {
            let mut hangup = hangup;
            loop {
                signals.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        Some(_) = async { Some(hangup.as_mut()?.recv().await) } => {}
                    }
                });
                match running.get() {
                    Some(execution) if !execution.is_cancelled() => execution.cancel(),
                    _ => std::process::exit(130),
                }
            }
        });
        Ok(Interrupts { execution })
    }

    /// From here on Ctrl-C cancels the execution.
    pub(super) fn begin_execution(&self) -> CancellationToken {
        self.execution.get_or_init(CancellationToken::new).clone()
    }
}

/// Whether who started this process told it to ignore hangups.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ignored & 1 != 0
}
