//! `host-embed [PORT]`: serves on the loopback address until Ctrl-C. Port 0 takes a free one.

use std::error::Error;
use std::future::IntoFuture as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use holm_runtime::{CompileIn, CompilerCommand};
use tokio::signal::unix::{SignalKind, signal};

/// The argument by which the server starts itself to compile what users upload.
const COMPILE_WORKER: &str = "compile-worker";

/// How long requests under way may take once the server was asked to stop.
const GRACE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    // First of all: it must have no threads and no files yet.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == COMPILE_WORKER) {
        return holm_runtime::compile_worker();
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse::<u16>());
    let port = port.map_err(|error| format!("usage: host-embed [PORT]: {error}"))?;
    let router = host_embed::router(CompileIn::Child(CompilerCommand::this_program(COMPILE_WORKER)))?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.map_err(|error| format!("port {port} cannot be listened on: {error}"))?;
    println!("http://{}", listener.local_addr()?);

    let served = axum::serve(listener, router).with_graceful_shutdown(asked_to_stop());
    tokio::select! {
        served = served.into_future() => served?,
        // Clients that send nothing and hang up never would hold it for ever.
        () = async { asked_to_stop().await; tokio::time::sleep(GRACE).await } => {}
    }
    Ok(())
}

/// By Ctrl-C, or by who manages services. A server that cannot hear them stops at once.
async fn asked_to_stop() {
    let heard = async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = tokio::signal::ctrl_c() => interrupted,
        }
    };
    if let Err(error) = heard.await {
        eprintln!("signals cannot be heard: {error}");
    }
}
