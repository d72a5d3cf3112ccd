//! The process that compiles: it gives up what it does not need, then reads what it must not trust.

use std::io::{Read as _, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;

use holm_host_api::HostError;
use landlock::{ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetError, RulesetStatus, Scope};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::set_no_new_privs;

use super::order::{Order, status};
use crate::engine;

/// Address space that a worker may reserve beyond the memory that it may write to, in bytes: its program, and
/// what the allocator reserves for each thread without using it.
const RESERVED_BYTES_MAX: u64 = 4 << 30;

/// Files that a worker has: stdin, stdout and stderr.
const FILES_MAX: i32 = 3;

/// Compiles one workload for the process that started this one: [`CompileIn::Child`](super::CompileIn::Child).
///
/// `main` calls it for an argument that it chooses, before it starts a thread or opens a file, and returns what it
/// gives.
/// It reads the order and the component on stdin and leaves the code on stdout, or on stderr why there is none.
///
/// Before it reads the component it limits its memory, CPU time and files to what the order allows and can no
/// longer open a file or a socket, start a process, nor get the rights of another program. Where the kernel has
/// Landlock, not even root could undo this for files and TCP.
pub fn compile_worker() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| say(&format!("the compiler panicked: {panic}"))));
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ending { status, message }) => {
            say(&message);
            ExitCode::from(status)
        }
    }
}

/// Why a worker leaves no code.
struct Ending {
    status: u8,
    message: String,
}

impl Ending {
    fn failed(message: impl Into<String>) -> Self {
        Ending { status: status::FAILED, message: message.into() }
    }

    /// Says what failed, before the error that says why.
    fn because<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Self {
        move |error| Ending::failed(format!("{what}: {error}"))
    }
}

impl From<HostError> for Ending {
    fn from(error: HostError) -> Self {
        Ending::failed(format!("{error}: {}", error.cause().unwrap_or_default()))
    }
}

fn work() -> Result<(), Ending> {
    // Asked while files can be opened: the limits of a container are in some.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    // If memory runs out, this process should end and not the one that it works for.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    close_inherited().map_err(Ending::because("the compiler cannot close the files of others"))?;
    // In this order: rules are made in an open file.
    give_up_files_and_network().map_err(Ending::because("the compiler cannot give up files and network"))?;
    give_up_rights().map_err(Ending::because("the compiler cannot give up its rights"))?;

    let mut stdin = std::io::stdin().lock();
    let Some(order) = Order::read(&mut stdin) else {
        return Err(Ending::failed(
            "this is how Holm starts its own compiler: it reads an order on stdin, which is not for use by hand",
        ));
    };
    limit(&order).map_err(Ending::because("the compiler cannot limit itself"))?;
    let threads = cores.min(usize::try_from(order.limits.threads).unwrap_or(1)).max(1);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(Ending::because("the compiler cannot start its threads"))?;
    let Some(engine) = engine::for_compiling(&order.engine)? else {
        return Err(Ending::failed("the compiler is of another version than the program that started it"));
    };

    let mut component = Vec::new();
    stdin
        .by_ref()
        .take(order.component_bytes)
        .read_to_end(&mut component)
        .map_err(Ending::because("the workload cannot be read"))?;
    if component.len() as u64 != order.component_bytes {
        return Err(Ending::failed("the workload ends early"));
    }
    drop(stdin);
    std::thread::Builder::new()
        .spawn(end_when_nobody_waits)
        .map_err(Ending::because("the compiler cannot start its threads"))?;
    // All threads are there, and nothing else is to be started.
    at_most(Resource::Nproc, 0).map_err(Ending::because("the compiler cannot limit itself"))?;

    let compiled = std::panic::catch_unwind(AssertUnwindSafe(|| engine.precompile_component(&component)));
    let code = match compiled {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => return Err(Ending { status: status::REFUSED, message: format!("{error:#}") }),
        // The hook has said it.
        Err(_panic) => return Err(Ending { status: status::BROKE, message: String::new() }),
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&code).and_then(|()| stdout.flush()).map_err(Ending::because("the code cannot be handed over"))
}

fn give_up_rights() -> rustix::io::Result<()> {
    set_no_new_privs(true)?;
    at_most(Resource::Core, 0)?;
    // A new file or socket would be the fourth.
    at_most(Resource::Nofile, FILES_MAX.unsigned_abs().into())
}

/// Closes what the program that started this one left open for its children without meaning to.
fn close_inherited() -> std::io::Result<()> {
    let folder = Path::new("/proc/self/fd");
    let names = std::fs::read_dir(folder)?.map(|file| file.map(|file| file.file_name()));
    let open: Vec<_> = names.collect::<Result<_, _>>()?;
    // The folder itself was among them and is closed by now.
    for file in open.iter().filter(|file| folder.join(file).symlink_metadata().is_ok()) {
        match file.to_str().and_then(|number| number.parse::<i32>().ok()) {
            #[expect(unsafe_code, reason = "a file that nothing in this program knows of can be closed by number only")]
            // SAFETY: `compile_worker` comes first in its process, so that nothing in it has opened a file yet.
            Some(number) if number >= FILES_MAX => unsafe { rustix::io::close(number) },
            _ => {}
        }
    }
    Ok(())
}

/// Gives up what this kernel can take away of all that is listed, for this thread and those that it starts. That
/// it can take away nothing is no error.
fn give_up_files_and_network() -> Result<RulesetStatus, RulesetError> {
    let all = ABI::V6;
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(all))?
        .handle_access(AccessNet::from_all(all))?
        .scope(Scope::from_all(all))?
        .create()?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

fn limit(order: &Order) -> rustix::io::Result<()> {
    let limits = &order.limits;
    at_most(Resource::Fsize, 0)?;
    at_most(Resource::Data, limits.memory_bytes)?;
    at_most(Resource::As, limits.memory_bytes.saturating_add(RESERVED_BYTES_MAX))?;
    // At the first of the two comes a signal that says why, at the second one that only kills.
    let limit = Rlimit { current: Some(limits.cpu_seconds), maximum: Some(limits.cpu_seconds.saturating_add(1)) };
    setrlimit(Resource::Cpu, below(Resource::Cpu, limit))
}

fn at_most(resource: Resource, maximum: u64) -> rustix::io::Result<()> {
    setrlimit(resource, below(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) }))
}

/// A limit that was lower already stays.
fn below(resource: Resource, limit: Rlimit) -> Rlimit {
    let before = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let lower = |limit: Option<u64>| limit.map(|limit| limit.min(before));
    Rlimit { current: lower(limit.current), maximum: lower(limit.maximum) }
}

/// Whoever wants the code holds stdin open and writes no more to it. That it ends says that they are gone. The
/// kernel's own signal for this comes when a thread of theirs ends, which is not the same.
fn end_when_nobody_waits() {
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(status::FAILED.into());
}

/// One line on stderr. If nobody reads it, that is no reason to fail otherwise.
fn say(message: &str) {
    if !message.is_empty() {
        let _ = writeln!(std::io::stderr(), "{message}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_thread_that_gave_up_files_and_network_has_none() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let here = std::env::current_exe().unwrap();
        let restricted = std::thread::spawn(move || {
            let status = give_up_files_and_network().unwrap();
            (status, File::open(here).is_ok(), std::fs::read_dir("/").is_ok(), TcpStream::connect(address).is_ok())
        });
        match restricted.join().unwrap() {
            (RulesetStatus::FullyEnforced, file, folder, network) => assert!(!file && !folder && !network),
            (RulesetStatus::PartiallyEnforced, file, folder, _) => assert!(!file && !folder),
            // This kernel has no such thing, and nothing fails for that.
            (RulesetStatus::NotEnforced, file, folder, network) => assert!(file && folder && network),
        }
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn a_limit_is_never_raised() {
        let now = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let more = Rlimit { current: None, maximum: Some(u64::MAX) };
        assert_eq!(below(Resource::Nofile, more).maximum, Some(now));
        let less = Rlimit { current: Some(2), maximum: Some(3) };
        assert_eq!(below(Resource::Nofile, less), less);
    }
}
