//! Turns: users share the guests' threads, however many guests each of them has and whatever these do.
//!
//! A guest runs in slices, from one yield or wait to the next. A turn is a few slices, and there are as many turns
//! as threads. To be woken is to ask for a turn: who gets none waits in the queue of its user, and not in that of
//! the threads. A turn that ends goes to the user who had the least time of all that wait, and among that user's
//! guests to the one that waited longest. So a thousand spinning guests of one user take no more from another than
//! one does, and neither do guests whose slices are long because an operation on much memory cannot be interrupted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use holm_host_api::Name;

/// A turn ends with the first slice that ends after this time. A slice is much shorter as a rule: to pass a turn on
/// costs a tenth of one.
const TURN_TIME: Duration = Duration::from_micros(500);

/// So much more than others a user may have had, and still be forgotten with its last guest.
const FORGIVEN: Duration = Duration::from_millis(2);

/// The turns of a runtime's guests.
pub(crate) struct Turns {
    queues: Mutex<Queues>,
}

struct Queues {
    free: usize,
    next_guest: u64,
    next_place: u64,
    guests: HashMap<u64, Guest>,
    users: HashMap<Name, User>,
    /// The users who have guests that wait, by the time they had.
    waiting: BTreeSet<(Duration, Name)>,
    /// The time that the user had whose turn came last. Who comes new begins here, and so does who had less: nobody
    /// saves time up.
    had_by_last: Duration,
    /// Users without guests whose last ones took more than their share, by the time they had.
    resting: BTreeSet<(Duration, Name)>,
}

/// A user who has guests.
struct User {
    guests: usize,
    had: Duration,
    /// Guests that wait, by place: the smallest waited longest.
    waiting: BTreeMap<u64, u64>,
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
    /// It has a turn, or its first slice.
    Running,
}

impl Turns {
    pub(crate) fn new(threads: usize) -> Arc<Self> {
        let queues = Queues {
            free: threads.max(1),
            next_guest: 0,
            next_place: 0,
            guests: HashMap::new(),
            users: HashMap::new(),
            waiting: BTreeSet::new(),
            had_by_last: Duration::ZERO,
            resting: BTreeSet::new(),
        };
        Arc::new(Turns { queues: Mutex::new(queues) })
    }

    /// Runs a guest's work in turns, and adds the time of its slices to `cpu`. Its first slice needs no turn: it is
    /// short, and most executions are no longer.
    pub(crate) fn share<'a, F: Future + Unpin>(
        self: &Arc<Self>,
        user: &Name,
        work: F,
        cpu: &'a mut Duration,
    ) -> InTurns<'a, F> {
        InTurns { turns: Arc::clone(self), user: user.clone(), asks: None, goes_on: false, work, cpu }
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
        match self.users.get_mut(user) {
            Some(known) => {
                if known.guests == 0 {
                    self.resting.remove(&(known.had, user.clone()));
                }
                known.guests += 1;
            }
            None => {
                let new = User { guests: 1, had: self.had_by_last, waiting: BTreeMap::new() };
                self.users.insert(user.clone(), new);
            }
        }
        guest
    }

    /// A guest leaves, with whatever it has or waits for. `time` is that of its last slices.
    fn leave(&mut self, guest: u64, holds_turn: bool, time: Duration) -> Option<Waker> {
        let Guest { user: name, standing, .. } = self.guests.remove(&guest)?;
        self.add_time(&name, time);
        if let Some(user) = self.users.get_mut(&name) {
            if let Standing::Waiting(place) = standing {
                user.waiting.remove(&place);
                if user.waiting.is_empty() {
                    self.waiting.remove(&(user.had, name.clone()));
                }
            }
            user.guests -= 1;
            if user.guests == 0 {
                // Who took much does not begin anew by going for a moment.
                if user.had > self.had_by_last + FORGIVEN {
                    self.resting.insert((user.had, name));
                } else {
                    self.users.remove(&name);
                }
            }
        }
        if holds_turn || standing == Standing::Granted { self.pass_on() } else { None }
    }

    /// A guest was woken.
    fn wake(&mut self, guest: u64) -> Option<Waker> {
        let woken = self.guests.get_mut(&guest)?;
        match woken.standing {
            Standing::Asleep if self.free > 0 => {
                self.free -= 1;
                woken.standing = Standing::Granted;
                let task = woken.task.clone();
                // While there is enough for all nobody falls behind by having it.
                let user = self.users.get_mut(&woken.user)?;
                user.had = user.had.max(self.had_by_last);
                let had = user.had;
                self.advance(had);
                return Some(task);
            }
            Standing::Asleep => self.queue(guest),
            Standing::Waiting(_) | Standing::Granted | Standing::Running => {}
        }
        None
    }

    fn queue(&mut self, guest: u64) {
        let Some(queued) = self.guests.get_mut(&guest) else { return };
        let Some(user) = self.users.get_mut(&queued.user) else { return };
        let place = self.next_place;
        self.next_place += 1;
        queued.standing = Standing::Waiting(place);
        if user.waiting.is_empty() {
            // Who had nothing to do for a while has no claim to that time.
            user.had = user.had.max(self.had_by_last);
            self.waiting.insert((user.had, queued.user.clone()));
        }
        user.waiting.insert(place, guest);
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

    /// A turn, or the first slice, ended that took `time`. Who is awake wants another. Says who has to be woken, and
    /// whether the guest itself goes on at once.
    fn end(&mut self, guest: u64, holds_turn: bool, awake: bool, time: Duration) -> (Option<Waker>, bool) {
        let Some(ended) = self.guests.get_mut(&guest) else { return (None, false) };
        ended.standing = Standing::Asleep;
        let name = ended.user.clone();
        self.add_time(&name, time);
        match (holds_turn, awake) {
            (true, true) => {
                self.queue(guest);
                let next = self.pass_on();
                let goes_on = self.guests.get(&guest).is_some_and(|guest| guest.standing == Standing::Granted);
                (next.filter(|_| !goes_on), goes_on)
            }
            (true, false) => (self.pass_on(), false),
            (false, true) => (self.wake(guest), false),
            (false, false) => (None, false),
        }
    }

    fn add_time(&mut self, name: &Name, time: Duration) {
        let Some(user) = self.users.get_mut(name) else { return };
        let waits = !user.waiting.is_empty() && self.waiting.remove(&(user.had, name.clone()));
        user.had = user.had.saturating_add(time);
        if waits {
            self.waiting.insert((user.had, name.clone()));
        }
    }

    fn advance(&mut self, had: Duration) {
        self.had_by_last = self.had_by_last.max(had);
        while let Some((had, _)) = self.resting.first()
            && *had <= self.had_by_last
            && let Some((_, name)) = self.resting.pop_first()
        {
            self.users.remove(&name);
        }
    }

    /// A turn is over: the next in line has it.
    fn pass_on(&mut self) -> Option<Waker> {
        let Some((had, name)) = self.waiting.pop_first() else {
            self.free += 1;
            return None;
        };
        self.advance(had);
        let user = self.users.get_mut(&name)?;
        let (_, next) = user.waiting.pop_first()?;
        if !user.waiting.is_empty() {
            self.waiting.insert((had, name));
        }
        let next = self.guests.get_mut(&next)?;
        next.standing = Standing::Granted;
        Some(next.task.clone())
    }
}

/// Work that is done in turns.
pub(crate) struct InTurns<'a, F> {
    turns: Arc<Turns>,
    user: Name,
    /// Asks for turns for this guest; made when the first slice begins.
    asks: Option<(Arc<Asks>, Waker)>,
    goes_on: bool,
    work: F,
    cpu: &'a mut Duration,
}

/// To wake the guest is to ask for its turn, unless it has one.
struct Asks {
    turns: Arc<Turns>,
    guest: u64,
    /// One of the three below.
    state: AtomicU8,
}

/// It does not run: who wakes it asks for a turn.
const ASLEEP: u8 = 0;
/// It runs: who wakes it leaves word.
const RUNNING: u8 = 1;
/// It runs, and was woken since.
const AWAKE: u8 = 2;

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let left_word = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
            RUNNING | AWAKE => Some(AWAKE),
            _ => None,
        });
        if left_word.is_err() {
            self.turns.change(|queues| queues.wake(self.guest));
        }
    }
}

impl<F> InTurns<'_, F> {
    /// True if the guest, which is pending, has the next turn already: nobody else needs it more. Nothing wakes it
    /// but another poll.
    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on
    }
}

impl<F: Future + Unpin> Future for InTurns<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let holds_turn = this.asks.is_some();
        let (asks, waker) = this.asks.get_or_insert_with(|| {
            let guest = this.turns.lock().enter(&this.user, context.waker());
            let asks = Arc::new(Asks { turns: Arc::clone(&this.turns), guest, state: AtomicU8::new(ASLEEP) });
            (Arc::clone(&asks), Waker::from(asks))
        });
        this.goes_on = false;
        if holds_turn && !this.turns.lock().begin(asks.guest, context.waker()) {
            return Poll::Pending;
        }
        let mut turn = Turn { turns: &this.turns, guest: asks.guest, holds_turn, ended: false, time: Duration::ZERO };
        let begun = Instant::now();
        let time = loop {
            asks.state.swap(RUNNING, Ordering::AcqRel);
            let polled = Pin::new(&mut this.work).poll(&mut Context::from_waker(waker));
            let time = begun.elapsed();
            turn.time = time;
            if polled.is_ready() {
                *this.cpu += time;
                return polled;
            }
            if !holds_turn || time >= TURN_TIME || asks.state.load(Ordering::Acquire) != AWAKE {
                break time;
            }
        };
        *this.cpu += time;
        turn.ended = true;
        let mut queues = this.turns.lock();
        // Under the lock: who wakes the guest from here on waits until it stands as asleep.
        let awake = asks.state.swap(ASLEEP, Ordering::AcqRel) == AWAKE;
        let (next, goes_on) = queues.end(turn.guest, holds_turn, awake, time);
        drop(queues);
        this.goes_on = goes_on;
        next.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl<F> Drop for InTurns<'_, F> {
    fn drop(&mut self) {
        if let Some((asks, _)) = &self.asks {
            self.turns.change(|queues| queues.leave(asks.guest, false, Duration::ZERO));
        }
    }
}

/// A turn, or a first slice, under way. Where the work is done or panicked, the guest leaves with it.
struct Turn<'a> {
    turns: &'a Turns,
    guest: u64,
    holds_turn: bool,
    ended: bool,
    time: Duration,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.turns.change(|queues| queues.leave(self.guest, self.holds_turn, self.time));
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

    /// Work that yields for ever after slices of some length, and counts them.
    fn spin(slices: &Arc<AtomicUsize>, length: Duration) -> impl Future<Output = ()> + Unpin + use<> {
        let slices = Arc::clone(slices);
        Box::pin(std::future::poll_fn(move |context| {
            slices.fetch_add(1, Ordering::Relaxed);
            let begun = Instant::now();
            while begun.elapsed() < length {
                std::hint::spin_loop();
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    fn poll<F: Future + Unpin>(work: &mut F) -> Poll<F::Output> {
        Pin::new(work).poll(&mut Context::from_waker(noop_waker_ref()))
    }

    fn free(turns: &Turns) -> usize {
        let queues = turns.lock();
        assert!(queues.waiting.is_empty() && queues.guests.is_empty());
        assert!(queues.users.len() == queues.resting.len());
        queues.free
    }

    /// A guest in a task, as the pipeline runs it.
    fn start(
        turns: &Arc<Turns>,
        user: &str,
        work: impl Future<Output = ()> + Unpin + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let (turns, user) = (Arc::clone(turns), user.parse().unwrap());
        tokio::spawn(async move {
            let mut cpu = Duration::ZERO;
            let mut guest = turns.share(&user, work, &mut cpu);
            std::future::poll_fn(|context| {
                let polled = Pin::new(&mut guest).poll(context);
                if guest.goes_on() {
                    context.waker().wake_by_ref();
                }
                polled
            })
            .await;
        })
    }

    /// Runs guests of two users on one thread, and says how many slices each user had.
    async fn slices(alice: (usize, Duration), bob: (usize, Duration), total: usize) -> (usize, usize) {
        let turns = Turns::new(1);
        let (had_alice, had_bob) = (Arc::default(), Arc::default());
        let guests: Vec<_> = (0..alice.0)
            .map(|_| start(&turns, "alice", spin(&had_alice, alice.1)))
            .chain((0..bob.0).map(|_| start(&turns, "bob", spin(&had_bob, bob.1))))
            .collect();
        while had_alice.load(Ordering::Relaxed) + had_bob.load(Ordering::Relaxed) < total {
            tokio::task::yield_now().await;
        }
        let had = (had_alice.load(Ordering::Relaxed), had_bob.load(Ordering::Relaxed));
        for guest in &guests {
            guest.abort();
        }
        futures::future::join_all(guests).await;
        assert_eq!(free(&turns), 1);
        had
    }

    #[tokio::test]
    async fn a_user_with_many_guests_gets_no_more_than_one_with_one() {
        let slice = Duration::from_micros(20);
        let (many, one) = slices((50, slice), (1, slice), 1_000).await;
        assert!(one * 2 > many, "alice's 50 guests had {many} slices, bob's one had {one}");
    }

    #[tokio::test]
    async fn a_user_with_long_slices_gets_fewer() {
        let (long, short) = slices((1, Duration::from_millis(2)), (1, Duration::from_micros(100)), 200).await;
        assert!(short > long * 5, "alice had {long} long slices, bob {short} short ones");
    }

    /// What a user had while there was enough for all is no debt to who comes later.
    #[tokio::test]
    async fn nobody_is_behind_for_what_nobody_else_wanted() {
        let turns = Turns::new(1);
        let (had_alice, had_bob) = (Arc::default(), Arc::default());
        let slice = Duration::from_millis(1);
        let mut guests = vec![start(&turns, "alice", spin(&had_alice, slice))];
        while had_alice.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
        guests.push(start(&turns, "bob", spin(&had_bob, slice)));
        while had_alice.load(Ordering::Relaxed) + had_bob.load(Ordering::Relaxed) < 140 {
            tokio::task::yield_now().await;
        }
        let had = (had_alice.load(Ordering::Relaxed) - 100, had_bob.load(Ordering::Relaxed));
        assert!(had.0 > 10 && had.1 > 10, "alice had {} of 40, bob {}", had.0, had.1);
        for guest in &guests {
            guest.abort();
        }
        futures::future::join_all(guests).await;
    }

    #[test]
    fn a_turn_ends_with_whoever_had_or_awaited_it() {
        let turns = Turns::new(1);
        let user = "alice".parse().unwrap();
        let nothing = Arc::default();
        let mut cpu = [Duration::ZERO; 3];
        let [mut first, mut second, mut third] =
            cpu.each_mut().map(|cpu| turns.share(&user, spin(&nothing, Duration::ZERO), cpu));
        // After its free slice the first is granted the only turn; the others wait for it.
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending() && poll(&mut third).is_pending());
        // The second gives up while it waits, the first after its turn came and before it used it.
        drop(second);
        drop(first);
        assert_eq!(turns.lock().free, 0, "the third has it");
        assert!(poll(&mut third).is_pending());
        assert!(third.goes_on(), "nobody else wants the next one");
        drop(third);
        assert_eq!(free(&turns), 1);
    }

    #[test]
    fn a_panic_gives_its_turn_back() {
        let turns = Turns::new(1);
        let (mut slices, mut cpu) = (0, Duration::ZERO);
        let mut work = turns.share(
            &"alice".parse().unwrap(),
            std::future::poll_fn(move |context| {
                context.waker().wake_by_ref();
                slices += 1;
                assert!(slices < 2, "the host fails");
                Poll::<()>::Pending
            }),
            &mut cpu,
        );
        assert!(poll(&mut work).is_pending());
        assert!(AssertUnwindSafe(&mut work).catch_unwind().now_or_never().unwrap().is_err());
        assert_eq!(free(&turns), 1);
    }
}
