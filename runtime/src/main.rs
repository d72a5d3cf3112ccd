//! The `runtime` command.

fn main() -> std::process::ExitCode {
    holm_runtime::cli::main()
}
