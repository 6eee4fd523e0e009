//! Of lists: `isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`; and lists as sets.

use super::arguments;
use cel::common::types::{CelBool, CelInt, DYN_TYPE, Kind, LIST_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use std::cmp::Ordering;

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Adds them.
pub fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_member_overload("isSorted", "list.isSorted()", LIST_TYPE, vec![], is_sorted)?;
    env.add_member_overload("sum", "list.sum()", LIST_TYPE, vec![], sum)?;
    env.add_member_overload("min", "list.min()", LIST_TYPE, vec![], min)?;
    env.add_member_overload("max", "list.max()", LIST_TYPE, vec![], max)?;
    env.add_member_overload("indexOf", "list.indexOf(dyn)", LIST_TYPE, vec![DYN_TYPE], index_of)?;
    env.add_member_overload("lastIndexOf", "list.lastIndexOf(dyn)", LIST_TYPE, vec![DYN_TYPE], last_index_of)?;
    let two = || vec![LIST_TYPE, LIST_TYPE];
    env.add_overload("sets.contains", "sets.contains(list,list)", two(), contains)?;
    env.add_overload("sets.equivalent", "sets.equivalent(list,list)", two(), equivalent)?;
    env.add_overload("sets.intersects", "sets.intersects(list,list)", two(), intersects)
}

fn items<'b, 'v>(list: &'b (dyn Val + 'v)) -> Result<Vec<&'b (dyn Val + 'v)>, ExecutionError> {
    let unexpected =
        || ExecutionError::UnexpectedType { got: list.get_type().name().to_owned(), want: "list".to_owned() };
    let mut left = list.as_iterable().ok_or_else(unexpected)?.iter();
    Ok(std::iter::from_fn(|| left.next()).collect())
}

fn compare(function: &str, a: &dyn Val, b: &dyn Val) -> Result<Ordering, ExecutionError> {
    let unordered = || ExecutionError::function_error(function, "items of this type have no order");
    a.as_comparer().ok_or_else(unordered)?.compare(b)
}

fn truth<'b, 'v>(holds: bool) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(holds)))
}

fn place<'b, 'v>(found: Option<usize>) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelInt::from(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))))
}

fn is_sorted<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [list] = arguments(args)?;
    let items = items(list.as_ref())?;
    // A list of one is asked too: what has no order is not sorted.
    for (a, b) in items.iter().zip(items.iter().skip(1).chain(items.last())) {
        if compare("isSorted", *a, *b)? == Ordering::Greater {
            return truth(false);
        }
    }
    truth(true)
}

/// Nothing adds up to a whole zero, whatever the items would have been: types are only known by what is there.
fn sum<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [list] = arguments(args)?;
    let cannot = || ExecutionError::function_error("sum", "only numbers and durations add up");
    let mut sum: Option<Box<dyn Val + 'v>> = None;
    for item in items(list.as_ref())? {
        if ![Kind::Int, Kind::UInt, Kind::Double, Kind::Duration].contains(&item.get_type().kind()) {
            return Err(cannot());
        }
        sum = Some(match sum {
            None => item.clone_as_boxed(),
            Some(before) => before.as_adder().ok_or_else(cannot)?.add(item)?.into_owned(),
        });
    }
    Ok(sum.map_or_else(|| CowVal::owned(CelInt::from(0)), CowVal::Owned))
}

fn min<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    extreme("min", Ordering::Less, args)
}

fn max<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    extreme("max", Ordering::Greater, args)
}

fn extreme<'b, 'v>(function: &str, wanted: Ordering, args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [list] = arguments(args)?;
    let mut items = items(list.as_ref())?.into_iter();
    let empty = || ExecutionError::function_error(function, format!("{function} called on empty list"));
    let mut best = items.next().ok_or_else(empty)?;
    for item in items {
        if compare(function, item, best)? == wanted {
            best = item;
        }
    }
    Ok(CowVal::Owned(best.clone_as_boxed()))
}

fn index_of<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [list, wanted] = arguments(args)?;
    place(items(list.as_ref())?.iter().position(|item| item.equals(wanted.as_ref())))
}

fn last_index_of<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [list, wanted] = arguments(args)?;
    place(items(list.as_ref())?.iter().rposition(|item| item.equals(wanted.as_ref())))
}

fn is_in(item: &dyn Val, items: &[&dyn Val]) -> bool {
    items.iter().any(|other| item.equals(*other))
}

fn is_within(inner: &dyn Val, outer: &dyn Val) -> Result<bool, ExecutionError> {
    let outer = items(outer)?;
    Ok(items(inner)?.iter().all(|item| is_in(*item, &outer)))
}

fn contains<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [outer, inner] = arguments(args)?;
    truth(is_within(inner.as_ref(), outer.as_ref())?)
}

fn equivalent<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [a, b] = arguments(args)?;
    truth(is_within(a.as_ref(), b.as_ref())? && is_within(b.as_ref(), a.as_ref())?)
}

fn intersects<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [a, b] = arguments(args)?;
    let (a, b) = (items(a.as_ref())?, items(b.as_ref())?);
    truth(a.iter().any(|item| is_in(*item, &b)))
}
