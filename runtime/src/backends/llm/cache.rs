//! Answers that were given before: each user has a cache of the own, so that there is no key under which one could find
//! another's. Equal requests at one time are asked once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;

use super::RouterConfig;
use crate::host_api::Name;
use crate::host_api::llm::{Attempt, LlmError, Request, Response, Usage};

/// What is kept for one user, in bytes of answers.
const USER_BYTES_MAX: u64 = 16 << 20;

/// A longer answer is not kept: the cache notices only after some dozens of new ones that it is full.
const ANSWER_BYTES_MAX: u64 = 256 << 10;

/// Users whose answers are kept, and how long after they asked last.
const USERS_MAX: u64 = 256;
const USER_IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The caches of all users.
pub(super) struct Caches(moka::sync::Cache<Name, Cache>);

/// The cache of one user.
#[derive(Clone)]
pub(super) struct Cache(moka::future::Cache<[u8; 32], Kept>);

#[derive(Clone)]
struct Kept {
    response: Arc<Response>,
    ttl: Duration,
}

/// Each answer goes when its own time is over.
struct Ttl;

impl Expiry<[u8; 32], Kept> for Ttl {
    fn expire_after_create(&self, _: &[u8; 32], kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.ttl)
    }

    fn expire_after_update(&self, _: &[u8; 32], kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.ttl)
    }
}

impl Kept {
    fn new(response: Response, ttl: Duration) -> Self {
        Kept { response: Arc::new(response), ttl }
    }

    /// All that it holds, the tries that failed included.
    fn bytes(&self) -> u64 {
        let text = |attempt: &Attempt| {
            attempt.provider.len() + attempt.model.len() + attempt.failure.as_ref().map_or(0, String::len)
        };
        let attempts: usize = self.response.attempts.iter().map(|attempt| size_of::<Attempt>() + text(attempt)).sum();
        self.response.bytes().saturating_add(attempts as u64)
    }

    fn is_too_long(&self) -> bool {
        self.bytes() > ANSWER_BYTES_MAX
    }
}

/// A request under the configuration that it is asked with.
#[derive(Clone, Copy)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(config: &RouterConfig, request: &Request) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(config.digest().as_bytes());
        // Into a hasher nothing fails, and every request has a JSON form.
        let _ = serde_json::to_writer(&mut hasher, request);
        Key(*hasher.finalize().as_bytes())
    }
}

impl Default for Caches {
    fn default() -> Self {
        Caches(moka::sync::Cache::builder().max_capacity(USERS_MAX).time_to_idle(USER_IDLE_MAX).build())
    }
}

impl Caches {
    pub(super) fn of(&self, user: &Name) -> Cache {
        self.0.get_with_by_ref(user, || {
            let bytes = |_: &[u8; 32], kept: &Kept| u32::try_from(kept.bytes()).unwrap_or(u32::MAX);
            let cache = moka::future::Cache::builder().max_capacity(USER_BYTES_MAX).weigher(bytes);
            Cache(cache.expire_after(Ttl).build())
        })
    }
}

impl Cache {
    /// The answer that is kept.
    pub(super) async fn get(&self, key: Key) -> Option<Response> {
        self.0.get(&key.0).await.map(|kept| given_again(&kept.response))
    }

    /// The answer is of no use.
    pub(super) async fn forget(&self, key: Key) {
        self.0.invalidate(&key.0).await;
    }

    /// Keeps an answer.
    pub(super) async fn keep(&self, key: Key, response: &Response, ttl: Duration) {
        let kept = Kept::new(response.clone(), ttl);
        if !kept.is_too_long() {
            self.0.insert(key.0, kept).await;
        }
    }

    /// The answer that is kept, or the one that is being asked for now, or else the one that `ask` gives. If whoever asks
    /// gives up, the next one asks.
    pub(super) async fn get_or_ask(
        &self,
        key: Key,
        ttl: Duration,
        ask: impl Future<Output = Result<Response, LlmError>>,
    ) -> Result<Response, LlmError> {
        let asking = AtomicBool::new(false);
        let asked = async {
            asking.store(true, Ordering::Relaxed);
            Ok(Kept::new(ask.await?, ttl))
        };
        let entry = self.0.entry(key.0).or_try_insert_with(asked).await;
        let entry = entry.map_err(|error: Arc<LlmError>| match (&*error, asking.load(Ordering::Relaxed)) {
            // Who asked pays; the others owe nobody anything.
            (LlmError::AllFailed(attempts), false) => LlmError::NotBegun(attempts.clone()),
            (error, _) => error.clone(),
        })?;
        if entry.value().is_too_long() {
            self.0.invalidate(&key.0).await;
        }
        if entry.is_fresh() {
            return Ok(Response::clone(&entry.into_value().response));
        }
        Ok(given_again(&entry.into_value().response))
    }
}

/// Nobody was asked, and nobody is owed anything.
fn given_again(response: &Response) -> Response {
    let usage = Usage { cost_microusd: Some(0), ..Usage::default() };
    Response { usage, cached: true, attempts: Vec::new(), ..response.clone() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;
    use crate::host_api::llm::{FinishReason, Part};

    const TTL: Duration = Duration::from_secs(60);

    fn response(text_bytes: usize, model_bytes: usize) -> Response {
        let attempt =
            Attempt { provider: "p".to_owned(), model: "m".repeat(model_bytes), latency_ms: 1, failure: None };
        Response {
            parts: vec![Part::Text("x".repeat(text_bytes))],
            finish_reason: FinishReason::Stop,
            provider: "p".to_owned(),
            model: "m".to_owned(),
            usage: Usage::default(),
            cached: false,
            attempts: vec![attempt],
        }
    }

    fn key(number: u32) -> Key {
        Key(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    #[tokio::test]
    async fn a_user_holds_no_more_than_their_share() {
        let cache = Caches::default().of(&"mallory".parse().unwrap());
        for number in 0..500 {
            let asked = async { Ok(response(100 << 10, 100 << 10)) };
            cache.get_or_ask(key(number), TTL, asked).await.unwrap();
            cache.keep(key(1_000 + number), &response(200 << 10, 0), TTL).await;
            // Without being told to tidy up.
            let held: usize = cache.0.iter().map(|(_, kept)| kept.bytes() as usize).sum();
            assert!(held <= 2 * USER_BYTES_MAX as usize, "{held} bytes after {number}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_goes_after_its_own_time() {
        let cache = Caches::default().of(&"alice".parse().unwrap());
        cache.keep(key(1), &response(1, 1), Duration::from_millis(1)).await;
        cache.keep(key(2), &response(1, 1), TTL).await;
        while cache.get(key(1)).await.is_some() {
            tokio::task::yield_now().await;
        }
        assert!(cache.get(key(2)).await.is_some());
        let given = cache.get_or_ask(key(1), TTL, async { Ok(response(1, 1)) }).await.unwrap();
        assert!(!given.cached, "it was asked again");
    }

    #[tokio::test]
    async fn what_is_too_long_is_given_and_not_kept() {
        let cache = Caches::default().of(&"mallory".parse().unwrap());
        for (number, long) in [(1, response(1 << 20, 0)), (2, response(0, 1 << 20))] {
            let given = cache.get_or_ask(key(number), TTL, async { Ok(long.clone()) }).await.unwrap();
            assert_eq!(given, long);
            assert!(cache.get(key(number)).await.is_none());
            cache.keep(key(number), &long, TTL).await;
            assert!(cache.get(key(number)).await.is_none());
        }
    }
}
