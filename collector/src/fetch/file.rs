//! A feed that is one file.

use ring::digest::{SHA256, digest};

use super::client::{Answer, Ask, Client};
use super::error::FetchError;
use super::folder::{Folder, Staging};
use super::{Came, hex};
use crate::store::feeds::{Validators, Version};

/// Asks for the file; what came lies in the staging folder.
pub(super) async fn fetch(
    client: &Client<'_>,
    name: &str,
    current: Option<&Version>,
    folder: &Folder,
    staging: &Staging,
) -> Result<Came, FetchError> {
    let ask = Ask {
        validators: known(current, folder),
        accept: None,
    };
    let content = match client.get(client.url(), ask, client.bytes_max()).await? {
        Answer::NotModified => return Ok(Came::Unchanged(None)),
        Answer::Content(content) => content,
    };
    let digest = hex(digest(&SHA256, &content.bytes).as_ref());
    if let Some(current) = current
        && current.digest == digest
        && folder.path(&current.content).exists()
    {
        // A server without validators, or one that has new ones for the same.
        return Ok(Came::Unchanged(Some(content.validators)));
    }
    let version = Version {
        content: format!("{name}.txt"),
        bytes: content.bytes.len() as u64,
        digest,
        validators: content.validators,
        ..Version::default()
    };
    tokio::fs::write(staging.path(&version.content), content.bytes).await?;
    Ok(Came::New(version))
}

/// What to tell the server that we have: nothing if it is not there any more.
pub(super) fn known<'a>(current: Option<&'a Version>, folder: &Folder) -> Option<&'a Validators> {
    let current = current.filter(|current| folder.path(&current.content).exists())?;
    let has_any = current.validators != Validators::default();
    has_any.then_some(&current.validators)
}
