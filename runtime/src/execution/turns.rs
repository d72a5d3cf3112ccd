//! Turns: users share the guests' threads, however many guests each of them has.
//!
//! A guest runs in slices, from one yield or wait to the next, and there are as many turns as threads. To be
//! woken is to ask for a turn: who gets none waits in the queue of its user, and not in that of the threads.
//! A turn that ends goes to the next user who waits, and among that user's guests to the one that waited longest.
//! So a user with a thousand spinning guests takes no more from another user than one with a single guest does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use holm_host_api::Name;

/// The turns of a runtime's guests.
pub(crate) struct Turns {
    queues: Mutex<Queues>,
}

struct Queues {
    free: usize,
    next_guest: u64,
    next_place: u64,
    guests: HashMap<u64, Guest>,
    /// The guests that wait, by user and place: the smallest waited longest. No user's map is empty.
    waiting: HashMap<Name, BTreeMap<u64, u64>>,
    /// The users who wait, the next one first.
    users: VecDeque<Name>,
}

struct Guest {
    user: Name,
    standing: Standing,
    /// Wakes the task that the guest is part of.
    task: Waker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It waits for something else than a turn.
    Asleep,
    /// It waits for a turn, at this place.
    Waiting(u64),
    /// Its turn has come.
    Granted,
    /// It runs.
    Running,
    /// It runs, and was woken since.
    RunningAwake,
}

impl Turns {
    pub(crate) fn new(threads: usize) -> Arc<Self> {
        let queues = Queues {
            free: threads.max(1),
            next_guest: 0,
            next_place: 0,
            guests: HashMap::new(),
            waiting: HashMap::new(),
            users: VecDeque::new(),
        };
        Arc::new(Turns { queues: Mutex::new(queues) })
    }

    /// Runs a guest's work in turns. Its first slice needs none: it is short, and most executions are no longer.
    pub(crate) fn share<F: Future + Unpin>(self: &Arc<Self>, user: &Name, work: F) -> InTurns<F> {
        InTurns { turns: Arc::clone(self), user: user.clone(), asks: None, work }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes who has a turn, and wakes who has one now: after the lock, since waking may run anything.
    fn change(&self, change: impl FnOnce(&mut Queues) -> Option<Waker>) {
        let woken = change(&mut self.lock());
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Queues {
    fn enter(&mut self, user: &Name, task: &Waker) -> u64 {
        let guest = self.next_guest;
        self.next_guest += 1;
        self.guests.insert(guest, Guest { user: user.clone(), standing: Standing::Running, task: task.clone() });
        guest
    }

    /// A guest leaves, with whatever it has or waits for.
    fn leave(&mut self, guest: u64, holds_turn: bool) -> Option<Waker> {
        let Guest { user, standing, .. } = self.guests.remove(&guest)?;
        if let Standing::Waiting(place) = standing
            && let Some(queue) = self.waiting.get_mut(&user)
        {
            queue.remove(&place);
            if queue.is_empty() {
                self.waiting.remove(&user);
                self.users.retain(|waiting| *waiting != user);
            }
        }
        if holds_turn || standing == Standing::Granted { self.pass_on() } else { None }
    }

    /// A guest was woken.
    fn wake(&mut self, guest: u64) -> Option<Waker> {
        let woken = self.guests.get_mut(&guest)?;
        match woken.standing {
            Standing::Running => woken.standing = Standing::RunningAwake,
            Standing::Asleep if self.free > 0 => {
                self.free -= 1;
                woken.standing = Standing::Granted;
                return Some(woken.task.clone());
            }
            Standing::Asleep => self.queue(guest),
            Standing::Waiting(_) | Standing::Granted | Standing::RunningAwake => {}
        }
        None
    }

    fn queue(&mut self, guest: u64) {
        let Some(queued) = self.guests.get_mut(&guest) else { return };
        let place = self.next_place;
        self.next_place += 1;
        queued.standing = Standing::Waiting(place);
        if let Some(queue) = self.waiting.get_mut(&queued.user) {
            queue.insert(place, guest);
        } else {
            self.waiting.insert(queued.user.clone(), BTreeMap::from([(place, guest)]));
            self.users.push_back(queued.user.clone());
        }
    }

    /// Uses the turn that the guest waited for, if it has come.
    fn begin(&mut self, guest: u64, task: &Waker) -> bool {
        let Some(guest) = self.guests.get_mut(&guest) else { return false };
        guest.task.clone_from(task);
        let begins = guest.standing == Standing::Granted;
        if begins {
            guest.standing = Standing::Running;
        }
        begins
    }

    /// A slice ended. Who was woken meanwhile waits behind all who wait already.
    fn end(&mut self, guest: u64, holds_turn: bool) -> Option<Waker> {
        let ended = self.guests.get_mut(&guest)?;
        let awake = ended.standing == Standing::RunningAwake;
        ended.standing = Standing::Asleep;
        match (holds_turn, awake) {
            (true, true) => {
                self.queue(guest);
                self.pass_on()
            }
            (true, false) => self.pass_on(),
            (false, true) => self.wake(guest),
            (false, false) => None,
        }
    }

    /// A turn is over: the next in line has it.
    fn pass_on(&mut self) -> Option<Waker> {
        let Some(user) = self.users.pop_front() else {
            self.free += 1;
            return None;
        };
        let queue = self.waiting.get_mut(&user)?;
        let (_, next) = queue.pop_first()?;
        if queue.is_empty() {
            self.waiting.remove(&user);
        } else {
            self.users.push_back(user);
        }
        let next = self.guests.get_mut(&next)?;
        next.standing = Standing::Granted;
        Some(next.task.clone())
    }
}

/// Work that is done in turns.
pub(crate) struct InTurns<F> {
    turns: Arc<Turns>,
    user: Name,
    /// Asks for turns for this guest; made when the first slice does not end the work.
    asks: Option<(Arc<Asks>, Waker)>,
    work: F,
}

/// To wake the guest is to ask for its turn.
struct Asks {
    turns: Arc<Turns>,
    guest: u64,
}

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        self.turns.change(|queues| queues.wake(self.guest));
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.turns.change(|queues| queues.wake(self.guest));
    }
}

impl<F: Future + Unpin> Future for InTurns<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let holds_turn = this.asks.is_some();
        let (asks, waker) = this.asks.get_or_insert_with(|| {
            let guest = this.turns.lock().enter(&this.user, context.waker());
            let asks = Arc::new(Asks { turns: Arc::clone(&this.turns), guest });
            (Arc::clone(&asks), Waker::from(asks))
        });
        if holds_turn && !this.turns.lock().begin(asks.guest, context.waker()) {
            return Poll::Pending;
        }
        let mut slice = Slice { turns: &this.turns, guest: asks.guest, holds_turn, ended: false };
        let polled = Pin::new(&mut this.work).poll(&mut Context::from_waker(waker));
        if polled.is_pending() {
            slice.ended = true;
            this.turns.change(|queues| queues.end(slice.guest, holds_turn));
        }
        polled
    }
}

impl<F> Drop for InTurns<F> {
    fn drop(&mut self) {
        if let Some((asks, _)) = &self.asks {
            self.turns.change(|queues| queues.leave(asks.guest, false));
        }
    }
}

/// A slice under way. Where it is the last one, because the work is done or panicked, its turn ends with it.
struct Slice<'a> {
    turns: &'a Turns,
    guest: u64,
    holds_turn: bool,
    ended: bool,
}

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.turns.change(|queues| queues.leave(self.guest, self.holds_turn));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use futures::task::noop_waker_ref;

    use super::*;

    /// Work that yields for ever, and counts its slices.
    fn spin(slices: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Unpin + use<> {
        let slices = Arc::clone(slices);
        Box::pin(std::future::poll_fn(move |context| {
            slices.fetch_add(1, Ordering::Relaxed);
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    fn poll<F: Future + Unpin>(work: &mut F) -> Poll<F::Output> {
        Pin::new(work).poll(&mut Context::from_waker(noop_waker_ref()))
    }

    fn free(turns: &Turns) -> usize {
        let queues = turns.lock();
        assert!(queues.waiting.is_empty() && queues.users.is_empty() && queues.guests.is_empty());
        queues.free
    }

    #[tokio::test]
    async fn a_user_with_many_guests_gets_no_more_than_one_with_one() {
        let turns = Turns::new(1);
        let (many, one) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let guests: Vec<_> = (0..50)
            .map(|_| tokio::spawn(turns.share(&alice, spin(&many))))
            .chain([tokio::spawn(turns.share(&bob, spin(&one)))])
            .collect();
        while many.load(Ordering::Relaxed) + one.load(Ordering::Relaxed) < 1_000 {
            tokio::task::yield_now().await;
        }
        let (many, one) = (many.load(Ordering::Relaxed), one.load(Ordering::Relaxed));
        assert!(many.abs_diff(one) < 100, "alice's 50 guests had {many} slices, bob's one had {one}");
        for guest in &guests {
            guest.abort();
        }
        futures::future::join_all(guests).await;
        assert_eq!(free(&turns), 1);
    }

    #[test]
    fn a_turn_ends_with_whoever_had_or_awaited_it() {
        let turns = Turns::new(1);
        let user = "alice".parse().unwrap();
        let nothing = Arc::default();
        let [mut first, mut second, mut third] = [(); 3].map(|()| turns.share(&user, spin(&nothing)));
        // After its free slice the first is granted the only turn; the others wait for it.
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending() && poll(&mut third).is_pending());
        // The second gives up while it waits, the first after its turn came and before it used it.
        drop(second);
        drop(first);
        assert_eq!(turns.lock().free, 0, "the third has it");
        assert!(poll(&mut third).is_pending());
        drop(third);
        assert_eq!(free(&turns), 1);
    }

    #[test]
    fn a_panic_gives_its_turn_back() {
        let turns = Turns::new(1);
        let mut slices = 0;
        let mut work = turns.share(
            &"alice".parse().unwrap(),
            std::future::poll_fn(move |context| {
                context.waker().wake_by_ref();
                slices += 1;
                assert!(slices < 2, "the host fails");
                Poll::<()>::Pending
            }),
        );
        assert!(poll(&mut work).is_pending());
        assert!(AssertUnwindSafe(&mut work).catch_unwind().now_or_never().unwrap().is_err());
        assert_eq!(free(&turns), 1);
    }
}
