//! The functions that Kubernetes adds to the language: thin ones, over this project's own types and the libraries that it
//! stands on already. The library of the language brings those for texts, lists and numbers that every user of it shares.

mod formats;
mod lists;
mod net;
mod patterns;
mod quantities;
mod urls;

use cel::common::types::Type;
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use std::any::Any;
use std::fmt::Debug;

/// Adds all of them.
pub fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    lists::extension(env)?;
    patterns::extension(env)?;
    quantities::extension(env)?;
    net::extension(env)?;
    urls::extension(env)?;
    formats::extension(env)
}

/// What an expression can hold, compare and hand to functions, and not look into.
trait Hold: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// Its type in the language, under Kubernetes' name.
    fn of_type() -> &'static Type;
}

/// A value that is held so.
#[derive(Clone, Debug)]
struct Held<T>(T);

impl<T: Hold> Val for Held<T> {
    fn get_type(&self) -> &Type {
        T::of_type()
    }

    fn cel_type() -> &'static Type {
        T::of_type()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| other.0 == self.0)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl<T: Hold> StaticVal for Held<T> {}

/// The arguments of a call, as many as its overload was declared for.
fn arguments<'b, 'v, const N: usize>(args: Vec<CowVal<'b, 'v>>) -> Result<[CowVal<'b, 'v>; N], ExecutionError> {
    args.try_into().map_err(|args: Vec<_>| ExecutionError::invalid_argument_count(N, args.len()))
}
