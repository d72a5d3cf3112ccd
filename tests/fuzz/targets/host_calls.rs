//! Guests that call every host function with any argument.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use holm_fuzz::guest::{guest, input};
use holm_fuzz::host::{grants, host, small_budget};
use holm_fuzz::{panics, program, rarely};
use holm_host_api::BudgetName;
use holm_host_api::wasi::{Preopen, SCRATCH_GUEST_PATH};
use holm_runtime::ExecutionRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: panics::end_the_process(), |bytes: &[u8]| {
    if let Ok(request) = request(&mut Unstructured::new(bytes)) {
        host().execute(request);
    }
});

fn request(u: &mut Unstructured<'_>) -> Result<ExecutionRequest> {
    let host = host();
    let mut budget = small_budget();
    let choices: u8 = u.arbitrary()?;
    if choices & 1 != 0 {
        let name = u.choose(BudgetName::ALL)?;
        // With less memory than it begins with the guest does nothing.
        if *name != BudgetName::MemoryBytes || rarely(8, u)? {
            budget.set(*name, u.arbitrary::<u16>()?.into());
        }
    }
    let mut request = host.request(&guest().workload);
    if choices & 2 != 0 {
        let all = ["execution", "events", "trace", "llm.submit", "llm.wait", "llm.embed", "scratch"];
        request.grants = grants(&all[..u.int_in_range(0..=all.len())?]);
    }
    if choices & 4 == 0 && request.grants.allows_import("scratch") {
        request.wasi.scratch = Some(SCRATCH_GUEST_PATH.to_owned());
    }
    if choices & 8 != 0 {
        request.wasi.preopens.push(Preopen { host: host.given(), guest: "/given".into(), writable: false });
    }
    if choices & 16 != 0 {
        request.session = Some("a-session".parse().expect("a name"));
        request.config = BTreeMap::from([("key".to_owned(), "value".to_owned())]).into();
    }
    if choices & 32 != 0 {
        request.journal_entries_max = u.int_in_range(0..=50)?;
    }
    if choices & 64 != 0 {
        request.wasi.args.push("an argument\0".into());
        request.wasi.env.push(("A".into(), "b".into()));
    }
    if rarely(50, u)? {
        request.cancellation.cancel();
    }
    // Any bytes are a program too; few of those get far.
    let program = if rarely(8, u)? { u.bytes(u.len())?.to_vec() } else { program::program(guest(), u)? };
    Ok(request.budget(budget).input(input(&program)))
}
