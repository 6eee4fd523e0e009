//! Tokens of service accounts, asked for when a Pod's volumes are made and again before they end.

use std::time::Duration;

use jiff::Timestamp;
use skiff_client::{Api, Error};
use skiff_proto::corev1::{Pod, ServiceAccount};

use super::Pods;
use crate::lifecycle::PodKey;
use crate::volumes::tokens::{self, Projected, RETRY, Tokens};

/// A Pod's tokens, and when the first of them is to be renewed.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// by where they are
    pub tokens: Tokens,
    /// None where there is no token
    pub renew_at: Option<Timestamp>,
}

impl Fetched {
    fn add(&mut self, token: &Projected, bytes: Vec<u8>, renew_at: Timestamp) {
        self.tokens.insert(token.place.clone(), bytes);
        self.renew_at = Some(self.renew_at.map_or(renew_at, |earlier| earlier.min(renew_at)));
    }
}

impl Pods {
    /// The tokens that a Pod's volumes hold: those on the disk that are young enough, and new ones for the rest.
    pub(super) async fn tokens(&self, key: &PodKey, pod: &Pod) -> Result<Fetched, Error> {
        let mut fetched = Fetched::default();
        for token in tokens::of(pod) {
            let (volume, path) = &token.place;
            if let Some(bytes) = self.shared.volumes.read(&key.uid, volume, path).await
                && let Some(renew_at) = tokens::kept(pod, &token, &bytes)
                && renew_at > self.shared.world.wall()
            {
                fetched.add(&token, bytes, renew_at);
                continue;
            }
            let issued = self.shared.world.wall();
            let asked = tokens::request(pod, &token);
            let account = pod.spec.service_account_name.as_str();
            let answer = Api::<ServiceAccount>::new(&self.client).token(&key.namespace, account, &asked).await?;
            // By this node's clock from now on: the server's may differ.
            let life = Duration::from_secs(answer.spec.expiration_seconds.map_or(0, i64::unsigned_abs));
            fetched.add(&token, answer.status.token.into_bytes(), tokens::renew_at(issued, issued + life));
        }
        Ok(fetched)
    }

    /// Renews the tokens whose time has come. The old ones are good for a while yet: what fails is tried again, and
    /// nothing else of the Pod waits for it.
    pub(super) async fn renew_tokens(&self, key: &PodKey) {
        let Some(pod) = self.pod(key) else { return };
        let renewed = async {
            let fetched = self.tokens(key, &pod).await.map_err(|error| error.to_string())?;
            for token in tokens::of(&pod) {
                let (volume, path) = &token.place;
                let Some(bytes) = fetched.tokens.get(&token.place) else { continue };
                let file = tokens::file(&pod, path, token.mode, bytes);
                self.shared.volumes.replace(&key.uid, volume, file).await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(fetched.renew_at)
        };
        let next = match renewed.await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(pod = %key, error, "a service account token could not be renewed");
                Some(self.shared.world.wall() + RETRY)
            }
        };
        self.with(key, |record| record.renew_tokens_at = next);
        self.wake(key, "its tokens were looked at");
    }
}
