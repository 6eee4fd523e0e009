//! Amounts of resources: `quantity('1Gi').isLessThan(quantity('2G'))`.

use super::{Held, Hold};
use cel::common::types::{CelBool, CelDouble, CelInt, CelString, Type};
use cel::{DeclarationError, Env, ExecutionError};
use skiff_proto::Quantity;

static TYPE: Type = Type::new_unspecified_type("kubernetes.Quantity");

impl Hold for Quantity {
    fn of_type() -> &'static Type {
        &TYPE
    }
}

type Amount = Held<Quantity>;

/// Adds them.
pub fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(TYPE.to_owned())?;
    cel::add_overload!(env, fn quantity: (CelString) -> Result<Amount>)?;
    cel::add_overload!(env, fn is_quantity: (CelString) -> CelBool)?;
    cel::add_member_overload!(env, fn is_integer: (Amount) -> CelBool)?;
    cel::add_member_overload!(env, fn as_integer: (Amount) -> Result<CelInt>)?;
    cel::add_member_overload!(env, fn as_approximate_float: (Amount) -> CelDouble)?;
    cel::add_member_overload!(env, fn sign: (Amount) -> CelInt)?;
    cel::add_member_overload!(env, fn add: (Amount, Amount) -> Amount)?;
    cel::add_member_overload!(env, fn add_whole: (Amount, CelInt) -> Amount, name = "add")?;
    cel::add_member_overload!(env, fn sub: (Amount, Amount) -> Amount)?;
    cel::add_member_overload!(env, fn sub_whole: (Amount, CelInt) -> Amount, name = "sub")?;
    cel::add_member_overload!(env, fn is_less_than: (Amount, Amount) -> CelBool)?;
    cel::add_member_overload!(env, fn is_greater_than: (Amount, Amount) -> CelBool)?;
    cel::add_member_overload!(env, fn compare_to: (Amount, Amount) -> CelInt)
}

fn quantity(text: &CelString) -> Result<Amount, ExecutionError> {
    Quantity::parse(text.inner()).map(Held).map_err(|why| ExecutionError::function_error("quantity", why))
}

fn is_quantity(text: &CelString) -> CelBool {
    CelBool::from(Quantity::parse(text.inner()).is_ok())
}

fn is_integer(amount: &Amount) -> CelBool {
    CelBool::from(amount.0.whole().is_some())
}

fn as_integer(amount: &Amount) -> Result<CelInt, ExecutionError> {
    let cannot = || ExecutionError::function_error("asInteger", "cannot convert value to integer");
    amount.0.whole().map(CelInt::from).ok_or_else(cannot)
}

fn as_approximate_float(amount: &Amount) -> CelDouble {
    CelDouble::from(amount.0.approximate())
}

fn sign(amount: &Amount) -> CelInt {
    compare_to(amount, &Held(Quantity::default()))
}

fn add(amount: &Amount, other: &Amount) -> Amount {
    Held(amount.0 + other.0)
}

fn add_whole(amount: &Amount, other: &CelInt) -> Amount {
    Held(amount.0 + Quantity::from_value(*other.inner()))
}

fn sub(amount: &Amount, other: &Amount) -> Amount {
    Held(amount.0 - other.0)
}

fn sub_whole(amount: &Amount, other: &CelInt) -> Amount {
    Held(amount.0 - Quantity::from_value(*other.inner()))
}

fn is_less_than(amount: &Amount, other: &Amount) -> CelBool {
    CelBool::from(amount.0 < other.0)
}

fn is_greater_than(amount: &Amount, other: &Amount) -> CelBool {
    CelBool::from(amount.0 > other.0)
}

fn compare_to(amount: &Amount, other: &Amount) -> CelInt {
    CelInt::from(amount.0.cmp(&other.0) as i64)
}
