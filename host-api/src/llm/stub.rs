#![allow(missing_docs)]
use super::*;
#[derive(Default)]
pub struct OfflineProvider;
pub struct Script;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ScriptError;
impl Script { pub fn from_json(_: &str) -> Result<Script, ScriptError> { Err(ScriptError) } }
impl OfflineProvider { pub fn scripted(_: Script) -> Self { OfflineProvider } }
impl LlmBackend for OfflineProvider { fn open(&self, _: &Arc<crate::Scope>) -> Result<Arc<dyn Router>, LlmError> { Ok(Arc::new(OfflineProvider)) } }
impl Router for OfflineProvider {
 fn complete(self: Arc<Self>, _: Request) -> BoxFuture<'static, Result<Response, LlmError>> { async { Err(LlmError::Refused("x".into())) }.boxed() }
 fn stream(self: Arc<Self>, _: Request) -> futures::stream::BoxStream<'static, Result<Delta, LlmError>> { Box::pin(futures::stream::empty()) }
 fn embed(self: Arc<Self>, _: Option<String>, _: Vec<String>) -> BoxFuture<'static, Result<Vec<Vec<f32>>, LlmError>> { async { Err(LlmError::Refused("x".into())) }.boxed() }
}
