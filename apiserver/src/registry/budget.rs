//! Whether the PodDisruptionBudgets let a Pod be evicted. One that does is charged in the same breath, by
//! compare-and-swap: however many evictions come at once, no more are granted than it has to give.

use super::commit::{ATTEMPTS, Beside, Current, cache_error};
use super::error::{ApiError, ApiResult};
use super::request::{Body, Operation, Request};
use super::{Registry, meta};
use crate::cache::ListOptions;
use crate::resources::{Resource, Typed};
use skiff_proto::corev1::Pod;
use skiff_proto::labels::Selector;
use skiff_proto::policyv1::PodDisruptionBudget;
use std::sync::Arc;

/// Before an eviction that was refused is worth another try, in seconds.
const TRY_AGAIN: i32 = 10;
/// A budget of which so many Pods are on their way is not read any further: its controller does not come after.
const MANY: usize = 2000;

/// What a budget says to an eviction.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The Pod counts for nothing: it may go, and nothing is charged.
    Free,
    /// It may go, and there is one less to give.
    Charged,
}

impl Registry {
    /// Asks the budgets whether a Pod may be evicted, and charges the one that says yes.
    pub(super) async fn charge_budget(&self, request: &Request, dry_run: bool) -> ApiResult<()> {
        let budgets = self.resource("policy", "v1", "poddisruptionbudgets")?;
        for _ in 0..ATTEMPTS {
            self.catch_up().await?;
            let current = self.existing(request).await?;
            let Some(Typed(pod)) = current.object.as_any().downcast_ref::<Typed<Pod>>() else {
                return Err(ApiError::internal("a Pod was expected"));
            };
            if is_on_its_way(pod) {
                return Ok(());
            }
            let matching = self.budgets_of(&budgets, pod)?;
            let (name, budget) = match matching.as_slice() {
                [] => return Ok(()),
                [one] => one,
                [(a, _), (b, _), ..] => {
                    return Err(ApiError::internal(format!(
                        "the pod {} has more than one PodDisruptionBudget ({a}, {b}), which an eviction cannot satisfy: \
                         change the selectors so that one of them has it",
                        request.name
                    )));
                }
            };
            let Some(Typed(stands)) = budget.object.as_any().downcast_ref::<Typed<PodDisruptionBudget>>() else {
                return Err(ApiError::internal("a PodDisruptionBudget was expected"));
            };
            if judge(stands, pod)? == Verdict::Free
                || self.charge(request, &budgets, name, budget, pod, dry_run).await?
            {
                return Ok(());
            }
        }
        Err(ApiError::modified(&request.resource, &request.name))
    }

    /// The budgets that select a Pod, by name.
    fn budgets_of(&self, budgets: &Arc<Resource>, pod: &Pod) -> ApiResult<Vec<(String, Current)>> {
        let namespace = &pod.metadata.namespace;
        let all = ListOptions { namespace: namespace.clone(), ..ListOptions::default() };
        let mut matching = Vec::new();
        for entry in self.inner.cache.list(budgets.cached(), &all).map_err(cache_error)?.entries {
            let Some(current) = self.current(budgets, namespace, entry.name())? else { continue };
            let typed = current.object.as_any().downcast_ref::<Typed<PodDisruptionBudget>>();
            if typed.is_some_and(|Typed(budget)| selects(budget, pod)) {
                matching.push((entry.name().to_owned(), current));
            }
        }
        Ok(matching)
    }

    /// Takes one from what a budget has to give; false: it has changed meanwhile.
    async fn charge(
        &self,
        request: &Request,
        budgets: &Arc<Resource>,
        name: &str,
        budget: &Current,
        pod: &Pod,
        dry_run: bool,
    ) -> ApiResult<bool> {
        let mut new = budget.object.copy();
        if let Some(Typed(charged)) = new.as_any_mut().downcast_mut::<Typed<PodDisruptionBudget>>() {
            charged.status.disruptions_allowed -= 1;
            let now = meta::now(&self.inner.world);
            charged.status.disrupted_pods.insert(pod.metadata.name.clone(), now);
        }
        let charging = Request {
            identity: request.identity.clone(),
            resource: budgets.clone(),
            subresource: "status".into(),
            namespace: pod.metadata.namespace.clone(),
            name: name.to_owned(),
            operation: Operation::Update(Body { dry_run, ..Body::default() }),
            accept: request.accept,
            metadata_only: false,
            cause: request.cause.clone(),
            fence: request.fence.clone(),
        };
        Ok(self.swap(&charging, new, budget, Vec::new(), Beside::default()).await?.is_some())
    }
}

/// One that does not run, or goes already, is missed by nobody.
fn is_on_its_way(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_str(), "Succeeded" | "Failed" | "Pending" | "")
        || pod.metadata.deletion_timestamp.is_some()
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.selector.as_deref().map(Selector::try_from);
    selector.is_some_and(|selector| selector.is_ok_and(|s| s.matches(&pod.metadata.labels)))
}

/// What a budget says to the eviction of one of its Pods.
fn judge(budget: &PodDisruptionBudget, pod: &Pod) -> ApiResult<Verdict> {
    let (name, status) = (&budget.metadata.name, &budget.status);
    let healthy = pod.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True");
    if !healthy {
        let always = budget.spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow");
        let enough = status.desired_healthy > 0 && status.current_healthy >= status.desired_healthy;
        if always || enough {
            return Ok(Verdict::Free);
        }
    }
    let refuse = |why: String| {
        let message =
            format!("Cannot evict pod {} as it would violate the pod's disruption budget: {why}", pod.metadata.name);
        Err(ApiError::too_many_requests(message, TRY_AGAIN).because("DisruptionBudget", &why, ""))
    };
    if status.observed_generation < budget.metadata.generation {
        return refuse(format!(
            "the disruption budget {name} is new or has changed, and its controller has not been here yet"
        ));
    }
    if status.disrupted_pods.len() > MANY {
        return refuse(format!("of the disruption budget {name} {MANY} pods are on their way already"));
    }
    if status.disruptions_allowed <= 0 {
        let (wants, has) = (status.desired_healthy, status.current_healthy);
        return refuse(format!("the disruption budget {name} needs {wants} healthy pods and has {has} currently"));
    }
    Ok(Verdict::Charged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_proto::corev1::PodCondition;
    use skiff_proto::policyv1::PodDisruptionBudgetStatus;

    fn pod(ready: bool) -> Pod {
        let mut pod = Pod::default();
        let status = if ready { "True" } else { "False" };
        let condition = PodCondition { r#type: "Ready".into(), status: status.into(), ..PodCondition::default() };
        pod.status.conditions.push(condition);
        pod
    }

    #[test]
    fn a_budget_says_what_it_needs() {
        // (allowed, healthy, wanted, generation seen, pod ready, policy) -> free, charged, or the words of the refusal
        let table = [
            (1, 3, 2, 1, true, None, Ok(Verdict::Charged)),
            (0, 2, 2, 1, true, None, Err("needs 2 healthy pods and has 2")),
            (1, 3, 2, 0, true, None, Err("its controller has not been here yet")),
            (0, 2, 2, 1, false, None, Ok(Verdict::Free)),
            (0, 1, 2, 1, false, None, Err("needs 2 healthy pods and has 1")),
            (0, 1, 2, 1, false, Some("AlwaysAllow"), Ok(Verdict::Free)),
            (0, 0, 0, 1, false, Some("IfHealthyBudget"), Err("needs 0 healthy pods and has 0")),
        ];
        for (allowed, healthy, wanted, seen, ready, policy, expected) in table {
            let mut budget = PodDisruptionBudget::default();
            budget.metadata.generation = 1;
            budget.spec.unhealthy_pod_eviction_policy = policy.map(str::to_owned);
            budget.status = PodDisruptionBudgetStatus {
                observed_generation: seen,
                disruptions_allowed: allowed,
                current_healthy: healthy,
                desired_healthy: wanted,
                ..PodDisruptionBudgetStatus::default()
            };
            match (judge(&budget, &pod(ready)), expected) {
                (Ok(verdict), expected) => assert_eq!(Ok(verdict), expected),
                (Err(error), Err(words)) => {
                    assert!(error.code() == 429 && error.message().contains(words), "{error}");
                }
                (Err(error), Ok(verdict)) => panic!("{verdict:?} was expected: {error}"),
            }
        }
    }
}
