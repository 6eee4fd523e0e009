//! Limits: how much is taken at once, and from whom too much is refused in words.

use super::error::{ApiError, ApiResult};
use super::request::{Operation, Request};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most bytes of a body.
    pub body_bytes: usize,
    /// The most requests being served at once.
    pub in_flight: usize,
    /// The most watches open at once.
    pub watchers: usize,
    /// About the most bytes of a page.
    pub page_bytes: usize,
    /// The most objects of a page, whatever is asked for.
    pub page_items: usize,
    /// The most bytes of a selector.
    pub selector_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 3 * 1024 * 1024,
            in_flight: 1000,
            watchers: 20_000,
            page_bytes: 1024 * 1024,
            page_items: 10_000,
            selector_bytes: 16 * 1024,
        }
    }
}

/// Leave to be served; given back when dropped.
pub type Permit = OwnedSemaphorePermit;

/// Gives out leave to be served.
pub struct Permits {
    limits: Limits,
    requests: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
}

impl Permits {
    /// All leave there is.
    pub fn new(limits: Limits) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(limits.in_flight)),
            watchers: Arc::new(Semaphore::new(limits.watchers)),
            limits,
        }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Leave for a request, if its sizes are within bounds and there are not too many already.
    pub fn request(&self, request: &Request) -> ApiResult<Permit> {
        self.sizes(request)?;
        self.requests.clone().try_acquire_owned().map_err(|_| {
            let limit = self.limits.in_flight;
            ApiError::too_many_requests(
                format!("the server is serving {limit} requests already; please try again later"),
                1,
            )
        })
    }

    /// Leave for a watch.
    pub fn watcher(&self) -> ApiResult<Permit> {
        self.watchers.clone().try_acquire_owned().map_err(|_| {
            let limit = self.limits.watchers;
            ApiError::too_many_requests(
                format!("the server has {limit} watches open already; please try again later"),
                5,
            )
        })
    }

    /// Checks a selector's size.
    pub fn selector(&self, selector: &str) -> ApiResult<()> {
        if selector.len() > self.limits.selector_bytes {
            return Err(ApiError::too_large("the selector", selector.len(), self.limits.selector_bytes));
        }
        Ok(())
    }

    fn sizes(&self, request: &Request) -> ApiResult<()> {
        match &request.operation {
            Operation::Create(body) | Operation::Update(body) | Operation::Patch { body, .. }
                if body.bytes.len() > self.limits.body_bytes =>
            {
                return Err(ApiError::too_large("the body", body.bytes.len(), self.limits.body_bytes));
            }
            Operation::List(options) | Operation::DeleteCollection { list: options, .. } => {
                self.selector(&options.label_selector)?;
                self.selector(&options.field_selector)?;
            }
            _ => {}
        }
        Ok(())
    }
}
