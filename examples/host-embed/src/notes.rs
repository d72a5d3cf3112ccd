//! A capability that Holm does not know: notes, kept for each user.
//!
//! It is made as Holm makes its own. [`Notes`] lives as long as the server and is all that a backend is;
//! [`NotesContext`] lives as long as one execution; the functions that a guest calls are in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use holm_runtime::host_api::{
    Capability, CapabilityContext, Denied, Ending, Gate, HasView, HostError, Name, Outcome, State, View,
};
use wasmtime::component::Linker;

use bindings::notes::{Host, add_to_linker};

mod bindings {
    wasmtime::component::bindgen!({
        inline: "package example:bindings; world host { import example:notes/notes@0.1.0; }",
        path: "wit",
        imports: { default: trappable },
    });
    pub(super) use example::notes::notes;
}

/// Notes that one user can have. Whatever a host keeps for guests has a limit.
const NOTES_MAX: usize = 100;

/// Bytes of one note.
const NOTE_BYTES_MAX: usize = 4096;

/// The notes of all users, in memory. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Notes {
    kept: Arc<Mutex<HashMap<Name, Vec<String>>>>,
}

impl Notes {
    /// A user's notes, the oldest first.
    pub(crate) fn of(&self, user: &Name) -> Vec<String> {
        self.lock().get(user).cloned().unwrap_or_default()
    }

    fn count(&self, user: &Name) -> usize {
        self.lock().get(user).map_or(0, Vec::len)
    }

    /// Keeps all of these or none: another execution of the user may have filled the room meanwhile.
    fn keep(&self, user: &Name, taken: &mut Vec<String>) -> Result<(), HostError> {
        if taken.is_empty() {
            return Ok(());
        }
        let mut kept = self.lock();
        let notes = kept.entry(user.clone()).or_default();
        if notes.len() + taken.len() > NOTES_MAX {
            return Err(HostError::new(format!("the notes were not kept: there is room for {NOTES_MAX}")));
        }
        notes.append(taken);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Vec<String>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Capability for Notes {
    /// Grants name it so: `notes`, `notes.add`.
    fn name(&self) -> &'static str {
        "notes"
    }

    fn interfaces(&self) -> &'static [&'static str] {
        &["example:notes/notes@0.1.0"]
    }

    fn link(&self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        add_to_linker::<_, HasView<NotesContext>>(linker, State::view)
    }

    fn open<'a>(&'a self, gate: &'a mut Gate) -> BoxFuture<'a, Result<Box<dyn CapabilityContext>, HostError>> {
        // The one source of who the user is. A guest has no way to name another.
        let user = gate.scope().user.clone();
        let context = NotesContext { notes: self.clone(), user, taken: Vec::new() };
        ready(Ok(Box::new(context) as Box<dyn CapabilityContext>)).boxed()
    }
}

/// What one execution owns: the notes that it took, and that nobody else sees before it completes.
struct NotesContext {
    notes: Notes,
    user: Name,
    taken: Vec<String>,
}

impl NotesContext {
    fn add(&mut self, text: String) -> Result<u32, Denied> {
        if text.is_empty() || text.len() > NOTE_BYTES_MAX {
            return Err(Denied::Invalid(format!("a note has 1 to {NOTE_BYTES_MAX} bytes, not {}", text.len())));
        }
        if self.notes.count(&self.user) + self.taken.len() >= NOTES_MAX {
            return Err(Denied::Unavailable(format!("there is room for {NOTES_MAX} notes, and all of it is taken")));
        }
        self.taken.push(text);
        Ok(self.taken.len() as u32)
    }

    fn all(&self) -> Vec<String> {
        let mut notes = self.notes.of(&self.user);
        notes.extend_from_slice(&self.taken);
        notes
    }
}

impl CapabilityContext for NotesContext {
    /// Called once, however the execution ended. What a failed one took is dropped with this context.
    fn finish<'a>(&'a mut self, ending: &'a Ending) -> BoxFuture<'a, Result<(), HostError>> {
        let finished = match ending.outcome {
            Outcome::Completed => self.notes.keep(&self.user, &mut self.taken),
            _ => Ok(()),
        };
        ready(finished).boxed()
    }
}

/// What the guest calls. Each call goes through the gate, which knows what is granted and bills the work;
/// a denial is a value that the guest sees, never a trap.
impl Host for View<'_, NotesContext> {
    fn add(&mut self, text: String) -> wasmtime::Result<Result<u32, String>> {
        let (context, _, gate) = self.parts()?;
        let add = || {
            let call = gate.enter("notes", "add")?;
            call.moves(text.len());
            call.end(context.add(text))
        };
        Ok(add().map_err(|denied: Denied| denied.to_string()))
    }

    fn all(&mut self) -> wasmtime::Result<Result<Vec<String>, String>> {
        let (context, _, gate) = self.parts()?;
        let all = || {
            let call = gate.enter("notes", "all")?;
            let notes = context.all();
            call.moves(notes.iter().map(|note| size_of::<String>() + note.len()).sum());
            call.end(Ok(notes))
        };
        Ok(all().map_err(|denied: Denied| denied.to_string()))
    }
}
