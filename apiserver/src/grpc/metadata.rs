//! What travels beside a message: who calls, why, and under which fence.

use crate::registry::{ApiError, ApiResult, Fence};
use prost::Message;
use skiff_proto::skiffv1::{Actor, Cause};
use skiff_world::Identity;
use tonic::Extensions;
use tonic::metadata::MetadataMap;

/// The key of a write's cause.
const CAUSE: &str = "skiff-cause-bin";
/// The key of a write's fence.
const FENCE: &str = "skiff-fence";
/// The key of when the writing process was started.
const PROCESS_START: &str = "skiff-process-start";
/// The most a client may say about why, in bytes.
const CAUSE_MAX: usize = 1024;
/// As much of a program's name is kept.
const PROGRAM_MAX: usize = 64;

/// Who is at the other end of the connection: nobody, if there were no credentials. Put into every request's extensions
/// by `crate::http`.
#[derive(Clone, Debug)]
pub struct Caller(pub Option<Identity>);

/// The authenticated caller, or 401.
pub fn identity(extensions: &Extensions) -> ApiResult<Identity> {
    extensions.get::<Caller>().and_then(|caller| caller.0.clone()).ok_or_else(ApiError::unauthorized)
}

/// The cause a client sends, with the program that it says it is; nothing else if it sends none.
pub fn cause(metadata: &MetadataMap) -> ApiResult<Cause> {
    let process_start = process_start(metadata);
    let actor = Some(Actor { component: program(metadata), process_start, ..Actor::default() });
    Ok(Cause { actor, ..sent_cause(metadata)? })
}

/// The first word of the user agent: what follows names libraries.
fn program(metadata: &MetadataMap) -> String {
    let agent = metadata.get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    agent.split(' ').next().unwrap_or_default().chars().take(PROGRAM_MAX).collect()
}

/// When the process was started, if that is a time.
fn process_start(metadata: &MetadataMap) -> String {
    let text = metadata.get(PROCESS_START).and_then(|start| start.to_str().ok()).unwrap_or_default();
    text.parse::<jiff::Timestamp>().map(|start| start.to_string()).unwrap_or_default()
}

fn sent_cause(metadata: &MetadataMap) -> ApiResult<Cause> {
    let Some(value) = metadata.get_bin(CAUSE) else { return Ok(Cause::default()) };
    let bytes = value.to_bytes().map_err(|_| ApiError::bad_request(format!("{CAUSE} is not base64")))?;
    if bytes.len() > CAUSE_MAX {
        return Err(ApiError::too_large("the cause of this write", bytes.len(), CAUSE_MAX));
    }
    Cause::decode(bytes).map_err(|e| ApiError::bad_request(format!("{CAUSE} is not a Cause: {e}")))
}

/// The fence a client sends.
pub fn fence(metadata: &MetadataMap) -> ApiResult<Option<Fence>> {
    let Some(value) = metadata.get(FENCE) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(Fence::parse);
    parsed.map(Some).ok_or_else(|| {
        ApiError::bad_request(format!("{FENCE} must read namespace/name/holder/transitions, and does not"))
    })
}
